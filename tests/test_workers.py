"""Test that worker processes end with their parent, and that a killed worker is reported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest

from mmdfer.errors import DFERError
from mmdfer.inference import pool
from mmdfer.synthetic.benchmark import one_opencv_thread

pytestmark = pytest.mark.skipif(
    not Path('/proc/self/task').is_dir(), reason='only Linux forks and lists processes'
)


def test_a_killed_worker_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, 'get_context', lambda _: get_context('fork'))  # starts faster
    with (
        one_opencv_thread(),
        pytest.raises(DFERError, match='a worker process was killed, .* fewer workers'),
    ):
        list(pool.run_all(os._exit, [9, 9], 2, 'Ending', 'process'))


def test_workers_end_when_their_parent_is_killed() -> None:
    code = (
        'import time; from multiprocessing import get_context; from mmdfer.inference import pool; '
        "pool.get_context = lambda _: get_context('fork'); "
        "list(pool.run_all(time.sleep, [600, 600], 2, 'Sleeping', 'process'))"
    )
    parent = subprocess.Popen([sys.executable, '-c', code], stderr=subprocess.DEVNULL)
    listed = Path(f'/proc/{parent.pid}/task/{parent.pid}/children')
    try:
        wait_for(lambda: len(listed.read_text().split()) >= 2)
        workers = listed.read_text().split()
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    wait_for(lambda: not any(is_running(pid) for pid in workers))


def wait_for(reached: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until a function returns true."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.1)


def is_running(pid: str) -> bool:
    """Return whether there is a process with this number that is no zombie."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False
