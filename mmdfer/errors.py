"""Define the error that the user can correct, and how a command reports this error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class DFERError(ValueError):
    """Report a problem that the user can correct, such as a wrong path or a damaged file.

    The message is one line that names the file, the value and the remedy. The commands print the
    message without a traceback and exit with status 1.
    """


class UnreadableClipError(DFERError):
    """Report a clip without a single readable frame: its video or all its pictures are damaged."""


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or the name of its type if it has none."""
    return str(error).strip().partition('\n')[0] or type(error).__name__


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a DFERError into one line on stderr, and exit the process with status 1.

    Every other error is a programming error and keeps its traceback. Each rank prints its own
    line, because an error such as an unreadable clip may occur on any rank.
    """
    try:
        yield
    except DFERError as error:
        several = int(os.environ.get('WORLD_SIZE', 1)) > 1
        rank = f' (rank {os.environ.get("RANK", 0)})' if several else ''
        sys.exit(f'error{rank}: {_one_line(error)}')


def _one_line(error: DFERError) -> str:
    """Return the message of an error as one line.

    A DataLoader worker passes on an error as a whole traceback. The last line of this traceback is
    ``mmdfer.errors.DFERError: message``, from which the message is taken.
    """
    message = str(error).strip()
    if 'Original Traceback' in message:
        message = message.splitlines()[-1].partition(': ')[2]
    return message
