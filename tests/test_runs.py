"""Test whole runs: killed and resumed, on two ranks, and by MMAction2's own tools."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import NUM_TEST, NUM_TRAIN, ROOT, small_options
from forked import run_forked
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader

import mmaction

from mmdfer.engine.runner.build import build_runner

STOCK = Path(mmaction.__file__).parent / '.mim' / 'tools'


class Kill(Hook):
    """Kill the process by SIGKILL at one step of one epoch."""

    def __init__(self, epoch: int, step: int) -> None:
        self.epoch, self.step = epoch, step

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        if (runner.epoch, batch_idx) == (self.epoch, self.step):
            os.kill(os.getpid(), signal.SIGKILL)


def _train(config: Config, kill: tuple[int, int] | None, kill_in_save: int | None) -> None:
    torch.set_num_threads(1)
    runner = build_runner(config)
    if kill is not None:
        runner.register_hook(Kill(*kill))
    if kill_in_save is not None:
        _die_in_save(kill_in_save)
    runner.train()


def _die_in_save(count: int) -> None:
    """Kill the process when half of checkpoint number ``count`` is written."""
    sync, calls = os.fsync, []

    def dying(file: int) -> None:
        size = os.fstat(file).st_size
        calls.append(size > 1_000_000)
        if sum(calls) == count and calls[-1]:
            os.truncate(f'/proc/self/fd/{file}', size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        sync(file)

    os.fsync = dying


def train(
    config: Config, kill: tuple[int, int] | None = None, kill_in_save: int | None = None
) -> int:
    """Train in a separate process and return its exit code."""
    process = multiprocessing.get_context('fork').Process(
        target=_train, args=(config, kill, kill_in_save)
    )
    process.start()
    process.join()
    return process.exitcode


def weights(work_dir: Path, name: str = 'epoch_6.pth') -> dict[str, torch.Tensor]:
    return CheckpointLoader.load_checkpoint(str(work_dir / name), map_location='cpu')['state_dict']


def _equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope='module')
def whole(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train without interruption and return the work directory."""
    config = _config(data_root, tmp_path_factory.mktemp('whole'))
    assert train(config) == 0
    return Path(config.work_dir)


def _config(data_root: Path, work_dir: Path, **options: object) -> Config:
    config = Config.fromfile(ROOT / 'configs' / 'align_dfer_synth.py')
    config.merge_from_dict({**small_options(data_root), 'work_dir': str(work_dir), **options})
    return config


# (epoch, step), both from 0, with four steps per epoch and two epochs per stage.
@pytest.mark.parametrize('kill', [(1, 2), (3, 1), (4, 3)], ids=['text', 'video', 'joint'])
def test_killed_in_a_stage_and_resumed_is_bit_identical(
    whole: Path, data_root: Path, tmp_path: Path, kill: tuple[int, int]
) -> None:
    workers = {'train_dataloader.dataset.num_workers': 2, 'train_dataloader.num_workers': 1}
    assert train(_config(data_root, tmp_path), kill=kill) == -signal.SIGKILL
    assert not (tmp_path / 'epoch_6.pth').exists()
    assert train(_config(data_root, tmp_path, resume=True, **workers)) == 0
    assert _equal(weights(tmp_path), weights(whole))
    log = sorted(tmp_path.glob('*/*.log'))[-1].read_text()
    assert f'resumed epoch: {kill[0]}' in log


@pytest.mark.parametrize('save', [3, 7])
def test_killed_while_saving_and_resumed_is_bit_identical(
    whole: Path, data_root: Path, tmp_path: Path, save: int
) -> None:
    assert train(_config(data_root, tmp_path), kill_in_save=save) == -signal.SIGKILL
    assert train(_config(data_root, tmp_path, resume=True)) == 0
    assert _equal(weights(tmp_path), weights(whole))
    assert not [p for p in tmp_path.iterdir() if 'tmp' in p.name or 'aside' in p.name]


def test_a_checkpoint_holds_what_was_learned(whole: Path) -> None:
    state = weights(whole)
    parts = {'.'.join(name.split('.')[:2]) for name in state}
    assert parts == {
        'backbone.identity',
        'neck.stage',
        'neck.layers',
        'neck.image_encoder',
        'neck.text_encoder',
        'neck.joint_encoder',
        'cls_head.tokens',
        'cls_head.classes',
    }


