"""Files that are whole or absent, whenever the process dies."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from mmdfer.errors import DFERError

T = TypeVar('T')

# Faults that pass: of a network file system, of a server under load, of too many open files.
_NAMES = ('EAGAIN', 'EBUSY', 'EINTR', 'EIO', 'EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM', 'ESTALE')
_NAMES += ('ECONNRESET', 'ENETDOWN', 'ENETUNREACH', 'EHOSTDOWN', 'EREMOTEIO', 'ETIMEDOUT')
PASSING = frozenset(getattr(errno, name) for name in _NAMES if hasattr(errno, name))
# Seconds to wait before reading again.
WAITS = (0.1, 0.5, 2.0)


class FileSystemError(DFERError):
    """A file system fails, or refuses a file. The file itself may be whole."""


def read_patiently(read: Callable[[], T], path: str | os.PathLike) -> T:
    """Call ``read``, again after a pause where the file system fails for a moment.

    Args:
        read: Reads the file or folder. It may raise an OSError.
        path: What it reads, for the error.

    Returns:
        What ``read`` returns.

    Raises:
        FileSystemError: The fault does not pass within three seconds, or the file may not be read.
        OSError: Any other, for example that there is no such file.
    """
    for wait in (*WAITS, None):
        try:
            return read()
        except OSError as error:
            fault = error
        if fault.errno not in PASSING:
            break
        if wait is not None:
            time.sleep(wait)
    if fault.errno in PASSING:
        raise FileSystemError(
            f'{path}: the file system fails ({fault.strerror}), {len(WAITS) + 1} times in '
            f'{sum(WAITS):.1f} s; check it, then go on with --resume'
        ) from fault
    if fault.errno in (errno.EACCES, errno.EPERM):
        raise FileSystemError(
            f'{path}: may not be read ({fault.strerror}); correct its permissions'
        ) from fault
    raise fault


@contextmanager
def write_aside(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a path to write to, which takes the place of `path` once it is whole on disk.

    Whoever reads `path` sees the old file or the new one, never a part; a kill leaves at most
    a file `.<stem>.<pid>.aside<suffix>` beside it. An error inside the block leaves `path` as
    it was.

    Args:
        path: the file to be written; its folder is made where missing.

    Yields:
        A path in the same folder with the same suffix.

    Example:
        >>> with write_aside('scores.json') as aside:
        ...     aside.write_text('{}')
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f'.{path.stem}.{os.getpid()}.aside{path.suffix}')
    try:
        yield aside
        with aside.open('rb+') as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == 'nt':  # Windows opens no folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
