"""A feature bank: the frame vectors of a dataset's views on disk, encoded once.

::

    DIR/manifest.json      what the vectors depend on, their shape, and the clips of each shard
    DIR/vectors.f16        (clips, V, views, T, D) in half precision, little-endian, shard by shard
    DIR/shards/00000.json  the shard's SHA-256, which of its clips could not be read, and which are
                           absent, because they had other pictures by the time it was encoded
    DIR/shards/00000.lock  held by the process that encodes the shard

A shard counts once its record is there, which is written after its bytes are on disk: a process
killed at any instant leaves whole shards, and the next one goes on with the others. Ranks, and runs
that know nothing of each other, share the work by the locks, which the system frees with their
holder. Clips that a bank does not have are appended, so that it serves every fold.

A clip is named ``<name>@<fingerprint>``, by :func:`versioned`: with other pictures it is another
clip of the bank, and is appended too. What other runs read stays where it is.
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

try:
    import fcntl
except ImportError:  # Windows, where filelock uses other locks
    fcntl = None  # type: ignore[assignment]  # its users ask whether it is there

CLIPS_PER_SHARD = 64
_BYTES = 2  # of a number in half precision


class Bank:
    """An open bank; :func:`open_bank` makes or extends one.

    Args:
        folder: Where it lies.
        shape: (V, views, T, D) of each clip.
        shards: The names of the clips of each shard.
        wanted: The clips that must be there; the shards without any of them are left alone.

    """

    def __init__(
        self, folder: Path, shape: Sequence[int], shards: list[list[str]], wanted: set[str]
    ) -> None:
        self.folder, self.shape, self.shards = folder, tuple(shape), shards
        self._wanted = [k for k, clips in enumerate(shards) if not wanted.isdisjoint(clips)]
        self._clips = wanted
        self._starts = [0, *accumulate(map(len, shards))]  # each shard's first row
        self._held: dict[int, FileLock] = {}

    @property
    def vectors(self) -> Tensor:
        """All vectors, (clips, V, views, T, D) float16: a map of the file, read as it is used."""
        return map_vectors(self.file, (self._starts[-1], *self.shape))

    @property
    def rows(self) -> dict[str, int]:
        """The row of each clip in :attr:`vectors`."""
        rows: dict[str, int] = {}
        for shard, clips in enumerate(self.shards):
            absent = (self._record(shard) or {}).get('absent', ())
            rows |= {c: r for c, r in zip(clips, self.rows_of(shard)) if c not in absent}
        return rows

    def outdated(self) -> list[str]:
        """List the clips still to be encoded of which the bank has vectors of other pictures."""
        missing = [clip for shard in self.missing() for clip in self.shards[shard]]
        old = {_clip_of(c) for c in chain.from_iterable(self.shards) if c not in self._clips}
        return [_clip_of(c) for c in missing if c in self._clips and _clip_of(c) in old]

    @property
    def unreadable(self) -> dict[str, int]:
        """How many pictures could not be read, of the clips of which some could not."""
        records = map(self._record, range(len(self.shards)))
        return {clip: n for r in records if r is not None for clip, n in r['unreadable'].items()}

    def rows_of(self, shard: int) -> range:
        """The rows of a shard."""
        return range(self._starts[shard], self._starts[shard + 1])

    def missing(self) -> list[int]:
        """The wanted shards that are still to be encoded."""
        return [shard for shard in self._wanted if self._record(shard) is None]

    def clips_missing(self) -> int:
        """The number of wanted clips in them."""
        return sum(clip in self._clips for shard in self.missing() for clip in self.shards[shard])

    def check_known(self, clips: set[str]) -> None:
        """Raises DFERError where a missing shard has other clips, which cannot be encoded here.

        A clip that is known with other pictures does not count: its shard is encoded without it.
        """
        known = set(map(_clip_of, clips))
        for shard in self.missing():
            if others := set(map(_clip_of, self.shards[shard])) - known:
                raise DFERError(
                    f'{self.folder}: was left unfinished by a run over more clips (shard {shard} '
                    f'has {min(others)!r}, unknown here); finish it with the config of that run, '
                    'or delete the folder'
                )

    # ---------------------------------------------------------------- writing

    def claim(self) -> Iterator[int]:
        """Yields missing shards that nobody else is encoding; each is ours until it is written."""
        for shard in self.missing():
            lock = self._lock(shard)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            if self._record(shard) is not None:  # written since we looked
                lock.release()
                continue
            for left_over in self.folder.glob(f'shards/.{shard:05d}.*.aside.json'):
                left_over.unlink()  # by a process that was killed, since the lock is ours
            self._held[shard] = lock
            yield shard

    def wait(self) -> None:
        """Waits until the first missing shard is written by its holder, or its holder is gone."""
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
        """Writes a claimed shard, and gives it free.

        Args:
            shard: Its number.
            vectors: (clips of the shard, V, views, T, D).
            unreadable: As :attr:`unreadable`, of its clips.
            absent: Its clips whose pictures are no longer there, and whose vectors mean nothing.

        Raises:
            DFERError: A vector has a number that half precision does not hold.
        """
        half = vectors.to(torch.float16)
        if not half.isfinite().all():
            raise DFERError(
                f'{self.folder}: a frame vector of clips {self.shards[shard][0]} to '
                f'{self.shards[shard][-1]} is not finite in half precision: train without --bank'
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
        """Compares each shard with its checksum, and forgets those that differ.

        Returns:
            These; they are missing again.
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
        """Return the path of the vectors."""
        return self.folder / 'vectors.f16'

    def _path(self, shard: int, suffix: str) -> Path:
        return self.folder / 'shards' / f'{shard:05d}{suffix}'

    def _lock(self, shard: int) -> FileLock:
        return FileLock(self._path(shard, '.lock'))

    def _offset(self, shard: int) -> int:
        return self._starts[shard] * prod(self.shape) * _BYTES

    def _record(self, shard: int) -> dict[str, Any] | None:
        path = self._path(shard, '.json')
        try:
            record = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except ValueError:
            record = None
        if not (isinstance(record, dict) and {'sha256', 'unreadable'} <= record.keys()):
            raise DFERError(f'{path}: is not what extraction wrote; delete it')
        return record

    def allocate(self) -> None:
        """Gives the file its full size; what is not there yet takes no space until written.

        Raises:
            DFERError: The disk is too full for what is missing.
        """
        sizes = [self._offset(k + 1) - self._offset(k) for k in self.missing()]
        free = shutil.disk_usage(self.folder).free
        if sum(sizes) > free:
            raise DFERError(
                f'{self.folder}: the bank needs {_in_bytes(sum(sizes))} more, {_in_bytes(free)} '
                'are free: give --bank a folder on another disk'
            )
        with explain_write_errors(self.file):
            self.file.touch()
            total = self._offset(len(self.shards))
            if self.file.stat().st_size < total:
                os.truncate(self.file, total)