def run(arguments: list[str], cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run a command with this package in PYTHONPATH."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
    env = {**os.environ, 'PATH': path, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    env |= environment
    return subprocess.run(arguments, cwd=cwd, env=env, capture_output=True, text=True)


def options(data_root: Path, **more: object) -> list[str]:
    """Return the ``--cfg-options`` of a small run."""
    pairs = {**small_options(data_root), **more}
    words = [f'{k}={str(v).replace(" ", "")}' for k, v in pairs.items()]
    return ['--cfg-options', *words]


def metrics(work_dir: Path) -> dict[str, float]:
    """Read the metrics that a test run has written."""
    (path,) = [p for p in work_dir.glob('*/*.json') if p.name != 'confusion_matrix.json']
    return json.loads(path.read_text().splitlines()[-1])


def test_stock_tools_train_resume_and_test(whole: Path, data_root: Path, tmp_path: Path) -> None:
    config = str(ROOT / 'configs' / 'align_dfer_synth.py')
    command = [sys.executable, str(STOCK / 'train.py'), config, '--work-dir', 'run']
    small = options(data_root, **{'default_hooks.checkpoint.max_keep_ckpts': -1})
    first = run([*command, *small], tmp_path)
    assert first.returncode == 0, first.stderr[-2000:]
    assert _equal(weights(tmp_path / 'run'), weights(whole))
    for epoch in (5, 6):  # as if the run had ended after epoch 4
        (tmp_path / 'run' / f'epoch_{epoch}.pth').unlink()
    (tmp_path / 'run' / 'last_checkpoint').write_text(str(tmp_path / 'run' / 'epoch_4.pth'))
    again = run_forked([*command[1:], '--resume', *small], tmp_path)
    assert again.returncode == 0, again.stderr[-2000:]
    assert 'resumed epoch: 4' in again.stdout + again.stderr
    assert _equal(weights(tmp_path / 'run'), weights(whole))

    expected = json.loads((whole / 'history.json').read_text())['6']
    for tools in (STOCK, ROOT / 'tools'):
        work_dir = tmp_path / f'test_{tools.parent.name.strip(".")}'
        command = [tools / 'test.py', config, 'run/epoch_6.pth', '--work-dir', work_dir]
        tested = run_forked([*command, *options(data_root)], tmp_path)
        assert tested.returncode == 0, tested.stderr[-2000:]
        assert metrics(work_dir)['WAR'] == pytest.approx(expected['WAR'])
        assert metrics(work_dir)['UAR'] == pytest.approx(expected['UAR'])


def test_two_ranks_equal_one_with_the_same_global_batch(
    whole: Path, data_root: Path, tmp_path: Path, record_property
) -> None:
    config = tmp_path / 'two_ranks.py'
    config.write_text(
        f'_base_ = [{str(ROOT / "configs" / "align_dfer_synth.py")!r}]\n'
        "custom_imports = dict(imports=['mmdfer', 'ranks'], allow_failed_imports=False)\n"
        "default_hooks = dict(ranks=dict(type='SameOnAllRanks'))\n"
    )
    half = {
        'train_dataloader.batch_size': 4,
        'val_dataloader.batch_size': 4,
    }
    done = run(
        ['bash', str(ROOT / 'tools' / 'dist_train.sh'), str(config), '2', '--work-dir', 'run']
        + options(data_root, **half),
        tmp_path,
        PORT=str(29500 + os.getpid() % 1000),
        PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / 'tests')]),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for epoch in range(1, 7):
        assert f'2 ranks agree after epoch {epoch}' in done.stdout + done.stderr
    one, two = weights(whole), weights(tmp_path / 'run')
    learned = [name for name, tensor in one.items() if tensor.is_floating_point()]
    assert all(torch.equal(one[name], two[name]) for name in one.keys() - set(learned))
    errors = {name: (one[name] - two[name]).norm() for name in learned}
    size = torch.stack([one[name].norm() for name in learned]).norm()
    relative = torch.stack(list(errors.values())).norm() / size
    worst = max((float(errors[name] / one[name].norm()), name) for name in learned)
    record_property(
        'two ranks against one', f'{relative:.1e} relative, worst tensor {worst[0]:.1e} {worst[1]}'
    )
    assert relative < 1e-5
    assert worst[0] < 1e-4  # the worst tensor is a bias close to zero
    ours = json.loads((whole / 'history.json').read_text())
    theirs = json.loads((tmp_path / 'run' / 'history.json').read_text())
    assert ours == theirs  # 14 clips, 7 per rank, each counted once


def test_two_ranks_test_a_model_without_trained_parameters(data_root: Path, tmp_path: Path) -> None:
    sizes = dict(data_root=data_root / 'synth', num_train=NUM_TRAIN, num_test=NUM_TEST)
    loaders = ('train_dataloader', 'val_dataloader')
    small = [f'{loader}.dataset.{k}={v}' for loader in loaders for k, v in sizes.items()]
    config = str(ROOT / 'configs' / 'clip_zero_shot' / 'clip_zero_shot_synth.py')
    done = run(
        ['bash', str(ROOT / 'tools' / 'dist_train.sh'), config, '2', '--work-dir', 'run']
        + ['--cfg-options', *small],
        tmp_path,
        PORT=str(28500 + os.getpid() % 1000),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads((tmp_path / 'run' / 'report.json').read_text())
    assert sum(map(sum, report['last']['confusion'])) == NUM_TEST  # each clip is counted once
