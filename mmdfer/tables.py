"""Write tables of text, for a terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

Rows = Sequence[Sequence[str]]


def plain_table(rows: Rows, align: str = 'right', widest: int | None = None) -> str:
    """Write a table for a terminal.

    Args:
        rows: The cells of each row; the first row is the head.
        align: `'right'` or `'left'`, for all columns but the first, which is aligned to the left.
        widest: Longer cells are broken into several lines of this many characters; None breaks
            none.

    Returns:
        The lines, without spaces at their ends.
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
    """Write a table in Markdown.

    Args:
        rows: The cells of each row; the first row is the head.
        align: `'right'` or `'left'`, for all columns but the first, which is aligned to the left.
    """
    alignments = _alignments(rows, align)
    return tabulate(
        rows, headers='firstrow', tablefmt='pipe', colalign=alignments, disable_numparse=True
    )


def _alignments(rows: Rows, align: str) -> tuple[str, ...]:
    return ('left', *[align] * (len(rows[0]) - 1))
