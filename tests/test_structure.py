"""Test benchmarks/structure.py, and by it that the package follows its levels of imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def check(root: Path) -> tuple[int, list[str]]:
    """Return the status of `structure.py --check` and the lines that it prints."""
    command = [sys.executable, str(ROOT / 'benchmarks' / 'structure.py'), str(root), '--check']
    done = subprocess.run(command, capture_output=True, text=True)
    assert not done.stderr
    return done.returncode, done.stdout.splitlines()


def test_the_package_has_no_cycle_and_no_import_upwards():
    status, lines = check(ROOT)
    assert status == 0, [line for line in lines if line.startswith('-')]
    assert '| import cycles | 0 |' in lines
    assert '| forbidden imports | 0 |' in lines


HEAD = 'mmdfer.models.head.head'
FILES = {
    'mmdfer/__init__.py': 'from mmdfer import cli, files\n',
    'mmdfer/cli/__init__.py': 'from mmdfer.engine.hook import Hook\n',
    'mmdfer/engine/hook.py': 'from ..models import head\n\n\nclass Hook:\n    pass\n',
    'mmdfer/models/__init__.py': '',
    'mmdfer/models/head.py': '''"""A head."""


@property
def head(x):
    """Take one line.

    And two more.
    """
    # A comment.
    if x.ndim == 2 or len(x.shape) == 3:
        return hasattr(x, 'y')

    def inner():
        return """two
        lines"""


class Head:
    """A class."""

    a: int = 1
''',
    'mmdfer/files.py': 'import mmdfer.errors\n',
    'mmdfer/errors.py': '',
    'configs/_base_/base.py': 'a = 1\n',
    'configs/short.py': '"""Short."""\n\na = 1\n',
    'configs/long.py': '"""Long."""\n\na = 1\nb = 2\nc = 3\n',
}


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """Write a package that imports only from lower levels."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_figures_are_those_counted_by_hand(toy):
    status, lines = check(toy)
    assert status == 0 and not [line for line in lines if line.startswith('-')]
    kinds = 'median / p90 / longest'
    for line in (
        '| import cycles | 0 |',
        '| forbidden imports | 0 |',
        # head: lines 5 to 16, four of them docstring; inner: 3 lines.
        f'| lines of 2 functions, without docstring: {kinds} | 5.5 / 8 / 8 (`{HEAD}`) |',
        f'| lines of 2 functions, with docstring: {kinds} | 7.5 / 12 / 12 (`{HEAD}`) |',
        '| median of all lines of 2 leaf configs | 4 |',
        '| median of lines of code of 2 leaf configs | 2 |',
        # The files have 1 + 1 + 3 + 9 + 1 lines; of the 9 in head.py, 7 are above the class.
        '| lines of code in mmdfer/ | 15 |',
        '| lines of code in configs/ | 5 |',
        '| lines of code in tests/ | 0 |',
        '| mmdfer/models/head.py:11 | `if x.ndim == 2 or len(x.shape) == 3:` |',
        "| mmdfer/models/head.py:12 | `return hasattr(x, 'y')` |",
    ):
        assert line in lines, '\n'.join(lines)
    assert sum('head.py' in line for line in lines) == 2


def test_a_cycle_fails_also_through_a_function_and_a_relative_import(toy):
    (toy / 'mmdfer/models/neck.py').write_text('from mmdfer.models import head, loss\n')
    (toy / 'mmdfer/models/loss.py').write_text('def f():\n    from .base import Base\n')
    (toy / 'mmdfer/models/base.py').write_text('import mmdfer.models.neck\n')
    status, lines = check(toy)
    assert status == 1 and '| import cycles | 1 |' in lines
    names = 'mmdfer.models.base, mmdfer.models.loss, mmdfer.models.neck'
    assert [line for line in lines if line.startswith('-')] == [f'- cycle: {names}']


@pytest.mark.parametrize(
    'name, imported',
    [
        ('mmdfer/evaluation/metrics.py', 'mmdfer.engine.hook'),  # imports from a higher level
        ('mmdfer/datasets/clips.py', 'mmdfer.models.head'),  # imports from the same level
        ('mmdfer/models/neck.py', 'mmdfer'),  # imports everything through __init__.py
        ('mmdfer/other.py', 'mmdfer.errors'),  # belongs to no level
    ],
)
def test_an_import_against_the_levels_fails(toy, name, imported):
    (toy / name).parent.mkdir(exist_ok=True)
    (toy / name).write_text(f'def f():\n    import {imported}\n')
    status, lines = check(toy)
    assert status == 1 and '| forbidden imports | 1 |' in lines
    said = f'- forbidden: {name}:2 imports {imported}'
    assert [line for line in lines if line.startswith('-')] == [said]
