"""Run the work of a command that can be continued, and exit with the right status."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from mmdfer.errors import one_line_errors
from mmdfer.experiments.runs import Failures, report_failures


def run_resumable(work: Callable[[], Failures]) -> NoReturn:
    """Run the trainings of a command, report the failed trainings and exit.

    The exit status is 0 if all trainings succeeded, 1 if a training failed, and 130 after an
    interruption or a termination signal.

    Args:
        work: A function that runs the trainings and returns those that failed.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with one_line_errors():
            failures = work()
    except KeyboardInterrupt:
        print('\nInterrupted. Run the same command again to continue.', file=sys.stderr)
        sys.exit(130)
    report_failures(failures)
    sys.exit(1 if failures else 0)
