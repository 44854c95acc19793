"""A small synthetic benchmark, made once per run of the tests, and the shipped config over it."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')
# Tests write and delete a hundred thousand small files, which a disk takes minutes for.
if os.path.isdir('/dev/shm') and shutil.disk_usage('/dev/shm').free > 8 * 2**30:
    os.environ.setdefault('PYTEST_DEBUG_TEMPROOT', '/dev/shm')

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import init_default_scope

import mmdfer  # noqa: F401  registers everything
from mmdfer.synthetic.benchmark import make_benchmark

# Each dataset that mmengine builds collects garbage, which takes half a second with all that was
# imported above; nothing of it will ever be garbage.
gc.freeze()
# A loader whose workers an error has ended waits for them as long as this, five seconds.
torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL = 0.5

ROOT = Path(__file__).resolve().parents[1]
NUM_TRAIN, NUM_TEST = 32, 14


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what tests measured, whichever process ran them."""
    for report in terminalreporter.getreports('passed'):
        for name, value in report.user_properties if report.when == 'call' else ():
            terminalreporter.write_line(f'{name}: {value}')


@pytest.fixture(autouse=True)
def _scope_and_seed() -> None:
    init_default_scope('mmaction')
    torch.manual_seed(0)
    # A run of an earlier test, in this process, leaves its epoch, which datasets read.
    MessageHub.get_current_instance().runtime_info.pop('epoch', None)


@pytest.fixture(scope='session')
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small benchmark, in ``<data_root>/synth`` as ``MMDFER_DATA`` expects it."""
    root = tmp_path_factory.mktemp('data')
    make_benchmark(root / 'synth', num_train=NUM_TRAIN, num_test=NUM_TEST)
    return root


@pytest.fixture
def small_config(data_root: Path, tmp_path: Path) -> Callable[..., Config]:
    """The shipped synthetic config over the small benchmark: six epochs, few sentences."""

    def build(work_dir: Path = tmp_path / 'run', **options: object) -> Config:
        config = Config.fromfile(ROOT / 'configs' / 'align_dfer_synth.py')
        config.merge_from_dict({**small_options(data_root), 'work_dir': str(work_dir), **options})
        return config

    return build


def small_options(data_root: Path) -> dict[str, object]:
    """What makes the shipped config small; as ``--cfg-options`` too."""
    sizes = dict(data_root=str(data_root / 'synth'), num_train=NUM_TRAIN, num_test=NUM_TEST)
    dataset = dict({f'dataset.{key}': value for key, value in sizes.items()}, num_workers=0)
    return {
        **{
            f'{loader}_dataloader.dataset.{key}': value
            for loader in ('train', 'val', 'test')
            for key, value in dataset.items()
        },
        'train_dataloader.batch_size': 8,
        'train_dataloader.dataset.dataset.num_views': 2,
        'model.cls_head.num_sentences': 4,
        'model.cls_head.num_tokens': 8,
        'custom_hooks.0.stages.0.epochs': 2,
        'custom_hooks.0.stages.1.epochs': 2,
        'custom_hooks.0.stages.1.grows_at': [0, 0, 1, 1],
        'custom_hooks.0.stages.2.epochs': 2,
        'custom_hooks.0.stages.2.grows_at': [0, 1],
        'default_hooks.report.baselines': False,
        'train_cfg.val_interval': 1,
        'default_hooks.logger.interval': 1000,
    }
