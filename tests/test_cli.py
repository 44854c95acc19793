"""Test the console script: its commands, unknown commands, and configs given by name."""

from __future__ import annotations

import argparse
import os
import runpy
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from mmdfer import __version__, installed
from mmdfer.cli import COMMANDS
from mmdfer.cli.main import main
from mmdfer.engine.runner.config import read_config
from mmdfer.errors import DFERError
from mmdfer.installed import find_config

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'configs'

# ------------------------------------------------------------------ commands


def test_the_help_lists_every_command_in_a_line(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(['--help'])
    assert exit_.value.code == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert {words[0]: words[1] for words in lines if words and words[0] in COMMANDS} == COMMANDS


@pytest.mark.parametrize('name', COMMANDS)
def test_each_command_has_a_module_a_help_and_a_script(
    name: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([name, '--help'])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f'usage: mmdfer {name} ')
    assert f'{COMMANDS[name]}.' in ' '.join(text.split())
    # The script in tools/ calls the same function, with the arguments of the command line.
    called = []
    monkeypatch.setattr(import_module(f'mmdfer.cli.{name}'), 'main', lambda: called.append(name))
    runpy.run_path(str(ROOT / 'tools' / f'{name}.py'), run_name='__main__')
    assert called == [name]


def test_each_module_with_a_main_is_listed() -> None:
    files = (ROOT / 'mmdfer' / 'cli').glob('*.py')
    with_main = {path.stem for path in files if '\ndef main(' in path.read_text()}
    assert with_main - {'main'} == set(COMMANDS)


@pytest.mark.parametrize(
    ('name', 'near'),
    [('trian', 'train'), ('cross-validat', 'cross_validate'), ('xyz', 'train or')],
)
def test_an_unknown_command_names_those_near(name: str, near: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([name])
    assert exit_.value.code.startswith(f'error: {name}: no such command; did you mean {near}')
    assert '\n' not in exit_.value.code


def test_a_command_may_have_hyphens(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(['cross-validate', '--help'])
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith('usage: mmdfer cross_validate ')


def test_the_version(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(['--version'])
    assert capsys.readouterr().out == f'mmdfer {__version__}\n'


def test_as_a_module_in_a_process_of_its_own(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, '-m', 'mmdfer', 'train', 'align_dfer_sinth'],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith('error: align_dfer_sinth: no such config') and 'align_dfer_synth' in line


# ------------------------------------------------------------------ configs by name


@pytest.mark.parametrize(
    ('name', 'below'),
    [
        ('align_dfer_synth', 'align_dfer_synth.py'),
        ('align_dfer_synth.py', 'align_dfer_synth.py'),
        ('configs/align_dfer_synth.py', 'align_dfer_synth.py'),
        ('coop/coop_synth.py', 'coop/coop_synth.py'),
        ('coop_synth', 'coop/coop_synth.py'),
        ('mmdfer::coop/coop_synth', 'coop/coop_synth.py'),
        ('align_dfer_tokens_4_synth', 'ablations/align_dfer_tokens_4_synth.py'),
    ],
)
def test_an_installed_config_is_found_by_its_name(
    name: str, below: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == CONFIGS / below
    assert read_config(name).work_dir == str(Path('work_dirs', Path(below).stem))


def test_every_shipped_config_has_a_name_of_its_own() -> None:
    leaves = [path for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts]
    assert len(leaves) > 50
    for path in leaves:
        assert find_config(path.stem) == path


def test_a_file_in_the_folder_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'align_dfer_synth.py').write_text('x = 1\n')
    assert read_config('align_dfer_synth.py').x == 1


@pytest.mark.parametrize(
    ('name', 'said'),
    [
        ('align_dfer_sinth', r'align_dfer_sinth: no such config; .*configs.*align_dfer_synth'),
        ('nowhere/align_dfer_synth.py', r'nowhere/align_dfer_synth\.py: no such config'),
        ('/nowhere/align_dfer_synth.py', 'no such config; check the path'),
        ('default_runtime', 'no such config'),  # a base file, which is not a complete config
        ('xyz', r'xyz: no such config; check the path, or look below \S+configs$'),
    ],
)
def test_an_unknown_config_is_one_line(
    name: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DFERError, match=said) as error:
        find_config(name)
    assert '\n' not in str(error.value)


def test_an_ambiguous_name_lists_the_configs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for folder in ('a', 'b'):
        path = tmp_path / 'mmdfer' / '.mim' / 'configs' / folder / 'twice.py'
        path.parent.mkdir(parents=True)
        path.write_text('x = 1\n')
    monkeypatch.setattr(installed, 'PACKAGE', tmp_path / 'mmdfer')
    with pytest.raises(
        DFERError, match=r'^twice: several .* this name; give one of: a/twice\.py, b/twice\.py$'
    ):
        find_config('twice')
    assert find_config('b/twice') == path


# ------------------------------------------------------------------ in Python


def test_every_parser_takes_its_arguments_from_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, 'argv', ['pytest', '--nothing-that-is-known'])
    args = import_module('mmdfer.cli.train').parse_args(['align_dfer_synth', '--seed', '3'])
    assert isinstance(args, argparse.Namespace) and args.seed == 3
