"""Test a full disk: the error names the file, nothing is damaged, and a rerun completes."""

from __future__ import annotations

import errno
import logging
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import toy
from references import former_dfer, training_script

from mmdfer.converters import import_checkpoint
from mmdfer.engine import AtomicCheckpointHook
from mmdfer.errors import DFERError
from mmdfer.features.bank import Bank, open_bank
from mmdfer.files import (
    WriteError,
    explain_full_disk,
    explain_write_errors,
    warn_of_lost_logs,
    write_aside,
)
from mmdfer.synthetic import benchmark, make_benchmark, media, releases
from mmdfer.synthetic.releases import make_release

ROOT = Path(__file__).resolve().parents[1]
SMALL = dict(num_train=16, num_test=8, num_train_identities=4, num_test_identities=2, size=64)
FULL = (
    r'cannot be written \(.+\); (free space on that disk|check that the disk works and has space)'
)


# ------------------------------------------------------------------ a small disk


class SmallDisk:
    """Mount a file system in memory with a size that can be changed.

    Args:
        folder: The mount point.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def resize(self, kilobytes: int, *how: str) -> None:
        """Set the size; the first call mounts the disk and has no options in `how`."""
        options = ','.join([*how, f'size={kilobytes}k'])
        command = ['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', self.folder]
        subprocess.run(command, check=True, capture_output=True)

    def fill(self, leave: int = 0) -> Path:
        """Write a file that leaves this number of kilobytes free, and return its path."""
        ballast = self.folder / 'ballast'
        with ballast.open('wb', buffering=0) as file:
            file.write(bytes(shutil.disk_usage(self.folder).free - 1024 * leave))
        return ballast


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Mount a disk of 4 MB; skip the test if that is not possible."""
    folder = tmp_path / 'small disk'
    folder.mkdir()
    small = SmallDisk(folder)
    try:
        small.resize(4096)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f'no tmpfs can be mounted here: {error}')
    yield small
    subprocess.run(['umount', '--lazy', folder], check=True)


def _contents(root: Path, *without: str) -> dict[str, bytes]:
    """Return the content of each file below a folder, without files of some suffixes."""
    files = (p for p in root.rglob('*') if p.is_file() and p.suffix not in without)
    return {str(p.relative_to(root)): p.read_bytes() for p in files}


# ------------------------------------------------------------------ synthetic data


