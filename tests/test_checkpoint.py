"""Test AtomicCheckpointHook in a real Runner that is killed at file operations and resumed.

As a script (`python test_checkpoint.py JOB DIR`), this file is the process that is killed.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from unittest import mock

import pytest
import torch
from mmengine.dist import get_world_size
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import Dataset

from mmdfer import compat
from mmdfer.engine.hooks.checkpoint_hook import AtomicCheckpointHook, write_aside
from mmdfer.engine.runner.resume_checkpoint import newest_checkpoint, why_unreadable
from mmdfer.errors import DFERError

EPOCHS = 4
RUNS = itertools.count()  # mmengine distinguishes runs by their name and their start in seconds
SCORES = {1: 0.2, 2: 0.5, 3: 0.7, 4: 0.6}  # by epoch; the best changes twice and is not the last
AT_THE_END = {'epoch_3.pth', 'epoch_4.pth', 'best_score_epoch_3.pth', 'last_checkpoint'}


class Points(Dataset):
    """Provide 16 fixed points with a linear target."""

    metainfo = {'classes': ('a', 'b')}

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> dict:
        point = torch.randn(3, generator=torch.Generator().manual_seed(index))
        return dict(inputs=point, target=point.sum())


class Line(BaseModel):
    """Fit a line, and count the training steps in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.fit = torch.nn.Linear(3, 1)
        self.register_buffer('steps', torch.zeros((), dtype=torch.long))

    def forward(self, inputs, target, mode: str = 'tensor'):
        if mode != 'loss':
            return [self.steps * get_world_size() // 4]
        self.steps += 1
        return dict(loss=(self.fit(inputs).squeeze(1) - target).pow(2).mean())


class Score(BaseMetric):
    """Return the entry of SCORES for the epoch that the model's step counter gives."""

    def process(self, data_batch, data_samples) -> None:
        self.results.extend(int(epoch) for epoch in data_samples)

    def compute_metrics(self, results: list) -> dict:
        return dict(score=SCORES.get(results[0], 0.0))


def make_runner(folder: str | Path, resume: bool = False, launcher: str = 'none', **hook) -> Runner:
    def loader(shuffle: bool) -> dict:
        sampler = dict(type='DefaultSampler', shuffle=shuffle)
        collate = dict(type='default_collate')
        return dict(dataset=Points(), sampler=sampler, collate_fn=collate, batch_size=4)

    wrapper = dict(type='MMDistributedDataParallel', device_ids=None)
    # _log_env runs compilers to find their versions, which takes seconds.
    with mock.patch.object(Runner, '_log_env'):
        return Runner(
            model=Line(),
            work_dir=str(folder),
            train_dataloader=loader(True),
            val_dataloader=loader(False),
            train_cfg=dict(by_epoch=True, max_epochs=EPOCHS, val_interval=1),
            val_cfg=dict(),
            val_evaluator=[Score()],
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.02, momentum=0.9)),
            default_hooks=dict(
                checkpoint=dict(
                    type='AtomicCheckpointHook',
                    interval=1,
                    save_best='score',
                    rule='greater',
                    **hook,
                )
            ),
            resume=resume,
            launcher=launcher,
            randomness=dict(seed=3),
            default_scope='mmaction',
            experiment_name=f'{Path(folder).name}_{resume}_{os.getpid()}_{next(RUNS)}',
            log_level='WARNING',
            cfg=dict(model_wrapper_cfg=wrapper),
        )


def weights(folder: str | Path) -> list[torch.Tensor]:
    state = compat.load_from_local(Path(folder, f'epoch_{EPOCHS}.pth'))
    momentum = [slot['momentum_buffer'] for slot in state['optimizer']['state'].values()]
    return [*state['state_dict'].values(), *momentum]


