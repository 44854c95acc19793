"""docs/methods.md lists our choices, and the files that make the choices call them ours."""

from __future__ import annotations

import ast
import re

import pytest
from conftest import ROOT

OURS = re.compile(r"\bours\b|\b(our|this package's) (own )?choices?\b", re.IGNORECASE)
PAGE = (ROOT / 'docs' / 'methods.md').read_text(encoding='utf-8')
SECTION = PAGE.split('\n## Our choices\n')[1].split('\n## ')[0]
# method, open question, our choice, file
ROW = re.compile(r'^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| `([^`]+)` \|$', re.MULTILINE)
ROWS = ROW.findall(SECTION)
# Where methods are: what the rest of the package does is its own, and no paper's.
PLACES = ('configs', 'mmdfer/models', 'mmdfer/datasets/transforms')


def docstrings(path: str) -> str:
    """Return all docstrings of a file; a config's is its header."""
    tree = ast.parse((ROOT / path).read_text(encoding='utf-8'))
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef
    found = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds))
    return ' '.join(' '.join(text.split()) for text in found if text)


def test_the_page_has_the_rows_and_answers_the_questions() -> None:
    assert len(ROWS) == SECTION.count('\n|') - 2 >= 40  # no line of the table fails to parse
    for question in ('consecutive video frames', 'Which backbone', 'gradient clipping'):
        assert question in PAGE


@pytest.mark.parametrize('path', sorted({path for *_, path in ROWS}))
def test_a_file_of_the_table_calls_its_choice_ours(path: str) -> None:
    assert OURS.search(docstrings(path)), path


def test_every_file_that_calls_a_choice_ours_has_a_row() -> None:
    files = {
        path.relative_to(ROOT).as_posix()
        for place in PLACES
        for path in sorted((ROOT / place).rglob('*.py'))
    }
    # The shuffled frames are the paper's; that file calls the transforms ours, not a choice.
    files.discard('mmdfer/datasets/transforms/shuffle_frames.py')
    calling = {path for path in files if OURS.search(docstrings(path))}
    listed = {path for *_, path in ROWS}
    assert calling - listed == set(), 'add a row to the table "Our choices" of docs/methods.md'