def map_vectors(file: Path, shape: Sequence[int]) -> Tensor:
    """Map a file of vectors into memory, float16, read as it is used.

    The map is not shared: what is written to the tensor never reaches the file.
    """
    return torch.from_file(str(file), False, prod(shape), dtype=torch.float16).view(*shape)


def _in_bytes(count: int) -> str:
    """Return a number of bytes in the largest unit of which there is at least one."""
    for unit, name in ((10**12, 'TB'), (10**9, 'GB'), (10**6, 'MB'), (10**3, 'kB')):
        if count >= unit:
            return f'{count / unit:.1f} {name}'
    return f'{count} bytes'


def versioned(clip: str, fingerprint: str) -> str:
    """Return the name in a bank of a clip with these pictures."""
    return f'{clip}@{fingerprint}'


def _clip_of(name: str) -> str:
    """Return the clip that a name in a bank is a version of."""
    return name.rpartition('@')[0]


def check_bank(folder: Path, settings: dict[str, Any]) -> None:
    """Raise DFERError where there is a bank of other settings, or none that can be read."""
    if (manifest := _read_manifest(folder / 'manifest.json')) is not None:
        _check_settings(folder, manifest['settings'], settings)


def open_bank(
    folder: Path,
    settings: dict[str, Any],
    clips: Sequence[str],
    shape: Callable[[], Sequence[int]],
) -> Bank:
    """Opens a bank, made where there is none, and appends the clips that it does not have.

    Args:
        folder: Where it lies.
        settings: JSON values, all that the vectors depend on.
        clips: The names of the clips that are wanted, each once.
        shape: Gives (V, views, T, D); called where the bank is new.

    Raises:
        DFERError: The bank was encoded with other settings, it is not one, or the disk is full.
    """
    with explain_write_errors(folder):
        (folder / 'shards').mkdir(parents=True, exist_ok=True)
    path = folder / 'manifest.json'
    _check_locks(folder / 'manifest.lock')
    with FileLock(folder / 'manifest.lock'):
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


def _check_locks(path: Path) -> None:
    """Raise DFERError where the file system of a lock file has no locks.

    filelock then waits for ever, or leaves a file that outlives a killed process and locks the
    others out, or raises: that depends on its version and on the file system.
    """
    if fcntl is None:
        return
    with explain_write_errors(path), path.open('a') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(file, fcntl.LOCK_UN)
        except (BlockingIOError, PermissionError):  # held by another process: there are locks
            return
        except OSError as error:
            raise DFERError(
                f'{path.parent}: its file system does not lock files ({error.strerror}): give '
                '--bank a folder on another file system, or mount this one with locks (Lustre: '
                '-o flock; NFS: without nolock)'
            ) from error


def _read_manifest(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text())
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict) or manifest.keys() != {'settings', 'shape', 'shards'}:
        raise DFERError(f"{path}: is not a bank's manifest; delete {path.parent}")
    return manifest


def _check_settings(folder: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    changed = list(_differences(then, now))
    if changed:
        key, old, new = changed[0]
        more = f' (and {len(changed) - 1} more)' * (len(changed) > 1)
        raise DFERError(
            f'{folder}: was encoded with other settings: {key} was {old}, is {new}{more}; give '
            '--bank another folder, or delete this one to encode it anew'
        )


def _differences(then: Any, now: Any, key: str = '') -> Iterator[tuple[str, str, str]]:
    """The dotted keys at which two JSON values differ, with both values."""
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
