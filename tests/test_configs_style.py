"""Test that a config file has a description of one line, its bases, and only what differs."""

from __future__ import annotations

import ast
import functools
import io
import re
import tokenize
from collections import defaultdict
from pathlib import Path

import pytest
from conftest import ROOT
from mmengine.config import Config

CONFIGS = ROOT / 'configs'
FILES = sorted(path.relative_to(CONFIGS) for path in CONFIGS.rglob('*.py'))
LEAVES = [path for path in FILES if '_base_' not in path.parts]
DATASETS = dict(
    custom='a dataset of your own',
    dfew='DFEW',
    ferv39k='FERV39k',
    mafw='MAFW',
    synth='the synthetic benchmark',
)


def read(path: Path) -> str:
    return (CONFIGS / path).read_text(encoding='utf-8')


@functools.cache
def merged(path: Path) -> Config:
    return Config.fromfile(CONFIGS / path)


def prose(text: str) -> list[str]:
    """Return the docstring and the comments; comments on consecutive lines are joined."""
    found, below = [ast.get_docstring(ast.parse(text)) or ''], (0, 0)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        words = token.string.lstrip('# ')
        if token.type != tokenize.COMMENT or words.startswith(('noqa', 'fmt:')):
            continue
        if token.start == below:
            found[-1] += f' {words}'
        else:
            found.append(words)
        below = (token.start[0] + 1, token.start[1])
    return found


def sentences(text: str) -> set[str]:
    """Return the sentences of six words or more; a semicolon also ends a sentence."""
    parts = [s for t in prose(text) for s in re.split(r'(?<=[.!?;])\s+', ' '.join(t.split()))]
    return {part for part in parts if len(part.split()) >= 6}


def repeated(texts: dict[Path, str]) -> dict[str, list[Path]]:
    """Return the sentences that occur in more than one file, with the files."""
    places: dict[str, list[Path]] = defaultdict(list)
    for path, text in texts.items():
        for sentence in sentences(text):
            places[sentence].append(path)
    return {sentence: found for sentence, found in places.items() if len(found) > 1}


def test_sentences_are_found_in_docstrings_and_comments() -> None:
    said = '"""A config.\n\nIt says this in a docstring\nof two lines; not a word more.\n"""\n'
    assert sentences(said) == {'It says this in a docstring of two lines;'}
    commented = 'x = 1  # noqa: E501 is not a sentence at all\n# It says this in a docstring\n'
    commented += '# of two lines; and so on.\ny = 2  # short\n'
    assert sentences(commented) == {'It says this in a docstring of two lines;'}
    here, there = Path('here.py'), Path('there.py')
    (found,) = repeated({here: said, there: commented}).values()
    assert found == [here, there]


def test_no_sentence_occurs_in_two_configs() -> None:
    assert repeated({path: read(path) for path in FILES}) == {}


@pytest.mark.parametrize('path', LEAVES, ids=[path.stem for path in LEAVES])
def test_a_leaf_is_described_in_one_line(path: Path) -> None:
    first, *rest = read(path).splitlines()
    assert re.fullmatch(r'"""[^"]+\."""', first) and rest[:1] == ['']
    config, words = merged(path), first.strip('"')
    if path.parent.name != 'ablations':
        (dataset,) = set(path.stem.split('_')) & set(DATASETS)
        assert f' on {DATASETS[dataset]}' in words
    if tower := re.search(r'ViT-./\d+', words):
        assert tower[0].replace('/', '-') in config.model.backbone.arch
    if pixels := re.search(r'16 frames of (\d+) pixels', words):
        sizes = [t.get('crop_size', t.get('size')) for t in config.test_pipeline]
        assert int(pixels[1]) in sizes
    assert ('from scratch' in words) <= (not config.get('load_from'))
    assert ('from scratch' in words) <= (not config.model.backbone.get('pretrained'))


@pytest.mark.parametrize('path', LEAVES, ids=[path.stem for path in LEAVES])
def test_a_leaf_sets_only_what_differs_from_its_bases(path: Path, tmp_path: Path) -> None:
    statements = ast.parse(read(path)).body[1:]
    bases = statements[0]
    assert isinstance(bases, ast.Assign) and ast.unparse(bases.targets[0]) == '_base_'
    names = [(CONFIGS / path.parent / base).resolve() for base in ast.literal_eval(bases.value)]
    plain = tmp_path / 'plain.py'
    plain.write_text(f'_base_ = {[str(name) for name in names]}\n')
    before, after = Config.fromfile(plain).to_dict(), merged(path).to_dict()
    for name in assigned(statements[1:]):
        assert after[name] != before.get(name, ...), (
            f'{name} is the same as in the bases: remove it'
        )


def assigned(statements: list[ast.stmt]) -> set[str]:
    """Return the names that statements assign to."""
    targets = [t for s in statements if isinstance(s, ast.Assign) for t in s.targets]
    nodes = [node for target in targets for node in ast.walk(target)]
    return {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def test_the_documented_example_is_the_file() -> None:
    page = (ROOT / 'docs' / 'configs.md').read_text(encoding='utf-8')
    path = Path('former_dfer', 'former_dfer_mafw.py')
    assert f'`configs/{path.as_posix()}` trains' in page
    assert f'```python\n{read(path)}```' in page
