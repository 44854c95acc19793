"""Files that are whole or absent, whenever the process dies or the disk is full."""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from mmdfer.errors import DFERError

T = TypeVar('T')

# Faults that pass: of a network file system, of a server under load, of too many open files.
_NAMES = (
    'EAGAIN EBUSY EINTR EIO EMFILE ENFILE ENOBUFS ENOMEM ESTALE '
    'ECONNRESET ENETDOWN ENETUNREACH EHOSTDOWN EREMOTEIO ETIMEDOUT'
)
# A system may lack some of them.
PASSING = frozenset(vars(errno)[name] for name in _NAMES.split() if name in vars(errno))
# Seconds to wait before reading again.
WAITS = (0.1, 0.5, 2.0)

# What the user can do about an error on writing.
_AGAIN = 'then run the same command again'
_REMEDIES: dict[int | None, str] = {  # by OSError.errno, which may be None
    errno.ENOSPC: f'free space on that disk or give a folder on another one, {_AGAIN}',
    errno.EDQUOT: f'free some of your quota or give a folder on another disk, {_AGAIN}',
    errno.EROFS: f'give a folder on a disk that is not mounted read-only, {_AGAIN}',
    errno.EACCES: f'change the permissions or give another folder, {_AGAIN}',
    errno.EPERM: f'change the permissions or give another folder, {_AGAIN}',
    errno.EIO: f'check that the disk works and has space, {_AGAIN}',
}
_ONLY_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # no read fails with these
_ASIDE = re.compile(r'\..+\.(\d{1,9})\.aside(\.[^.]*)?')
_PROBE = 1 << 16  # bytes; the logs of the start of a run take less
_LONGEST_WRITE = 3600  # seconds; no process takes longer for one file


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


class WriteError(DFERError, OSError):
    """A file cannot be written, for a reason that the user can mend."""


@contextmanager
def explain_write_errors(path: str | os.PathLike) -> Iterator[None]:
    """Turn the system's errors on writing into one line that names the file and the remedy.

    Args:
        path: The file or folder that is written in the block, in which nothing is read.

    Raises:
        WriteError: The disk is full, broken or read-only, the quota is used up, or the user may
            not write there.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, DFERError) or error.errno not in _REMEDIES:
            raise
        raise WriteError(_line(path, error)) from error


@contextmanager
def explain_full_disk(*places: str | os.PathLike) -> Iterator[None]:
    """Turn a full disk into one line, in a block that also reads and lets other packages write.

    Where the system does not say which file could not be written, the line names the places.

    Args:
        places: The folders and files that are written.

    Raises:
        WriteError: The disk is full or read-only, or the user may not write in these places.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, DFERError):
            raise
        named = Path(error.filename) if isinstance(error.filename, str) else None
        inside = named is not None and any(Path(p) in (named, *named.parents) for p in places)
        if error.errno not in (_REMEDIES if inside else _ONLY_WRITING):
            raise
        anywhere = f'a file in {" or ".join(map(str, places))}'
        raise WriteError(_line(named or anywhere, error)) from error


def _line(path: str | os.PathLike, error: OSError) -> str:
    return f'{path}: cannot be written ({error.strerror}); {_REMEDIES[error.errno]}'


def check_writable(folder: str | os.PathLike) -> None:
    """Make a folder and write a small file in it for a moment, before a long run finds out.

    Raises:
        WriteError: The file cannot be written.
    """
    folder = Path(folder)
    probe = folder / f'.probe.{os.getpid()}.aside'
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            probe.write_bytes(bytes(_PROBE))
        finally:
            probe.unlink(missing_ok=True)


def warn_of_lost_logs(logger: logging.Logger) -> None:
    """Print one line where a log file cannot be written, instead of a traceback for each record.

    Args:
        logger: The logger whose files are watched. Training continues without them.
    """
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            # A method of this one handler is replaced.
            handler.handleError = _Warning(handler)  # type: ignore[method-assign]


class _Warning:
    """Report once that the disk of a log file is full; leave other errors to the handler."""

    def __init__(self, handler: logging.FileHandler) -> None:
        self.path, self.upstream, self.said = handler.baseFilename, handler.handleError, False

    def __call__(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not (isinstance(error, OSError) and error.errno in _REMEDIES):
            self.upstream(record)
        elif not self.said:
            self.said = True
            print(f'warning: {_line(self.path, error)}', file=sys.stderr)


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

    Raises:
        WriteError: as :func:`explain_write_errors` does.

    Example:
        >>> with write_aside('scores.json') as aside:
        ...     aside.write_text('{}')
    """
    path = Path(path)
    aside = path.with_name(f'.{path.stem}.{os.getpid()}.aside{path.suffix}')
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield aside
            with aside.open('rb+') as file:
                os.fsync(file.fileno())
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
        _sync_folder(path.parent)


def clear_leftovers(folder: Path) -> None:
    """Delete the files that killed processes left half-written in a folder.

    Only names that :func:`write_aside` gives are deleted, and none that a living process of this
    machine may still be writing. A process on another machine cannot be seen: call this only
    where no other machine writes at the same time.
    """
    for path in folder.glob('.*.aside*'):
        match = _ASIDE.fullmatch(path.name)
        if match and path.is_file() and not _is_being_written(path, int(match[1])):
            path.unlink(missing_ok=True)


def _is_being_written(path: Path, pid: int) -> bool:
    if pid == os.getpid():  # this process is not inside of write_aside now
        return False
    if os.name != 'nt':  # Windows has no signal 0: there, only the age tells
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # it lives and belongs to another user
            pass
    # Numbers of processes are used again, so that one of an old file may live by chance.
    return time.time() - path.stat().st_mtime < _LONGEST_WRITE


def _sync_folder(folder: Path) -> None:
    if os.name == 'nt':  # Windows opens no folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
