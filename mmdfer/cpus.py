"""Count the CPUs that a process may use, on every operating system."""

from __future__ import annotations

import os

_MOST_ON_WINDOWS = 61  # ProcessPoolExecutor accepts at most this many workers on Windows


def count_cpus() -> int:
    """Return the number of CPUs that this process may use, which is at least one.

    Only Linux reports which CPUs a process is bound to. On other systems the result is the number
    of CPUs of the machine, and on Windows at most 61.
    """
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    count = os.cpu_count() or 1
    return min(count, _MOST_ON_WINDOWS) if os.name == 'nt' else count