def same(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return len(left) == len(right) > 0 and all(map(torch.equal, left, right))


def names(folder: str | Path) -> set[str]:
    """Return the files of a folder, without the configs that mmengine writes at each start."""
    return {path.name for path in Path(folder).iterdir() if path.is_file() and path.suffix != '.py'}


def trained(folder: Path, **kwargs) -> Path:
    make_runner(folder, **kwargs).train()
    return folder


# ---------------------------------------------------------------- the process that is killed


def die_at(instant: int) -> list[int]:
    """Kill this process by SIGKILL at its file operation number `instant`.

    A write is killed when half of it is done, any other operation before it begins.

    Returns:
        A list with one number, the count of file operations so far.
    """
    count = [0]

    def counted(module, name: str) -> None:
        real = getattr(module, name)

        def operation(*args, **kwargs):
            count[0] += 1
            if count[0] == instant:
                if name == 'write_bytes':
                    real(args[0], args[1][: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        setattr(module, name, operation)

    for module, name in ((Path, 'write_bytes'), (Path, 'write_text'), (os, 'remove')):
        counted(module, name)
    for name in ('fsync', 'replace'):
        counted(os, name)
    return count


def in_child(job) -> int:
    """Run `job` in a forked process and return its wait status."""
    child = os.fork()
    if child == 0:
        try:
            job()
            os._exit(0)
        finally:  # never return into the code of the parent process
            traceback.print_exc()
            os._exit(1)
    return os.waitpid(child, 0)[1]


def sweep(root: Path, instants: list[int]) -> dict:
    """Kill runs at file operations, resume them, and compare them with an uninterrupted run.

    Args:
        root: An empty folder for the runs.
        instants: The numbers of the file operations, one killed run for each; [] for all.

    Returns:
        The number of file operations of a run, the number of killed runs, and the wrong results.
    """

    def whole() -> None:
        count = die_at(-1)
        trained(root / 'whole')
        (root / 'count').write_text(str(count[0]))

    assert in_child(whole) == 0
    expected, total = weights(root / 'whole'), int((root / 'count').read_text())
    found = dict(total=total, killed=0, wrong=[])
    for instant in instants or range(1, total + 1):
        folder = root / f'killed_{instant}'

        def killed(instant: int = instant, folder: Path = folder) -> None:
            die_at(instant)
            trained(folder)

        found['killed'] += os.WTERMSIG(in_child(killed)) == signal.SIGKILL
        visible = [path for path in folder.glob('*.pth') if not path.name.startswith('.')]
        torn = [path.name for path in visible if why_unreadable(path)]
        status = in_child(lambda folder=folder: trained(folder, resume=True))
        left = names(folder)
        if torn or status or left != AT_THE_END or not same(weights(folder), expected):
            found['wrong'].append([instant, torn, status, sorted(left)])
    return found


def two_ranks(root: Path) -> None:
    """Train on ranks that communicate by gloo, resuming from a checkpoint if there is one."""
    compat.init_cpu_ranks('pytorch')
    make_runner(root, resume=(root / 'last_checkpoint').exists(), launcher='pytorch').train()


def start(*command: str, **env: str) -> subprocess.CompletedProcess:
    package = str(Path(compat.__file__).parents[1])
    env = {**os.environ, 'PYTHONPATH': package, 'OMP_NUM_THREADS': '1', **env}
    return subprocess.run(
        [sys.executable, *command], env=env, capture_output=True, text=True, timeout=600
    )


# ---------------------------------------------------------------- tests


# Some file operations of the third epoch of that run; `sweep DIR` without numbers tries all 72.
INSTANTS = {
    42: 'half of epoch_3.pth is written',
    44: 'epoch_3.pth is whole, not yet renamed',
    48: 'epoch_3.pth is there, last_checkpoint still names epoch_2.pth',
    50: 'epoch_1.pth is outdated, not yet removed',
    51: 'half of the new best is written, the validation not yet saved',
    55: 'the new best is there, half of the epoch_3.pth that names it is written',
    63: 'the old best is outdated, not yet removed',
}


def test_killed_while_saving_then_resumed_is_bit_identical(tmp_path):
    done = start(__file__, 'sweep', str(tmp_path), *map(str, INSTANTS))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == dict(total=72, killed=len(INSTANTS), wrong=[])


def test_keeps_two_and_the_best(tmp_path):
    trained(tmp_path)
    assert names(tmp_path) == AT_THE_END
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_4.pth')


def test_max_keep_ckpts_is_mmengines(tmp_path):
    trained(tmp_path, max_keep_ckpts=-1)
    every = {f'epoch_{epoch}.pth' for epoch in range(1, EPOCHS + 1)}
    assert names(tmp_path) == every | {'best_score_epoch_3.pth', 'last_checkpoint'}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize('damage', [truncate, Path.unlink, lambda path: path.write_bytes(b'')])
def test_a_damaged_newest_falls_back_to_the_one_before(tmp_path, damage, monkeypatch):
    expected = weights(trained(tmp_path))
    damage(tmp_path / 'epoch_4.pth')
    runner = make_runner(tmp_path, resume=True)
    warned = []
    monkeypatch.setattr(runner.logger, 'warning', warned.append)
    runner.train()
    said = [line for line in warned if 'falling back' in line]
    assert len(said) == 1
    assert 'epoch_4.pth' in said[0] and 'epoch_3.pth' in said[0]
    assert same(weights(tmp_path), expected)
    assert names(tmp_path) == AT_THE_END


def test_an_empty_last_checkpoint_falls_back_to_the_newest_that_reads(tmp_path):
    expected = weights(trained(tmp_path))
    (tmp_path / 'last_checkpoint').write_text('')
    trained(tmp_path, resume=True)
    assert same(weights(tmp_path), expected)


def test_no_readable_checkpoint_is_an_error_that_names_the_file(tmp_path):
    trained(tmp_path)
    for path in tmp_path.glob('epoch_*.pth'):
        truncate(path)
    with pytest.raises(DFERError, match='epoch_4.pth.*Remove the file') as error:
        make_runner(tmp_path, resume=True).train()
    assert '\n' not in str(error.value)


def test_a_changed_byte_is_seen_though_torch_load_passes_it(tmp_path):
    path = tmp_path / 'a.pth'
    torch.save(dict(weight=torch.arange(1000.0)), path)
    assert why_unreadable(path) is None
    raw = bytearray(path.read_bytes())
    at = raw.index(torch.tensor(500.0).numpy().tobytes())
    raw[at + 2] ^= 1
    path.write_bytes(raw)
    assert not torch.equal(torch.load(path, weights_only=True)['weight'], torch.arange(1000.0))
    assert 'damaged' in why_unreadable(path)


def test_resuming_elsewhere_leaves_the_first_runs_best_alone(tmp_path):
    first = trained(tmp_path / 'first')
    runner = make_runner(tmp_path / 'second', resume=True)
    runner._load_from = str(first / 'epoch_3.pth')
    info = compat.load_from_local(first / 'epoch_3.pth')
    info['message_hub']['runtime_info']['best_score'] = 0.1  # so that epoch 4 is better
    torch.save(info, first / 'epoch_3.pth')
    runner.train()
    assert (tmp_path / 'second' / 'best_score_epoch_4.pth').is_file()
    assert (first / 'best_score_epoch_3.pth').is_file()


def test_a_resumed_file_cannot_have_other_files_removed(tmp_path):
    precious = tmp_path / 'precious.pth'
    folder = trained(tmp_path / 'run')
    state = compat.load_from_local(folder / 'epoch_3.pth')
    info = state['message_hub']['runtime_info']
    precious.write_bytes(b'mine')
    info.update(best_score=0.0, best_ckpt=str(precious), outdated_best_ckpts=[str(precious)])
    info.update(keep_ckpt_ids=['../../precious', 1, 2, 3], outdated_ckpt_ids=['../../precious'])
    torch.save(state, folder / 'epoch_3.pth')
    (folder / 'last_checkpoint').write_text(str(folder / 'epoch_3.pth'))
    trained(folder, resume=True)
    assert precious.read_bytes() == b'mine'


def test_two_ranks_save_once_and_fall_back_together(tmp_path):
    torchrun = ('-m', 'torch.distributed.run', '--nproc_per_node=2', '--master_port=29637')
    found = []
    for _ in range(2):  # the second run finds an incomplete epoch_4.pth and repeats the epoch
        done = start(*torchrun, __file__, 'two_ranks', str(tmp_path))
        assert done.returncode == 0, done.stderr
        assert names(tmp_path) == AT_THE_END
        found.append(weights(tmp_path))
        truncate(tmp_path / 'epoch_4.pth')
    assert same(*found)
    assert done.stdout.count('falling back') == 1  # rank 0 alone reports it


# ---------------------------------------------------------------- a work dir that was moved


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir() if p.is_file()}


@pytest.fixture
def half(tmp_path, monkeypatch) -> Path:
    """Train two of the four epochs."""
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[__name__], 'EPOCHS', 2)
        torch.manual_seed(0)
        return trained(tmp_path / 'half')


@pytest.fixture
def whole(tmp_path) -> Path:
    """Train the four epochs without interruption."""
    torch.manual_seed(0)
    return trained(tmp_path / 'whole')


def test_a_moved_work_dir_continues_from_its_newest_checkpoint(half, whole, tmp_path):
    moved = half.rename(tmp_path / 'moved')
    trained(moved, resume=True)
    assert same(weights(moved), weights(whole))
    assert names(moved) == AT_THE_END and not half.exists()
    assert (moved / 'last_checkpoint').read_text() == str(moved / 'epoch_4.pth')


def test_a_copy_leaves_its_original_alone(half, tmp_path):
    copied = Path(shutil.copytree(half, tmp_path / 'copied'))
    (copied / 'epoch_1.pth').unlink()
    before = snapshot(half)
    trained(copied, resume=True)
    assert snapshot(half) == before
    assert names(copied) == AT_THE_END  # the copy has removed its own best checkpoint of epoch 2


def test_a_copy_without_checkpoints_does_not_resume_its_original(half, tmp_path):
    copied = tmp_path / 'copied'
    copied.mkdir()
    shutil.copy(half / 'last_checkpoint', copied)
    with pytest.raises(DFERError, match=r'copied.epoch_2\.pth \(it does not exist\).*--resume'):
        make_runner(copied, resume=True).train()


def test_without_last_checkpoint_the_newest_is_resumed_from(half, whole):
    (half / 'last_checkpoint').unlink()
    runner = make_runner(half, resume=True)
    runner.train()
    assert runner.iter == 4 * EPOCHS and same(weights(half), weights(whole))


def test_checkpoints_beside_the_work_dir_move_with_its_name(tmp_path):
    trained(tmp_path / 'run', out_dir=str(tmp_path / 'disk'))
    runner = make_runner(tmp_path / 'run', resume=True, out_dir=str(tmp_path / 'disk'))
    runner.train()
    assert runner.epoch == EPOCHS and (tmp_path / 'disk' / 'run' / 'epoch_4.pth').is_file()
    assert newest_checkpoint(tmp_path / 'run') == tmp_path / 'disk' / 'run' / 'epoch_4.pth'


def test_validation_alone_saves_nothing(tmp_path):
    runner = make_runner(tmp_path / 'run')
    assert runner.val() == dict(score=0.0)
    assert names(tmp_path / 'run') == set()
    runner = make_runner(trained(tmp_path / 'other'), resume=False)
    runner.train()
    before = snapshot(tmp_path / 'other')
    assert runner.val() == dict(score=0.6)
    assert snapshot(tmp_path / 'other') == before


def test_files_elsewhere_are_left_to_mmengine(tmp_path, monkeypatch):
    def backend(uri, backend_args):
        return object()  # any backend other than the local one, such as petrel or http

    monkeypatch.setattr('mmdfer.engine.hooks.checkpoint_hook.get_file_backend', backend)
    trained(tmp_path, max_keep_ckpts=-1)
    hook = AtomicCheckpointHook(backend_args=dict(backend='local'))
    hook.before_run(make_runner(tmp_path, resume=True))
    assert hook.backend_args == dict(backend='local')
    assert names(tmp_path) >= {'epoch_1.pth', 'last_checkpoint', 'best_score_epoch_3.pth'}


def test_resuming_clears_what_a_killed_run_left_and_no_other_file(tmp_path):
    trained(tmp_path)
    run, fold = tmp_path / '20260101_120000', tmp_path / 'fold_2'
    gone = 4194305  # no process on Linux has an id as high as this
    own, parent = os.getpid(), os.getppid()
    left = [
        run / f'.confusion_matrix.{gone}.aside.png',
        run / f'.confusion_matrix.{gone}.aside.csv',
        tmp_path / f'.history.{gone}.aside.json',
        tmp_path / f'.epoch_2.{gone}.aside.pth',
        tmp_path / f'.last_checkpoint.{gone}.aside',
        tmp_path / f'.scores.{own}.aside.json',  # this process writes no file at the start of a run
        tmp_path / f'.old.{parent}.aside.json',  # too old to be the file of a running process
    ]
    kept = [
        run / f'.confusion_matrix.{parent}.aside.png',  # a running test in the same folder
        run / 'confusion_matrix.png',
        fold / f'.history.{gone}.aside.json',  # belongs to another run
        tmp_path / '.aside.json',
        tmp_path / '.mine.aside.png',
        tmp_path / f'notes.{gone}.aside.png',
    ]
    for path in (*left, *kept):
        path.parent.mkdir(exist_ok=True)
        path.write_text('half')
    two_hours_ago = time.time() - 2 * 3600
    os.utime(tmp_path / f'.old.{parent}.aside.json', (two_hours_ago, two_hours_ago))
    make_runner(tmp_path, resume=True).train()
    assert [path for path in left if path.exists()] == []
    assert [path for path in kept if not path.exists()] == []


def test_write_aside_leaves_the_old_file_on_an_error(tmp_path):
    path = tmp_path / 'deep' / 'scores.json'
    with write_aside(path) as aside:
        aside.write_text('old')
        assert aside.suffix == '.json' and aside.parent == path.parent
        assert not path.exists()
    with pytest.raises(OSError, match='full'), write_aside(path) as aside:
        aside.write_text('ne')
        raise OSError('disk full')
    assert path.read_text() == 'old'
    assert names(path.parent) == {'scores.json'}


if __name__ == '__main__':
    torch.set_num_threads(1)
    job, root, *instants = sys.argv[1:]
    if job == 'sweep':
        print(json.dumps(sweep(Path(root), [int(instant) for instant in instants])))
    else:
        two_ranks(Path(root))