@pytest.fixture(scope='module')
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a benchmark with all extras on a disk with enough space."""
    root = tmp_path_factory.mktemp('whole') / 'synth'
    return make_benchmark(root, **SMALL, workers=1, extras=benchmark.EXTRAS)


@pytest.mark.parametrize('workers', [1, 2])
@pytest.mark.parametrize('kilobytes', [4, 120, 1200])
def test_a_benchmark_on_a_full_disk_is_completed_later(
    kilobytes: int, workers: int, disk: SmallDisk, whole: Path
) -> None:
    disk.resize(kilobytes, 'remount')
    root, options = disk.folder / 'synth', dict(workers=workers, extras=benchmark.EXTRAS)
    with pytest.raises(WriteError, match=rf'^{root}/.*{FULL}') as caught:
        make_benchmark(root, **SMALL, **options)
    assert '\n' not in str(caught.value) and 'partial' not in str(caught.value)
    made, right = _contents(root), _contents(whole)
    assert 'benchmark.json' not in made
    assert {name: made[name] == right.get(name) for name in made if name != 'making.json'} == {
        name: True for name in made if name != 'making.json'
    }
    disk.resize(8192, 'remount')
    make_benchmark(root, **SMALL, **options)
    assert _contents(root) == right


def test_space_that_is_free_again_at_once_leaves_no_damaged_video(
    disk: SmallDisk, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, write = disk.folder / 'synth', benchmark._write_video

    def write_on_a_full_disk(path: Path, *arguments: object) -> None:
        ballast = disk.fill(leave=4)
        try:
            write(path, *arguments)
        finally:
            ballast.unlink()  # another program frees space at this moment

    with monkeypatch.context() as patch:
        patch.setattr(benchmark, '_write_video', write_on_a_full_disk)
        with pytest.raises(WriteError, match=rf'^{root}/videos/train/00001\.mp4: {FULL}'):
            make_benchmark(root, **SMALL, workers=1)
    assert not list(root.rglob('*.mp4'))
    make_benchmark(root, **SMALL, workers=1, extras=benchmark.EXTRAS)
    assert _contents(root) == _contents(whole)


def test_an_empty_video_is_made_again_whatever_the_record_says(whole: Path, tmp_path: Path) -> None:
    root = shutil.copytree(whole, tmp_path / 'copy')
    video, record = root / 'videos/train/00001.mp4', root / 'benchmark.json'
    size = video.stat().st_size
    video.write_bytes(b'')
    record.write_text(
        record.read_text().replace(f'train/00001.mp4": {size}', 'train/00001.mp4": 0')
    )
    make_benchmark(root, **SMALL, workers=1, extras=benchmark.EXTRAS)
    assert _contents(root) == _contents(whole)


@pytest.mark.parametrize(('kind', 'kilobytes'), [('frames', 900), ('videos', 300)])
def test_a_drawn_tree_on_a_full_disk_is_completed_later(
    kind: str, kilobytes: int, disk: SmallDisk, tmp_path: Path
) -> None:
    root, arguments = disk.folder / 'DFEW', dict(clips=35, media=[kind], size=64, workers=1)
    disk.resize(kilobytes, 'remount')
    with pytest.raises(WriteError, match=rf'^{root}/.*{FULL}'):
        make_release('dfew', root, **arguments)
    assert not (root / 'synthetic.json').exists()
    disk.resize(32768, 'remount')
    make_release('dfew', root, **arguments)
    right = make_release('dfew', tmp_path / 'right', **arguments)
    assert _contents(root, '.xlsx') == _contents(right, '.xlsx')


def test_a_drawn_tree_has_no_part_of_a_clip_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, arguments = tmp_path / 'FERV39k', dict(clips=14, size=64, workers=1)
    write, count = releases.write_picture, iter(range(1000))

    def write_until_full(path: Path, picture: np.ndarray) -> None:
        write(path, picture)
        if next(count) == 100:
            path.write_bytes(path.read_bytes()[:200])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(releases, 'write_picture', write_until_full)
        with pytest.raises(WriteError, match=rf'^{root}/\.drawn/jpg/\w+: {FULL}'):
            make_release('ferv39k', root, **arguments)
    assert not list((root / '.drawn/jpg').glob('.*'))
    make_release('ferv39k', root, **arguments)
    right = make_release('ferv39k', tmp_path / 'right', **arguments)
    assert _contents(root) == _contents(right)


@pytest.mark.parametrize('cut', [1, 300, 4096])
def test_a_video_of_which_the_end_is_missing_is_not_accepted(
    cut: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cutting:
        """Act as OpenCV's writer on a disk that is full before the end of the video."""

        def __init__(self, path: str, *arguments: object) -> None:
            self.path, self.writer = Path(path), writer(path, *arguments)
            self.isOpened, self.write = self.writer.isOpened, self.writer.write

        def release(self) -> None:
            self.writer.release()
            self.path.write_bytes(self.path.read_bytes()[:-cut])

    writer, path = cv2.VideoWriter, tmp_path / 'clip.mp4'
    frames = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), np.uint8)
    monkeypatch.setattr(cv2, 'VideoWriter', Cutting)
    with pytest.raises(OSError, match='did not write the whole video'):
        media.write_video(path, frames, (64, 64))
    monkeypatch.undo()
    media.write_video(path, frames, (64, 64))
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) == 20


