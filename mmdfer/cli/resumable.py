"""The end of a command that the same command line continues."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from mmdfer.errors import one_line_errors
from mmdfer.experiments.runs import Failures, report_failures


def run_resumable(work: Callable[[], Failures]) -> NoReturn:
    """Do the work, print what failed and exit: with status 1 on failures, 130 if interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with one_line_errors():
            failures = work()
    except KeyboardInterrupt:
        print('\ninterrupted; the same command continues', file=sys.stderr)
        sys.exit(130)
    report_failures(failures)
    sys.exit(1 if failures else 0)
