"""Format tables of text for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

Rows = Sequence[Sequence[str]]


def plain_table(rows: Rows, align: str = 'right', widest: int | None = None) -> str:
    """Format a table for a terminal.

    Args:
        rows: The cells of each row. The first row is the header.
        align: `'right'` or `'left'`, for all columns except the first, which is aligned to the
            left.
        widest: The largest width of a column in characters. Longer cells are broken into several
            lines. None breaks no cell.

    Returns:
        The lines of the table, without trailing spaces, joined by newlines.
    """
    text = tabulate(
        rows,
        headers='firstrow',
        tablefmt='plain',
        colalign=_alignments(rows, align),
        maxcolwidths=widest,
        disable_numparse=True,
    )
    return '\n'.join(line.rstrip() for line in text.splitlines())


def markdown_table(rows: Rows, align: str = 'right') -> str:
    """Format a table in Markdown.

    Args:
        rows: The cells of each row. The first row is the header.
        align: `'right'` or `'left'`, for all columns except the first, which is aligned to the
            left.

    Returns:
        The lines of the table, joined by newlines.
    """
    alignments = _alignments(rows, align)
    return tabulate(
        rows, headers='firstrow', tablefmt='pipe', colalign=alignments, disable_numparse=True
    )


def _alignments(rows: Rows, align: str) -> tuple[str, ...]:
    return ('left', *[align] * (len(rows[0]) - 1))
