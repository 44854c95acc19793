"""The one error class that means: the user can mend this; and how a command ends on it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class DFERError(ValueError):
    """An error of the user's making: one line with the file, the value and the remedy.

    The tools print it without a traceback and exit with status 1.
    """


class UnreadableClipError(DFERError):
    """Nothing of a clip can be read: its video is damaged, or each of its pictures is."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Ends the process with status 1 and one line on stderr where a DFERError is raised.

    Every other error is a programmer's and keeps its traceback. Each rank prints its own line,
    since the clip that cannot be read may be any rank's.
    """
    try:
        yield
    except DFERError as error:
        several = int(os.environ.get('WORLD_SIZE', 1)) > 1
        rank = f' (rank {os.environ.get("RANK", 0)})' if several else ''
        sys.exit(f'error{rank}: {_one_line(error)}')


def _one_line(error: DFERError) -> str:
    """The message; of one that a DataLoader worker passed on as a whole traceback, its last line.

    That line reads ``mmdfer.errors.DFERError: message``.
    """
    message = str(error).strip()
    if 'Original Traceback' in message:
        message = message.splitlines()[-1].partition(': ')[2]
    return message
