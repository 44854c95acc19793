"""docs/methods.md lists the open choices; each is called ours where the part makes it."""

from __future__ import annotations

import ast
import re

import pytest
from conftest import ROOT

ROW = re.compile(r'\| ([^|]+) \| ([^|]+) \| ([^|]+) \| `([^`]+)` \|')


def rows() -> list[tuple[str, ...]]:
    text = (ROOT / 'docs' / 'methods.md').read_text()
    return [tuple(part.strip() for part in row) for row in ROW.findall(text)]


def docstrings(path: str) -> list[str]:
    """All docstrings of a file, each as one line."""
    tree = ast.parse((ROOT / path).read_text())
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef
    found = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds))
    return [' '.join(text.split()) for text in found if text]


def test_the_page_has_the_rows() -> None:
    assert len(rows()) >= 20
    text = (ROOT / 'docs' / 'methods.md').read_text()
    for question in ('consecutive video frames', 'Which backbone', 'gradient clipping'):
        assert question in text


@pytest.mark.parametrize('row', rows(), ids=[f'{r[0]}-{r[1]}' for r in rows()])
def test_a_choice_is_called_ours_where_it_is_made(row: tuple[str, ...]) -> None:
    _, _, words, path = row
    for text in docstrings(path):
        if (place := text.find(words)) >= 0:
            ours = max(text.rfind('Ours', 0, place), text.rfind('it is ours', place))
            assert ours >= 0, text
            return
    raise AssertionError(f'{path}: no docstring has the words {words!r}')
