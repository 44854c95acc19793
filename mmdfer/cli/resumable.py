"""Run the work of a command that can be continued, and exit with the right status."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from mmdfer.errors import one_line_errors
from mmdfer.experiments.runs import Failures, report_failures


@contextmanager
def resumable() -> Iterator[None]:
    """Exit with one line if the block fails, or if it is interrupted and can be continued.

    The exit status is 1 after a DFERError, and 130 after an interruption or a termination signal.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with one_line_errors():
            yield
    except KeyboardInterrupt:
        print('\nInterrupted. Run the same command again to continue.', file=sys.stderr)
        sys.exit(130)


def run_resumable(work: Callable[[], Failures]) -> NoReturn:
    """Run the trainings of a command, report the failed trainings and exit.

    The exit status is 0 if all trainings succeeded, 1 if a training failed, and 130 after an
    interruption or a termination signal.

    Args:
        work: A function that runs the trainings and returns those that failed.
    """
    with resumable():
        failures = work()
    report_failures(failures)
    sys.exit(1 if failures else 0)
