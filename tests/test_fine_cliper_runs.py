"""Test runs of FineCLIPER: MMAction2's own tools, a run that is killed, and what is kept of it."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import mmengine
import pytest
import torch
from conftest import NUM_TEST, NUM_TRAIN, ROOT
from forked import run_forked
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import CheckpointLoader, Runner

import mmaction
from mmaction.registry import MODELS

from mmdfer.engine.runner.build import build_runner
from mmdfer.errors import DFERError
from mmdfer.evaluation import dfer_metric

STOCK = Path(mmaction.__file__).parent / '.mim' / 'tools'
CONFIG = ROOT / 'configs' / 'fine_cliper' / 'fine_cliper_synth.py'
OPTIONS: dict[str, Any] = {
    **{
        f'{loader}_dataloader.{key}': value
        for loader in ('train', 'val', 'test')
        for key, value in {
            'num_workers': 0,
            'batch_size': 4,
            'dataset.num_train': NUM_TRAIN,
            'dataset.num_test': NUM_TEST,
            'dataset.indices': 8,
        }.items()
    },
    'train_cfg.max_epochs': 2,
    'train_cfg.val_interval': 2,
    'param_scheduler.0.T_max': 2,
}


def run_tool(name: str, folder: Path, data_root: Path, *arguments: object) -> None:
    """Run an unchanged tool of MMAction2 on the small benchmark."""
    pairs = [f'{key}={value}' for key, value in OPTIONS.items()]
    done = run_forked(
        [STOCK / name, *arguments, '--cfg-options', *pairs],
        cwd=folder,
        env={**os.environ, 'MMDFER_DATA': str(data_root)},
    )
    assert done.returncode == 0, done.stderr[-3000:]


def build_small(data_root: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Runner:
    monkeypatch.setenv('MMDFER_DATA', str(data_root))
    config = Config.fromfile(CONFIG)
    config.merge_from_dict({**OPTIONS, **options})
    return build_runner(config)


@pytest.fixture(scope='module')
def trained(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train by MMAction2's own train.py without interruption, and return the work directory."""
    folder = tmp_path_factory.mktemp('stock')
    run_tool('train.py', folder, data_root, CONFIG, '--work-dir', 'run')
    return folder / 'run'


def test_stock_tools_train_and_test_and_keep_no_pictures(trained: Path, data_root: Path) -> None:
    flags = ['--work-dir', 'tested', '--dump', 'predictions.pkl']
    run_tool('test.py', trained.parent, data_root, CONFIG, trained / 'epoch_2.pth', *flags)
    (path,) = trained.parent.glob('tested/*/[0-9]*.json')
    history = json.loads((trained / 'history.json').read_text())
    assert json.loads(path.read_text())['WAR'] == pytest.approx(history['2']['WAR'])
    predictions = mmengine.load(trained.parent / 'predictions.pkl')
    assert len(predictions) == 8
    assert all('parts' not in p and p['pred_score'].shape == (7,) for p in predictions)
    log = next(trained.glob('*/*.log')).read_text()
    assert 'Levels of 8 training clips: 0 lack masks' in log


def test_the_page_has_the_numbers_of_parameters() -> None:
    page = (ROOT / 'docs' / 'methods.md').read_text(encoding='utf-8')
    config = Config.fromfile(CONFIG.with_name('fine_cliper_dfew.py')).model
    config.backbone.weights = 'random'
    parameters = list(MODELS.build(config).parameters())
    whole = sum(p.numel() for p in parameters)
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    assert f'| {trained:,} | {100 * trained / whole:.1f} % of {whole:,} |' in page


class Kill(Hook):
    """Kill the process after the first step of the second epoch."""

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        """Kill the process at its third step."""
        if runner.iter == 2:
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_run_resumes_to_the_same_bits(
    trained: Path, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dfer_metric, 'save_confusion', lambda *_: None)

    def train(*hooks: Hook, **options: Any) -> None:
        runner = build_small(data_root, monkeypatch, work_dir=str(tmp_path), **options)
        for hook in hooks:
            runner.register_hook(hook)
        runner.train()

    child = multiprocessing.get_context('fork').Process(target=train, args=(Kill(),))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert (tmp_path / 'epoch_1.pth').is_file() and not (tmp_path / 'epoch_2.pth').exists()
    train(resume=True)
    whole, resumed = (
        CheckpointLoader.load_checkpoint(str(folder / 'epoch_2.pth'), map_location='cpu')
        for folder in (trained, tmp_path)
    )
    assert whole['state_dict'].keys() == resumed['state_dict'].keys()
    for name, tensor in whole['state_dict'].items():
        assert torch.equal(tensor, resumed['state_dict'][name]), name
    first, second = (c['optimizer']['state'] for c in (whole, resumed))
    for key, state in first.items():
        assert torch.equal(state['exp_avg'], second[key]['exp_avg'])


def test_levels_that_no_pipeline_loads_are_refused(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {
        'work_dir': str(tmp_path),
        'model.levels': ['caption'],
        'test_dataloader.dataset.pipeline.3.captions': False,
    }
    runner = build_small(data_root, monkeypatch, **options)
    with pytest.raises(DFERError, match=r'reads only caption, .* loads only frames and parts;'):
        runner.test()


def test_levels_that_are_not_trained_are_named(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = {f'train_dataloader.dataset.pipeline.3.{name}': False for name in ('masks', 'landmarks')}
    runner = build_small(data_root, monkeypatch, work_dir=str(tmp_path), **off)
    lines: list[str] = []
    monkeypatch.setattr(runner.logger, 'warning', lines.append)
    runner._train_loop = runner.build_train_loop(runner.cfg.train_cfg)
    runner.call_hook('before_run')
    assert [line for line in lines if line.startswith("model.levels has 'parts', but the pipeline")]
