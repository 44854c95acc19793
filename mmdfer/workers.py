"""End worker processes whose parent was killed, and report worker processes that were killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import parent_process
from multiprocessing.connection import wait
from threading import Thread

from mmdfer.errors import DFERError


def end_with_parent() -> None:
    """Make this worker process end when its parent is killed: it would wait for work forever."""
    Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


@contextmanager
def explain_killed_worker() -> Iterator[None]:
    """Turn the error of a process pool whose worker was killed into one line.

    Raises:
        DFERError: If a worker process of the pool that the block uses was killed.
    """
    try:
        yield
    except BrokenProcessPool:
        raise DFERError(
            'a worker process was killed, perhaps because the memory was full; run the same '
            'command with fewer workers to continue'
        ) from None
