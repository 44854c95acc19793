"""Lock files, so that two processes do not write in a folder at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from mmdfer.errors import DFERError
from mmdfer.files import explain_write_errors

try:
    import fcntl
except ImportError:  # on Windows, filelock uses other locks
    fcntl = None  # type: ignore[assignment]  # _check_locks tests for None


@contextmanager
def lock_file(
    path: Path, option: str, busy: str | None = None, wait: bool = True
) -> Iterator[None]:
    """Hold a lock in a ``with`` block. The lock of a process that is killed is released.

    Args:
        path: The lock file. It and its folder are created if they do not exist, and kept.
        option: The flag or argument that names the folder, for the error messages.
        busy: What another process that holds the lock does, for the message about it.
        wait: Whether to wait for the other process.

    Raises:
        DFERError: If the file system does not support locks, or if another process holds the lock
            and ``wait`` is false.
        WriteError: If the folder or the lock file cannot be written.
    """
    with explain_write_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    _check_locks(path, option)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise DFERError(
                f'{path.parent}: another process {busy}; wait until it has finished'
            ) from None
        if busy is not None:
            tqdm.write(f'{path.parent}: another process {busy}; waiting until it has finished')
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _check_locks(path: Path, option: str) -> None:
    """Raise DFERError if the file system of a lock file does not support locks.

    Without this check, filelock would wait forever, raise an error, or leave a file behind that
    locks out all other processes after its own process is killed. Which of these happens depends on
    the version of filelock and on the file system.
    """
    if fcntl is None:
        return
    with explain_write_errors(path), path.open('a') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(file, fcntl.LOCK_UN)
        except (BlockingIOError, PermissionError):  # another process holds the lock: locks work
            return
        except OSError as error:
            raise DFERError(
                f'{path.parent}: the file system does not lock files ({error.strerror}); give '
                f'{option} a folder on another file system, or mount this one with locks (Lustre: '
                '-o flock; NFS: without nolock)'
            ) from error
