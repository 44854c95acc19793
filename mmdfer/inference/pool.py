"""Run a function on many films or clips in several processes, with a progress bar."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import TypeVar

import cv2
from tqdm import tqdm

from mmdfer.workers import end_with_parent, explain_killed_worker

Job = TypeVar('Job')
Result = TypeVar('Result')


def run_all(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int, title: str, unit: str
) -> Iterator[Result]:
    """Call a function for each job, and yield the results as they are finished.

    Args:
        function: The function. With several processes, it and the jobs must be picklable.
        jobs: The arguments of the calls.
        workers: Number of processes. With one, the function is called in this process.
        title: The title of the progress bar.
        unit: What a job is, for the progress bar.

    Yields:
        The result of each call.

    Raises:
        DFERError: If a process is killed.
    """
    with tqdm(total=len(jobs), desc=title, unit=unit, disable=not jobs) as bar:
        if min(workers, len(jobs)) <= 1:
            for job in jobs:
                yield function(job)
                bar.update()
            return
        # Forked processes would inherit the locks of OpenCV's and torch's threads.
        pool = ProcessPoolExecutor(workers, get_context('spawn'), _start_worker)
        try:
            futures = [pool.submit(function, job) for job in jobs]
            for future in as_completed(futures):
                with explain_killed_worker():
                    result = future.result()
                yield result
                bar.update()
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Prepare a worker process: the main process handles Ctrl-C, and OpenCV uses one thread.

    The worker ends if the main process is killed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    cv2.setNumThreads(1)
