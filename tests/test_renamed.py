"""Test configs of version 0.1: each old name is an error in one line with the new name."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path

import pytest
from forked import run_forked
from mmengine.config import Config

from mmdfer.engine.runner.config import read_config
from mmdfer.engine.runner.renamed import MODULES, VARIABLES
from mmdfer.errors import DFERError

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'configs'
CHANGELOG = (ROOT / 'CHANGELOG.md').read_text()


def write_config(folder: Path, base: str, text: str) -> Path:
    """Write a user's config that is based on a shipped one."""
    (folder / 'mine.py').write_text(f'_base_ = [{str(CONFIGS / base)!r}]\n{text}\n')
    return folder / 'mine.py'


# The errors occur when the config is parsed, when options are merged, and when parts are built.
CASES = {
    'variable': (
        'align_dfer_synth.py',
        'stages = _base_.stages',
        [],
        ['_base_.stages', '_base_.custom_hooks[0].stages'],
    ),
    'hook': (
        'coop/coop_synth.py',
        "custom_hooks = [dict(type='EncodeOnceHook', num_workers=0)]",
        [],
        ['EncodeOnceHook', "dict(type='EncodedClips', dataset=dict(...))", '_encoded.py'],
    ),
    'option of the clips': (
        'coop/coop_synth.py',
        '',
        ['train_dataloader.dataset.split=fit'],
        ["'split'", 'train_dataloader.dataset.dataset.split'],
    ),
    'epochs': (
        'align_dfer_synth.py',
        'train_cfg = dict(max_epochs=3)',
        [],
        ['5 + 24 + 12 = 41', 'train_cfg.max_epochs is 3', 'StagedTrainLoop'],
    ),
}


@pytest.mark.parametrize('case', CASES)
def test_the_command_ends_in_one_line(case: str, tmp_path: Path, data_root: Path) -> None:
    base, text, options, words = CASES[case]
    sizes = [
        f'{loader}_dataloader.dataset.dataset.{key}'
        for loader in ('train', 'val', 'test')
        for key in (f'data_root={data_root}/synth', 'num_train=32', 'num_test=14')
    ]
    command = ['-m', 'mmdfer', 'train', write_config(tmp_path, base, text)]
    done = run_forked(
        [*command, '--work-dir', 'run', '--cfg-options', *sizes, *options], cwd=tmp_path
    )
    assert done.returncode == 1
    assert 'Traceback' not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert [word for word in words if word not in line] == []
    assert done.stderr.rstrip().endswith(line)
    assert 'Epoch(train)' not in done.stdout


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('x = _base_.epochs.text', ['_base_.custom_hooks[0].stages']),
        ('x = {{_base_.epochs.text}}', ['_base_.custom_hooks[0].stages']),
        ("x = _base_['weights']", ['_base_.load_from']),
        ('_base_.stages[0].epochs = 3', ['_base_.custom_hooks[0].stages']),
        ('train_pipeline = _base_.picked_train_view', ['_base_.train_view']),
        (
            "custom_imports = dict(imports=['mmdfer', 'mmdfer.engine.bap'])",
            ['mmdfer.engine.bap', 'mmdfer.engine.hooks.bap_hook'],
        ),
        (
            "custom_hooks = [dict(type='mmdfer.engine.bap.BAPHook', stages=[])]",
            ['mmdfer.engine.bap.BAPHook', 'mmdfer.engine.hooks.bap_hook'],
        ),
        (
            "model = dict(backbone=dict(type='mmdfer.models.clip.FrozenCLIP'))",
            ['mmdfer.models.backbones.frozen_clip'],
        ),
    ],
)
def test_reading_a_config_names_what_replaces_an_old_name(
    text: str, words: list[str], tmp_path: Path
) -> None:
    path = write_config(tmp_path, 'align_dfer_synth.py', text)
    with pytest.raises(DFERError) as error:
        read_config(path)
    line = str(error.value)
    assert line.startswith(f'{path}: ')
    assert '\n' not in line
    assert [word for word in words if word not in line] == []


@pytest.mark.parametrize('name', ['align_dfer_synth', 'coop_synth'])
def test_an_option_of_the_old_hook_is_refused(name: str) -> None:
    key = f'custom_hooks.{len(read_config(name).get("custom_hooks", []))}.bank'
    with pytest.raises(DFERError, match=rf'^{key}: .*train_dataloader\.dataset\.bank'):
        read_config(name, {key: 'bank'})


@pytest.mark.parametrize(
    ('text', 'error'),
    [
        ('x = _base_.nothing', AttributeError),
        ("x = dict()['stage']", KeyError),
        ("x = 'stages'.weights", AttributeError),
        ("custom_imports = dict(imports=['no_such_module'])", ImportError),
    ],
)
def test_other_errors_of_a_config_keep_their_traceback(
    text: str, error: type[Exception], tmp_path: Path
) -> None:
    with pytest.raises(error) as raised:
        read_config(write_config(tmp_path, 'align_dfer_synth.py', text))
    assert not isinstance(raised.value, DFERError)


def test_each_old_module_is_gone_and_its_new_one_is_there() -> None:
    for old, new in MODULES.items():
        importlib.import_module(f'mmdfer.{new}')
        assert _spec(f'mmdfer.{old}') is None, old
        assert f'| `{old}` | ' in CHANGELOG, old


def _spec(name: str) -> object:
    try:
        return find_spec(name)
    except ModuleNotFoundError:
        return None


def test_no_shipped_base_has_a_variable_of_an_old_name() -> None:
    for path in (CONFIGS / '_base_').rglob('*.py'):
        assert not VARIABLES.keys() & set(Config.fromfile(path)), path
    for name in VARIABLES:
        assert f'`{name}`' in CHANGELOG, name
