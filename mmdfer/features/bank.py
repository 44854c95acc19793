"""Store the frame vectors of a dataset's views on disk in a feature bank, encoded once.

A feature bank is a folder::

    DIR/manifest.json      the settings on which the vectors depend, the shape of the vectors, and
                           the names of the clips in each shard
    DIR/vectors.f16        the vectors (clips, V, views, T, D) of all shards in order, in half
                           precision, little-endian
    DIR/shards/00000.json  the record of a finished shard: its SHA-256, the clips that could not be
                           read, and the clips that are absent because their pictures had changed
                           before the shard was encoded
    DIR/shards/00000.lock  a lock file; the process that encodes the shard holds the lock

V is the number of views of each clip, as in ``num_views`` of the dataset; 1 in test mode. The axis
``views`` holds the frame sequences that the pipeline returns for one view: one, or several if the
test pipeline samples several sequences or crops. T is the number of frames, and D is the width of a
frame vector.

A shard is finished when its record exists. The record is written after the vectors are on disk.
A process that is killed therefore leaves complete shards, and the next process encodes the rest.
Several ranks, and also independent runs, can fill the same bank: the locks divide the shards among
them, and the operating system releases the locks of a process that ends. Clips that a bank does
not have yet are appended, so that one bank serves all folds.

The name of a clip in a bank is ``<name>@<fingerprint>``; see :func:`versioned`. If the pictures of
a clip change, the clip gets another name and is appended like a new clip. The vectors that other
runs are reading do not move.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain
from math import prod
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from mmdfer.errors import DFERError
from mmdfer.files import clear_leftovers, explain_write_errors, write_aside
from mmdfer.locks import lock_file

CLIPS_PER_SHARD = 64
_BYTES = 2  # size of a number in half precision


class Bank:
    """Read and write an open feature bank; :func:`open_bank` creates or extends one.

    Args:
        folder: Folder of the bank.
        shape: Shape (V, views, T, D) of the vectors of each clip.
        shards: Names of the clips in each shard.
        wanted: Names of the clips that the caller needs. Shards without any of these clips are
            neither encoded nor waited for.
    """

    def __init__(
        self, folder: Path, shape: Sequence[int], shards: list[list[str]], wanted: set[str]
    ) -> None:
        self.folder, self.shape, self.shards = folder, tuple(shape), shards
        self._wanted = [k for k, clips in enumerate(shards) if not wanted.isdisjoint(clips)]
        self._clips = wanted
        self._starts = [0, *accumulate(map(len, shards))]  # first row of each shard
        self._held: dict[int, FileLock] = {}

    @property
    def vectors(self) -> Tensor:
        """Return the vectors of all clips, (clips, V, views, T, D) in float16.

        The file is mapped into memory and read from disk when its values are used.
        """
        return map_vectors(self.file, (self._starts[-1], *self.shape))

    @property
    def rows(self) -> dict[str, int]:
        """Return the row of each clip in :attr:`vectors`, keyed by the clip's name in the bank."""
        rows: dict[str, int] = {}
        for shard, clips in enumerate(self.shards):
            absent = (self._record(shard) or {}).get('absent', ())
            rows |= {c: r for c, r in zip(clips, self.list_rows(shard)) if c not in absent}
        return rows

    def outdated(self) -> list[str]:
        """List the clips to be encoded again because their pictures have changed.

        The bank has vectors of earlier pictures of these clips, under another fingerprint.
        """
        missing = [clip for shard in self.missing() for clip in self.shards[shard]]
        others = [c for c in chain.from_iterable(self.shards) if c not in self._clips]
        old = set(map(_strip_fingerprint, others))
        names = [_strip_fingerprint(c) for c in missing if c in self._clips]
        return [name for name in names if name in old]

    @property
    def unreadable(self) -> dict[str, int]:
        """Return the number of pictures that could not be read, for each clip with such pictures.

        Keys are the names of clips in the bank.
        """
        records = map(self._record, range(len(self.shards)))
        return {clip: n for r in records if r is not None for clip, n in r['unreadable'].items()}

    def list_rows(self, shard: int) -> range:
        """Return the rows of a shard in :attr:`vectors`."""
        return range(self._starts[shard], self._starts[shard + 1])

    def missing(self) -> list[int]:
        """Return the numbers of the shards that are needed but not encoded yet."""
        return [shard for shard in self._wanted if self._record(shard) is None]

    def clips_missing(self) -> int:
        """Return the number of needed clips that are not encoded yet."""
        return sum(clip in self._clips for shard in self.missing() for clip in self.shards[shard])

    def check_known(self, clips: set[str]) -> None:
        """Check that this process can encode every shard that is needed but not encoded yet.

        Args:
            clips: Names in the bank of the clips that this process can encode. A shard that also
                holds an earlier version of such a clip is encoded without that version.

        Raises:
            DFERError: If such a shard holds a clip that is not among ``clips`` in any version.
        """
        known = set(map(_strip_fingerprint, clips))
        for shard in self.missing():
            if others := set(map(_strip_fingerprint, self.shards[shard])) - known:
                raise DFERError(
                    f'{self.folder}: the bank was left unfinished by a run over other clips (shard '
                    f'{shard} has {min(others)!r}, which this dataset does not have); finish the '
                    'bank with the config of that run, or delete the folder'
                )

    # ---------------------------------------------------------------- writing

    def claim(self) -> Iterator[int]:
        """Lock and yield each missing shard that no other process is encoding.

        The lock of a shard is held until the shard is written; see :meth:`write`.
        """
        for shard in self.missing():
            lock = self._lock(shard)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            if self._record(shard) is not None:  # another process has just written the shard
                lock.release()
                continue
            for left_over in self.folder.glob(f'shards/.{shard:05d}.*.aside.json'):
                left_over.unlink()  # of a killed process: no living one writes without the lock
            self._held[shard] = lock
            yield shard

    def wait(self) -> None:
        """Wait until the process that encodes the first missing shard releases its lock.

        The lock is released when the shard is written, or when the process ends.
        """
        for shard in self.missing()[:1]:
            with self._lock(shard):
                pass

    def write(
        self,
        shard: int,
        vectors: Tensor,
        unreadable: dict[str, int],
        absent: Sequence[str] = (),
    ) -> None:
        """Write a claimed shard and release its lock.

        Args:
            shard: Number of the shard.
            vectors: Vectors (clips of the shard, V, views, T, D).
            unreadable: Number of pictures that could not be read, for each clip of the shard that
                has such pictures.
            absent: Names of the clips in the shard whose pictures no longer exist. Their vectors
                are ignored.

        Raises:
            DFERError: If a vector has a value that is not finite in half precision.
        """
        half = vectors.to(torch.float16)
        if not half.isfinite().all():
            raise DFERError(
                f'{self.folder}: a frame vector of clips {self.shards[shard][0]} to '
                f'{self.shards[shard][-1]} is not finite in half precision; train without --bank'
            )
        content = half.cpu().contiguous().numpy().astype('<f2', copy=False).tobytes()
        with explain_write_errors(self.file), self.file.open('rb+') as file:
            file.seek(self._offset(shard))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        record = dict(sha256=hashlib.sha256(content).hexdigest(), unreadable=unreadable)
        if absent:
            record['absent'] = list(absent)
        with write_aside(self._path(shard, '.json')) as aside:
            aside.write_text(json.dumps(record))
        if (lock := self._held.pop(shard, None)) is not None:
            lock.release()

    def verify(self) -> list[int]:
        """Compare the vectors of each shard with its checksum.

        The record of a damaged shard is deleted, so that the shard is encoded again.

        Returns:
            The numbers of the damaged shards.
        """
        damaged = []
        with self.file.open('rb') as file:
            for shard in range(len(self.shards)):
                record = self._record(shard)
                if record is None:
                    continue
                file.seek(self._offset(shard))
                content = file.read(self._offset(shard + 1) - self._offset(shard))
                if hashlib.sha256(content).hexdigest() != record['sha256']:
                    self._path(shard, '.json').unlink(missing_ok=True)
                    damaged.append(shard)
        return damaged

    # ---------------------------------------------------------------- files

    @property
    def file(self) -> Path:
        """Return the path of the file that holds the vectors."""
        return self.folder / 'vectors.f16'

    def _path(self, shard: int, suffix: str) -> Path:
        """Return the path of the record or the lock of a shard."""
        return self.folder / 'shards' / f'{shard:05d}{suffix}'

    def _lock(self, shard: int) -> FileLock:
        """Return the lock of a shard."""
        return FileLock(self._path(shard, '.lock'))

    def _offset(self, shard: int) -> int:
        """Return the position of the first byte of a shard in the file of vectors."""
        return self._starts[shard] * prod(self.shape) * _BYTES

    def _record(self, shard: int) -> dict[str, Any] | None:
        """Read the record of a shard, or return None if the shard is not encoded yet."""
        path = self._path(shard, '.json')
        try:
            record = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except ValueError:
            record = None
        if not (isinstance(record, dict) and {'sha256', 'unreadable'} <= record.keys()):
            raise DFERError(f'{path}: the record of the shard is damaged; delete this file')
        return record

    def allocate(self) -> None:
        """Extend the file of vectors to its full size, as a sparse file.

        Raises:
            DFERError: If the disk has too little free space for the missing shards.
        """
        sizes = [self._offset(k + 1) - self._offset(k) for k in self.missing()]
        free = shutil.disk_usage(self.folder).free
        if sum(sizes) > free:
            raise DFERError(
                f'{self.folder}: the bank needs {_in_bytes(sum(sizes))} more, but only '
                f'{_in_bytes(free)} are free; give --bank a folder on another disk'
            )
        with explain_write_errors(self.file):
            self.file.touch()
            total = self._offset(len(self.shards))
            if self.file.stat().st_size < total:
                os.truncate(self.file, total)


