"""The number of CPUs, on every operating system."""

from __future__ import annotations

import os

_MOST_ON_WINDOWS = 61  # ProcessPoolExecutor takes no more workers there


def count_cpus() -> int:
    """Return the number of CPUs that this process may use, which is at least one.

    Only Linux knows which CPUs a process is bound to; elsewhere all of the machine's count.
    """
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    count = os.cpu_count() or 1
    return min(count, _MOST_ON_WINDOWS) if os.name == 'nt' else count
