"""The documents: links, pictures, the length of the README, and words without a clear meaning."""

from __future__ import annotations

import ast
import functools
import io
import os
import re
import tokenize
from collections import Counter
from pathlib import Path

import pytest
from conftest import ROOT

DOCS = ROOT / 'docs'
FILES = [ROOT / name for name in ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md')]
PAGES = [*FILES, *sorted(DOCS.glob('*.md')), DOCS / 'api' / 'index.md']
SOURCES = ('mmdfer', 'tools', 'benchmarks', 'configs')

FENCE = re.compile(r'^(```|~~~).*?^\1[ ]*$', re.MULTILINE | re.DOTALL)
CODE = re.compile(r'(`+)(?!`).*?(?<!`)\1(?!`)')
LINK = re.compile(r'\[[^\]]*(?:!\[[^\]]*\]\([^)]*\))?[^\]]*\]\(<?([^)\s>]+)>?[^)]*\)')
PICTURE = re.compile(r'!\[[^\]]*\]\(<?([^)\s>]+)>?[^)]*\)|<img [^>]*src="([^"]+)"')
HEADING = re.compile(r'^#{1,6} +(.+?)[ #]*$', re.MULTILINE)


def names(paths: list[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths]


def read(path: Path) -> str:
    return path.read_text(encoding='utf-8')


def prose(path: Path) -> str:
    """Return a document without its code, in which a bracket is not a link."""
    return CODE.sub('', FENCE.sub('', read(path)))


def slugs(path: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a document.

    Text is in lower case, without punctuation, and with a hyphen for each space. A slug that occurs
    again gets a number. A page of the site that includes another document has its headings.
    """
    found: Counter[str] = Counter()
    anchors = set()
    for included in re.findall(r'```\{include\} (\S+)', read(path)):
        anchors |= slugs(path.parent / included)
    for heading in HEADING.findall(FENCE.sub('', read(path))):
        text = re.sub(r'!?\[([^\]]*)\]\([^)]*\)', r'\1', heading)  # a link counts with its text
        text = re.sub(r'[`*]', '', text).lower()
        slug = re.sub(r'[^\w\- ]', '', text).replace(' ', '-')
        anchors.add(f'{slug}-{found[slug]}' if found[slug] else slug)
        found[slug] += 1
    return anchors


def relative(links: list[str]) -> list[str]:
    """Return the links to files: no addresses, and no pages of GitHub.

    A badge of the README links to `../../actions/...`, which GitHub resolves from the page of the
    repository, and which is no file.
    """
    return [s for s in links if not re.match(r'[a-z][a-z+.-]*:|\.\./\.\./', s)]


# ------------------------------------------------------------------ links and pictures


@pytest.mark.parametrize('page', PAGES, ids=names(PAGES))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in relative(LINK.findall(prose(page))):
        name, _, anchor = link.partition('#')
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in slugs(target), link


@pytest.mark.parametrize('page', sorted(DOCS.glob('*.md')), ids=lambda path: path.name)
def test_a_page_of_the_site_links_to_pages_of_the_site_only(page: Path) -> None:
    for link in relative(LINK.findall(prose(page))):
        target = (page.parent / link.partition('#')[0]).resolve()
        assert target.is_relative_to(DOCS), f'{link}: name a file outside docs/ as code'


def test_every_picture_exists_and_is_shown() -> None:
    shown = set()
    for page in PAGES:
        for link in relative([a or b for a, b in PICTURE.findall(prose(page))]):
            assert (page.parent / link).is_file(), f'{page.name}: {link}'
            shown.add((page.parent / link).resolve())
    there = {path for kind in ('png', 'svg', 'jpg', 'gif') for path in DOCS.glob(f'*.{kind}')}
    assert there == {path for path in shown if path.is_relative_to(DOCS)}


def test_every_page_is_in_the_table_of_contents() -> None:
    trees = re.findall(r'```\{toctree\}\n(.*?)```', read(DOCS / 'index.md'), re.DOTALL)
    listed = {line for tree in trees for line in tree.split() if not line.startswith(':')}
    assert {path.stem for path in DOCS.glob('*.md')} - {'index'} <= listed


def test_slugs_are_those_of_github(tmp_path: Path) -> None:
    page = tmp_path / 'page.md'
    page.write_text(
        '# DFEW, FERV39k, MAFW\n## What is "a view"?\n## `--bank`: a flag\n## Speed\n## Speed\n'
        '## A [link](b.md)\n```bash\n# a comment\n```\n'
    )
    assert slugs(page) == {
        *('dfew-ferv39k-mafw', 'what-is-a-view', '--bank-a-flag', 'speed', 'speed-1', 'a-link')
    }


def test_the_readme_is_short() -> None:
    assert len(read(ROOT / 'README.md').splitlines()) <= 150


def test_the_page_of_the_datasets_says_once_that_we_have_none_of_them() -> None:
    sentence = 'We have no access to DFEW, FERV39k or MAFW.'
    found = [page.name for page in PAGES for _ in range(read(page).count(sentence))]
    assert found == ['datasets.md']


# ------------------------------------------------------------------ words

# Each of them made readers read a sentence twice. What to write in their place is beside them.
UNCLEAR = {
    r'\bwants?\b(?! to\b)': 'requires, needs',
    r'\banew\b': 'again',
    r"\w's alone\b": 'only X',
    r'\bwhoever\b': 'if you',
    r'\bstands\b(?! (for|in)\b)': 'is',
    r'\bas (it|they) came\b': 'unchanged',
    r'\bwhat is whose\b': "which values are the paper's",
    r'\bgoes on to the same bits\b': 'reproduces the uninterrupted run',
    r'\bgives? (it )?free\b': 'releases',
    r'\b(is|are) none of\b': 'must be X or Y',
    r'\bnone can be\b': 'no clip can be read',
    r'\bcame to\b': 'reports',
    r'^Has mmengine\b': 'Patch mmengine so that',
    r'^In sixteens\b': 'Round down to a multiple of 16',
    r'^What the run\b': 'Report',
    r'\bis no whole\b': 'is incomplete',
    r'^key: Of\b': 'Key into',
}


@functools.cache
def texts(path: Path) -> list[tuple[int, str]]:
    """Return the prose of a file, each piece with its line: documents, and strings and comments.

    The strings of Python are docstrings, messages, help texts and names. Names of options may be
    words of any kind, so a string without a space is left out.
    """
    if path.suffix == '.md':
        return [(1, read(path))]
    source = read(path)
    if path.suffix != '.py':
        return [(n, line) for n, line in enumerate(source.splitlines(), 1) if '#' in line]
    found = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            found.append((token.start[0], token.string.lstrip('# ')))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and ' ' in node.value:
            found.append((node.lineno, node.value))
    return found


def written() -> list[Path]:
    """Return every file with prose of this package; the tests quote old texts."""
    sources = [
        path
        for folder in SOURCES
        for path in sorted((ROOT / folder).rglob('*'))
        if path.suffix in ('.py', '.sh', '.yml') and '__pycache__' not in path.parts
    ]
    pages = [page for page in PAGES if page.name != 'CHANGELOG.md']
    return [*sources, DOCS / 'conf.py', ROOT / 'setup.py', *pages]


@pytest.mark.parametrize('pattern', UNCLEAR)
def test_unclear_words_are_not_used(pattern: str) -> None:
    words = pattern.replace(' ', r'\s+')  # a line may end between two words
    found = [
        f'{path.relative_to(ROOT)}:{line}: {match[0]!r}'
        for path in written()
        for line, text in texts(path)
        for match in re.finditer(words, text, re.IGNORECASE | re.MULTILINE)
    ]
    assert not found, f'write {UNCLEAR[pattern]!r} in place of:{os.linesep}' + '\n'.join(found)
