"""Read and write files safely: a file is complete or absent, even after a crash or a full disk."""

from __future__ import annotations

import codecs
import errno
import hashlib
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

# Errors that may disappear after a moment: a network file system fails, a server is overloaded, or
# too many files are open.
_NAMES = (
    'EAGAIN EBUSY EINTR EIO EMFILE ENFILE ENOBUFS ENOMEM ESTALE '
    'ECONNRESET ENETDOWN ENETUNREACH EHOSTDOWN EREMOTEIO ETIMEDOUT'
)
# Not every operating system defines all of these names.
PASSING = frozenset(vars(errno)[name] for name in _NAMES.split() if name in vars(errno))
# The seconds to wait before the second, third and fourth attempt to read.
WAITS = (0.1, 0.5, 2.0)

# What the user can do about an error in writing.
_AGAIN = 'then run the same command again'
_REMEDIES: dict[int | None, str] = {  # by OSError.errno, which may be None
    errno.ENOSPC: f'free space on that disk or give a folder on another one, {_AGAIN}',
    errno.EDQUOT: f'free some of your quota or give a folder on another disk, {_AGAIN}',
    errno.EROFS: f'give a folder on a disk that is not mounted read-only, {_AGAIN}',
    errno.EACCES: f'change the permissions or give another folder, {_AGAIN}',
    errno.EPERM: f'change the permissions or give another folder, {_AGAIN}',
    errno.ENAMETOOLONG: f'give a shorter name, {_AGAIN}',
    errno.EIO: f'check that the disk works and has space, {_AGAIN}',
}
_ONLY_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # only writing fails with these errors
_ASIDE = re.compile(r'\..+\.(\d{1,9})\.aside(\.[^.]*)?')
_LONGEST_STEM = 200  # bytes of a temporary name; file systems allow 255 for the whole name
_PROBE = 1 << 16  # bytes, which is more than the logs of the start of a run take
_LONGEST_WRITE = 3600  # seconds, within which every process has written a single file


class FileSystemError(DFERError):
    """Report a file system that fails or denies access. The file itself may be undamaged."""


def read_patiently(read: Callable[[], T], path: str | os.PathLike) -> T:
    """Call a function that reads, and repeat the call while the file system fails for a moment.

    Args:
        read: A function that reads a file or folder. It may raise an OSError.
        path: The path of this file or folder, for the error message.

    Returns:
        The value that ``read`` returns.

    Raises:
        FileSystemError: If the file system still fails after three seconds, or if the permissions
            do not allow reading.
        OSError: If ``read`` fails in another way, for example because there is no such file.
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
            f'{path}: the file system failed {len(WAITS) + 1} times in {sum(WAITS):.1f} s '
            f'({fault.strerror}); check it, then run the same command again, training with --resume'
        ) from fault
    if fault.errno in (errno.EACCES, errno.EPERM):
        raise FileSystemError(
            f'{path}: access is denied ({fault.strerror}); correct the permissions'
        ) from fault
    raise fault


class WriteError(DFERError, OSError):
    """Report a file that cannot be written, for a reason that the user can correct."""


@contextmanager
def explain_write_errors(path: str | os.PathLike) -> Iterator[None]:
    """Turn an OSError from writing into one line that names the file and the remedy.

    Use it around a block that only writes: an error from reading would be reported as an error
    from writing.

    Args:
        path: The file or folder that the block writes.

    Raises:
        WriteError: If the disk is full, broken or read-only, if the quota is used up, or if the
            user has no permission to write.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, DFERError) or error.errno not in _REMEDIES:
            raise
        raise WriteError(_line(path, error)) from error


@contextmanager
def explain_full_disk(*places: str | os.PathLike) -> Iterator[None]:
    """Turn the error of a full disk into one line, around a block that reads and writes files.

    Other packages may write in the block too. If the error does not name the file that could not
    be written, the line names all places.

    Args:
        places: The folders and files that the block writes.

    Raises:
        WriteError: If the disk is full or read-only, if the quota is used up, or if writing in one
            of these places fails for another reason that the user can correct.
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
    """Return the message of a write error, with the path, the reason and the remedy."""
    return f'{path}: cannot be written ({error.strerror}); {_REMEDIES[error.errno]}'


def check_writable(folder: str | os.PathLike) -> None:
    """Check that files can be written in a folder, before a long run fails on it.

    The folder is created if it is missing. A file of 64 KiB is written and deleted again.

    Args:
        folder: The folder in which the run will write.

    Raises:
        WriteError: If the folder cannot be created or the file cannot be written.
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
    """Make a logger print one warning, not many tracebacks, for a file that it cannot write.

    Training continues without the log file.

    Args:
        logger: The logger. Each of its handlers that writes to a file is changed.
    """
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            # Only the method of this instance is replaced, not the method of the class.
            handler.handleError = _Warning(handler)  # type: ignore[method-assign]


