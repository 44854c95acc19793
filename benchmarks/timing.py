"""Time several implementations in turn, so that each ratio is of runs next to each other."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch

Samples = dict[str, list[float]]


def interleave(
    runs: Mapping[str, Callable[[], Any]], repeats: int, device: str, warm_up: bool = True
) -> Samples:
    """Time several runs in turn.

    Args:
        runs: The runs by name. Every second round takes them in the opposite order.
        repeats: The number of rounds that count.
        device: ``'cpu'`` or ``'cuda'``, for which a run ends when the GPU has finished.
        warm_up: Whether to begin with a round that does not count.

    Returns:
        The seconds of each run, one value for each round.
    """
    samples: Samples = {name: [] for name in runs}
    for run in runs.values() if warm_up else ():
        time_run(run, device)
    for number in range(repeats):
        for name in list(runs)[:: -1 if number % 2 else 1]:
            samples[name].append(time_run(runs[name], device))
    return samples


def time_run(run: Callable[[], Any], device: str = 'cpu') -> float:
    """Return the seconds that a run takes."""
    if device == 'cuda':
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter() - start


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, _, high = quantiles(values, method='inclusive')
    return low, median(values), high


def peak_memory(device: str) -> float:
    """Return this process's peak memory in GB; on the GPU, where it computes there.

    On Linux ``ru_maxrss`` begins with the peak of the parent process, so /proc is read instead.
    """
    if device == 'cuda':
        return torch.cuda.max_memory_allocated() / 1e9
    status = Path('/proc/self/status')
    if status.is_file():
        (line,) = (x for x in status.read_text().splitlines() if x.startswith('VmHWM:'))
        return int(line.split()[1]) * 1024 / 1e9
    try:
        import resource
    except ImportError:  # Windows does not tell
        return float('nan')
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == 'darwin' else 1024) / 1e9