def test_a_video_that_cannot_be_opened_is_not_accepted(tmp_path: Path) -> None:
    with pytest.raises(OSError, match='No such file|did not write'):
        media.write_video(
            tmp_path / 'gone' / 'clip.mp4', np.zeros((2, 64, 64, 3), np.uint8), (64, 64)
        )


def test_the_contact_sheet_is_named_where_it_cannot_be_written(
    disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.fill()
    for name, said in (('sheet.png', FULL), ('sheet.doc', 'give a name')):
        path = disk.folder / name
        monkeypatch.setattr(sys, 'argv', ['make_synthetic.py', '--contact-sheet', str(path)])
        with pytest.raises(SystemExit, match=rf'{name}: .*{said}'):
            runpy.run_path(str(ROOT / 'tools' / 'make_synthetic.py'), run_name='__main__')


# ------------------------------------------------------------------ training


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Return a function that runs train.py on the toy config in this process."""
    config = tmp_path / 'toy_run.py'
    config.write_text(toy.CONFIG.format(base=str(ROOT / 'configs/_base_/default_runtime.py')))
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')

    def run(*flags: object) -> None:
        monkeypatch.setattr(sys, 'argv', ['train.py', str(config), *map(str, flags)])
        runpy.run_path(str(ROOT / 'tools' / 'train.py'), run_name='__main__')

    return run


@pytest.mark.parametrize(
    ('step', 'named'),
    [
        (None, 'run'),
        ('_save_checkpoint_with_step', r'run/epoch_2\.pth'),
        ('_save_best_checkpoint', r'run/report\.json'),
    ],
    ids=['at the start', 'at a checkpoint', 'at the end'],
)
def test_training_on_a_full_disk_keeps_its_checkpoint_and_can_resume(
    step: str | None,
    named: str,
    disk: SmallDisk,
    train: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work_dir = disk.folder / 'run'
    train('--work-dir', work_dir, '--cfg-options', 'train_cfg.max_epochs=1')
    kept = (work_dir / 'epoch_1.pth').read_bytes()
    with monkeypatch.context() as patch:
        if step is None:
            disk.fill()
        else:
            upstream = getattr(AtomicCheckpointHook, step)

            def on_a_full_disk(*arguments: object, **more: object) -> None:
                disk.fill()
                upstream(*arguments, **more)

            patch.setattr(AtomicCheckpointHook, step, on_a_full_disk)
        with pytest.raises(SystemExit, match=rf'^error: {disk.folder}/{named}: {FULL}') as caught:
            train('--work-dir', work_dir, '--resume')
    assert '\n' not in caught.value.code
    assert (work_dir / 'epoch_1.pth').read_bytes() == kept
    assert not list(work_dir.rglob('.*.aside*'))
    (disk.folder / 'ballast').unlink()
    train('--work-dir', work_dir, '--resume')
    assert (work_dir / 'epoch_2.pth').is_file()


def test_a_bank_on_a_full_disk_is_completed_later(disk: SmallDisk) -> None:
    def opened() -> Bank:
        return open_bank(disk.folder / 'bank', {}, ['a'], lambda: (1, 1, 64, 512))

    vectors, bank = torch.ones(1, 1, 1, 64, 512), opened()
    (shard,) = bank.claim()
    ballast = disk.fill()
    with pytest.raises(WriteError, match=rf'^{disk.folder}/bank/vectors\.f16: {FULL}'):
        bank.write(shard, vectors, {})
    with pytest.raises(DFERError, match=r'needs 65\.5 kB more, but only 0 bytes are free'):
        opened()
    ballast.unlink()
    assert opened().missing() == [shard]
    bank.write(shard, vectors, {})
    assert opened().missing() == [] and opened().verify() == []


# ------------------------------------------------------------------ the errors


@pytest.mark.parametrize(
    ('code', 'remedy'),
    [
        (errno.ENOSPC, 'free space on that disk or give a folder on another one'),
        (errno.EDQUOT, 'free some of your quota'),
        (errno.EROFS, 'not mounted read-only'),
        (errno.EACCES, 'change the permissions'),
        (errno.EIO, 'check that the disk works'),
    ],
)
def test_an_error_of_the_disk_names_the_file_and_the_remedy(
    code: int, remedy: str, tmp_path: Path
) -> None:
    path = tmp_path / 'scores.json'
    with pytest.raises(DFERError) as caught, write_aside(path) as aside:
        aside.write_text('{"a')
        raise OSError(code, os.strerror(code))
    line = str(caught.value)
    assert line.startswith(f'{path}: cannot be written ({os.strerror(code)}); ') and remedy in line
    assert not list(tmp_path.iterdir())


def test_long_names_are_written_as_far_as_the_disk_allows(tmp_path: Path) -> None:
    for name in ('a' * 240 + '.npz', '脸' * 80 + '.npz'):  # both have at most 255 bytes
        with write_aside(tmp_path / name) as aside:
            aside.write_text('whole')
        assert (tmp_path / name).read_text() == 'whole'
    path = tmp_path / ('a' * 260 + '.npz')
    with pytest.raises(DFERError, match='give a shorter name'), write_aside(path) as aside:
        aside.write_text('whole')
    assert len(list(tmp_path.iterdir())) == 2


def test_other_errors_are_not_changed(tmp_path: Path) -> None:
    for context in (explain_write_errors, explain_full_disk, write_aside):
        with pytest.raises(FileNotFoundError) as caught, context(tmp_path / 'x'):
            raise FileNotFoundError(errno.ENOENT, 'gone', 'clip.mp4')
        assert type(caught.value) is FileNotFoundError
        with pytest.raises(DFERError, match='^said$'), context(tmp_path / 'x'):
            raise WriteError('said')


def test_an_error_on_reading_is_not_taken_for_one_on_writing(tmp_path: Path) -> None:
    folder = tmp_path / 'run'
    with pytest.raises(PermissionError) as caught, explain_full_disk(folder):
        raise PermissionError(errno.EACCES, 'denied', '/data/clip.mp4')
    assert type(caught.value) is PermissionError
    with pytest.raises(WriteError, match='run/a.log: cannot'), explain_full_disk(folder):
        raise PermissionError(errno.EACCES, 'denied', str(folder / 'a.log'))
    with pytest.raises(WriteError, match=r'a file in .*run: cannot'), explain_full_disk(folder):
        raise OSError(errno.ENOSPC, 'full')


def test_a_log_that_cannot_be_written_is_said_once(
    disk: SmallDisk, capsys: pytest.CaptureFixture
) -> None:
    logger = logging.Logger('of this test')
    logger.addHandler(logging.FileHandler(disk.folder / 'run.log'))
    warn_of_lost_logs(logger)
    disk.fill()
    for _ in range(3):
        logger.info('a line')
    said = capsys.readouterr().err
    assert said.count('\n') == 1 and f'warning: {disk.folder}/run.log: cannot be written' in said
    (disk.folder / 'ballast').unlink()
    logger.handlers[0].close()


# ------------------------------------------------------------------ imported checkpoints


def test_a_checkpoint_is_imported_completely_or_not_at_all(disk: SmallDisk, tmp_path: Path) -> None:
    training_script.save(tmp_path / 'model.pth', former_dfer.state_dict())
    out = disk.folder / 'out'
    with pytest.raises(DFERError, match=r'checkpoint\.pth: ' + FULL):
        import_checkpoint('former_dfer', tmp_path / 'model.pth', 'dfew', out)
    assert list(out.iterdir()) == []
    disk.resize(100 * 1024, 'remount')
    import_checkpoint('former_dfer', tmp_path / 'model.pth', 'dfew', out)
    assert {path.name for path in out.iterdir()} == {'config.py', 'checkpoint.pth'}