def map_vectors(file: Path, shape: Sequence[int]) -> Tensor:
    """Map a file of vectors into memory as a float16 tensor.

    The file is read when values of the tensor are used. Writing to the tensor does not change the
    file.

    Args:
        file: Path of the file.
        shape: Shape of the tensor.
    """
    return torch.from_file(str(file), False, prod(shape), dtype=torch.float16).view(*shape)


def _in_bytes(count: int) -> str:
    """Format a number of bytes in a suitable unit, for example ``2.5 MB``."""
    for unit, name in ((10**12, 'TB'), (10**9, 'GB'), (10**6, 'MB'), (10**3, 'kB')):
        if count >= unit:
            return f'{count / unit:.1f} {name}'
    return f'{count} bytes'


def versioned(clip: str, fingerprint: str) -> str:
    """Return the name of a clip in a bank, which also identifies the version of its pictures.

    Args:
        clip: Name of the clip within its dataset.
        fingerprint: Fingerprint of the clip's pictures, from
            :func:`~mmdfer.features.fingerprints.fingerprint_clips`.
    """
    return f'{clip}@{fingerprint}'


def _strip_fingerprint(name: str) -> str:
    """Return the name of a clip within its dataset, given its name in a bank."""
    return name.rpartition('@')[0]


def check_bank(folder: Path, settings: dict[str, Any]) -> None:
    """Check that a folder holds no bank, or a bank that was encoded with the given settings.

    Raises:
        DFERError: If the settings differ, or the manifest of the bank cannot be read.
    """
    if (manifest := _read_manifest(folder / 'manifest.json')) is not None:
        _check_settings(folder, manifest['settings'], settings)


