"""Test that a wheel built from the repository and installed elsewhere is complete."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import small_options
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from mmaction.registry import DATASETS, MODELS

ROOT = Path(__file__).resolve().parents[1]
NO_SOURCE = ('.*', 'data', 'work_dirs', 'build', 'dist', '*.egg-info', '__pycache__')


@pytest.fixture(scope='module')
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel from a copy of the repository, install it, and return the target folder."""
    root = tmp_path_factory.mktemp('wheel')
    shutil.copytree(ROOT, root / 'source', ignore=shutil.ignore_patterns(*NO_SOURCE))
    pip = [sys.executable, '-m', 'pip', '--quiet', '--disable-pip-version-check']
    _run(
        [*pip, 'wheel', '--no-deps', '--no-build-isolation', '-w', root, root / 'source'], cwd=root
    )
    (wheel,) = root.glob('mmdfer-*.whl')
    _run([*pip, 'install', '--no-deps', '--no-compile', '--target', root / 'site', wheel], cwd=root)
    return root / 'site'


def _run(command: list, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_wheel_brings_configs_tools_and_weights(site: Path) -> None:
    mim = site / 'mmdfer' / '.mim'
    for folder in ('configs', 'tools'):
        ours = {p.relative_to(ROOT) for p in (ROOT / folder).rglob('*') if p.is_file()}
        ours = {p for p in ours if '__pycache__' not in p.parts}
        assert {p.relative_to(mim) for p in (mim / folder).rglob('*') if p.is_file()} == ours
    assert os.access(mim / 'tools' / 'dist_train.sh', os.X_OK)
    weights = 'mmdfer/synthetic/small_clip/synth-clip.safetensors'
    assert (site / weights).read_bytes() == (ROOT / weights).read_bytes()
    assert (site / 'mmdfer' / 'py.typed').is_file()
    assert (site / 'mmdfer' / 'inference' / 'caption_prompt.txt').is_file()
    assert not (site / 'tests').exists()


def test_the_wheel_tests_a_published_checkpoint(
    site: Path, small_config: Callable[..., Config], data_root: Path, tmp_path: Path
) -> None:
    model = MODELS.build(small_config().model)
    state = dict(meta=dict(epoch=0), state_dict=model.state_dict())
    torch.save(state, tmp_path / 'trained.pth')
    home = dict(PYTHONPATH=str(site), CUDA_VISIBLE_DEVICES='')
    mim = site / 'mmdfer' / '.mim'
    publish = [sys.executable, mim / 'tools/publish_model.py', 'trained.pth', 'model.pth']
    published = tmp_path / _run(publish, tmp_path, **home).splitlines()[-1]
    test = [mim / 'tools/test.py', mim / 'configs/align_dfer_synth.py', published]
    options = [f'{key}={value}'.replace(' ', '') for key, value in small_options(data_root).items()]
    _run([sys.executable, *test, '--work-dir', 'out', '--cfg-options', *options], tmp_path, **home)
    (matrix,) = (tmp_path / 'out').glob('*/confusion_matrix.json')
    assert json.loads(matrix.read_text())['confusion'] == _confusion(model, small_config())


def test_the_wheels_commands_find_what_is_installed(site: Path, tmp_path: Path) -> None:
    """Run in an empty folder: the commands, a config and the model index come from the wheel."""
    home = dict(PYTHONPATH=str(site), CUDA_VISIBLE_DEVICES='')
    assert 'cross_validate' in _run([site / 'bin' / 'mmdfer', '--help'], tmp_path, **home)
    code = """
import mmdfer
from mmdfer.cli.leaderboard import parse_args
from mmdfer.experiments.cross_validation import Launcher, list_trainings
from mmdfer.experiments.model_index import read_methods
from mmdfer.engine.runner.config import read_config
cfg = read_config('coop_dfew')
print(mmdfer.__file__)
print(cfg.filename)
print(parse_args(['--dataset', 'synth']).model_index)
print(read_methods(parse_args(['--dataset', 'synth']).model_index, 'synth')['coop'].config)
(training,) = list_trainings(cfg, [1], {}, [])
print(Launcher('pytorch', 2).command(training)[1])
print(Launcher('slurm', 2, 'gpu').command(training)[4])
"""
    mim = site / 'mmdfer' / '.mim'
    assert [
        Path(line) for line in _run([sys.executable, '-c', code], tmp_path, **home).split()
    ] == [
        site / 'mmdfer/__init__.py',
        mim / 'configs/coop/coop_dfew.py',
        mim / 'model-index.yml',
        mim / 'configs/coop/coop_synth.py',
        mim / 'tools/dist_train.sh',
        mim / 'tools/slurm_train.sh',
    ]
    assert (mim / 'model-index.yml').read_text() == (ROOT / 'model-index.yml').read_text()
    assert list(tmp_path.iterdir()) == []


def _confusion(model: torch.nn.Module, config: Config) -> list[list[int]]:
    """Compute the confusion matrix of a model without Runner, checkpoint or metric."""
    dataset = DATASETS.build(config.test_dataloader.dataset.dataset)
    counts = torch.zeros(7, 7, dtype=int)
    model.eval()
    with torch.no_grad():
        for clip in dataset:
            (sample,) = model.test_step(pseudo_collate([clip]))
            counts[int(sample.gt_label), int(sample.pred_score.argmax())] += 1
    return counts.tolist()