class _Warning:
    """Print one warning when a log file cannot be written, and pass other errors to the handler.

    Args:
        handler: The handler that writes the log file.
    """

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
    """Write a file under a temporary name, and rename it to `path` once it is complete on disk.

    A process that reads `path` sees the old file or the complete new file. A process that is killed
    while it writes leaves at most a temporary file `.<stem>.<pid>.aside<suffix>` in the same
    folder. If the block raises an error, `path` is unchanged.

    Args:
        path: The file to be written. Its folder is created if it is missing.

    Yields:
        The temporary path, in the same folder and with the same suffix. The block must write the
        file there.

    Raises:
        WriteError: If the file cannot be written, as in :func:`explain_write_errors`.

    Example:
        >>> with write_aside('scores.json') as aside:
        ...     aside.write_text('{}')
    """
    path = Path(path)
    stem = path.stem.encode(errors='surrogateescape')[:_LONGEST_STEM].decode(errors='ignore')
    aside = path.with_name(f'.{stem}.{os.getpid()}.aside{path.suffix}')
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


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file in UTF-8, completely or not at all; see :func:`write_aside`."""
    with write_aside(path) as aside:
        aside.write_text(text, encoding='utf-8')


def append_line(path: str | os.PathLike, line: str) -> None:
    """Append a line to a text file in UTF-8, which is on disk when this function returns.

    If the process is killed meanwhile, the file may end in a part of the line, which
    :func:`read_whole_lines` removes.

    Raises:
        WriteError: If the line cannot be written, as in :func:`explain_write_errors`.
    """
    with explain_write_errors(path), Path(path).open('ab') as file:
        file.write(f'{line}\n'.encode())
        file.flush()
        os.fsync(file.fileno())


def read_whole_lines(path: str | os.PathLike) -> list[str]:
    """Return the lines of a file of JSON objects, and remove a last line that was cut off.

    A last line that is complete but has no line break, as some editors leave it, gets one, so that
    :func:`append_line` can continue the file. A file that does not exist has no lines.

    Raises:
        DFERError: If the file is not UTF-8 text.
    """
    content = Path(path).read_bytes() if Path(path).is_file() else b''
    end = content.rfind(b'\n') + 1
    # A line that was cut off has no closing brace. Any other line is for the caller to judge.
    whole = content + b'\n' if b'}' in content[end:] else content[:end]
    text = decode_text(whole, path)
    if whole != content:
        write_text(path, text)
    return text.split('\n')[:-1]


def decode_text(content: bytes, path: str | os.PathLike) -> str:
    """Decode the content of a text file in UTF-8, with or without a byte order mark.

    Args:
        content: The bytes of the file.
        path: The path of the file, for the error message.

    Raises:
        DFERError: If the content is not UTF-8 text.
    """
    try:
        return content.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        marks = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE
        other = 'UTF-16' if content.startswith(marks) else 'GB18030'
        raise DFERError(
            f'{path}: is not UTF-8 text (byte {error.start}: {error.reason}); convert it, for '
            f'example with iconv -f {other} -t UTF-8'
        ) from None


def hash_file(path: str | os.PathLike) -> str:
    """Return the SHA-256 of a file's content in hexadecimal digits."""
    total = hashlib.sha256()
    with open(path, 'rb') as file:
        while part := file.read(1 << 24):
            total.update(part)
    return total.hexdigest()


def clear_leftovers(folder: Path) -> None:
    """Delete the incomplete temporary files that killed processes left in a folder.

    Only files with a temporary name of :func:`write_aside` are deleted. A file that a running
    process of this machine may still be writing is kept. Processes on other machines cannot be
    detected, so call this function only if no other machine writes in the folder at the same time.

    Args:
        folder: The folder. Its subfolders are not searched.
    """
    for path in folder.glob('.*.aside*'):
        match = _ASIDE.fullmatch(path.name)
        if match and path.is_file() and not _is_being_written(path, int(match[1])):
            path.unlink(missing_ok=True)


def _is_being_written(path: Path, pid: int) -> bool:
    """Return whether the process with this number may still be writing a temporary file."""
    if pid == os.getpid():  # this process is not in a write_aside block now
        return False
    if os.name != 'nt':  # Windows has no signal 0, so only the age of the file is used there
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # the process is running and belongs to another user
            pass
    # The system reuses process numbers, so a running process may have the number of an old file.
    return time.time() - path.stat().st_mtime < _LONGEST_WRITE


def _sync_folder(folder: Path) -> None:
    """Flush a folder to disk, so that a renamed file in the folder survives a power failure."""
    if os.name == 'nt':  # Windows cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