def open_bank(
    folder: Path,
    settings: dict[str, Any],
    clips: Sequence[str],
    shape: Callable[[], Sequence[int]],
) -> Bank:
    """Open a bank, or create it, and append the clips that it does not have yet.

    The vectors of appended clips are not encoded yet; see :meth:`Bank.missing`.

    Args:
        folder: Folder of the bank.
        settings: All settings on which the vectors depend, as JSON values.
        clips: Names in the bank of the clips that are needed, without repetition.
        shape: Function that returns the shape (V, views, T, D) of the vectors of each clip. It is
            called only if the bank is new.

    Raises:
        DFERError: If the bank was encoded with other settings, the folder holds a damaged bank, or
            the disk is full.
    """
    with explain_write_errors(folder):
        (folder / 'shards').mkdir(parents=True, exist_ok=True)
    path = folder / 'manifest.json'
    with lock_file(folder / 'manifest.lock', '--bank'):
        clear_leftovers(folder)
        manifest = _read_manifest(path)
        if manifest is None:
            manifest = dict(settings=settings, shape=list(shape()), shards=[])
        _check_settings(folder, manifest['settings'], settings)
        wanted = set(clips)
        known = Bank(folder, manifest['shape'], manifest['shards'], wanted).rows
        new = [clip for clip in clips if clip not in known]
        for start in range(0, len(new), CLIPS_PER_SHARD):
            manifest['shards'].append(new[start : start + CLIPS_PER_SHARD])
        bank = Bank(folder, manifest['shape'], manifest['shards'], wanted)
        bank.check_known(wanted)
        bank.allocate()
        if new:
            with write_aside(path) as aside:
                aside.write_text(json.dumps(manifest, indent=1))
    return bank


def _read_manifest(path: Path) -> dict[str, Any] | None:
    """Read the manifest of a bank, or return None if the file does not exist."""
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text())
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict) or manifest.keys() != {'settings', 'shape', 'shards'}:
        raise DFERError(
            f'{path}: the file is not the manifest of a feature bank; delete {path.parent}'
        )
    return manifest


def _check_settings(folder: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise DFERError if the settings of a bank (``then``) differ from the current ones."""
    changed = list(_differences(then, now))
    if changed:
        key, old, new = changed[0]
        more = f' (and {len(changed) - 1} more)' * (len(changed) > 1)
        raise DFERError(
            f'{folder}: the bank was encoded with other settings: {key} was {old}, is {new}{more}; '
            'give --bank another folder, or delete this folder to encode the clips again'
        )


def _differences(then: Any, now: Any, key: str = '') -> Iterator[tuple[str, str, str]]:
    """Yield the dotted keys at which two JSON values differ, with both values as text."""
    if isinstance(then, list) and isinstance(now, list):
        then, now = dict(enumerate(then)), dict(enumerate(now))
    if not (isinstance(then, dict) and isinstance(now, dict)):
        if then != now:
            yield key, json.dumps(then), json.dumps(now)
        return
    for name in {**then, **now}:
        dotted = f'{key}.{name}' if key else str(name)
        if name not in then:
            yield dotted, 'not there', json.dumps(now[name])
        elif name not in now:
            yield dotted, json.dumps(then[name]), 'not there'
        else:
            yield from _differences(then[name], now[name], dotted)
