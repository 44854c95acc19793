"""What tables of results share: mean and spread, plain text, Markdown, and files that are whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mmdfer.files import write_aside


def mean_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and the standard deviation with n - 1; of one value there is none."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return float(np.mean(values)), deviation


def plain(rows: Sequence[Sequence[str]]) -> str:
    """A table for a terminal; the first row is its head, the first column stands to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = (
        f'{row[0]:{widths[0]}}' + ''.join(f'  {c:>{w}}' for c, w in zip(row[1:], widths[1:]))
        for row in rows
    )
    return '\n'.join(line.rstrip() for line in lines)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, of the same form."""
    rule = ['---', *['---:'] * (len(rows[0]) - 1)]
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in (rows[0], rule, *rows[1:]))


def save(path: Path, texts: Mapping[str, str], figure: Figure, dpi: int = 100) -> None:
    """Writes a table in all its forms.

    Args:
        path: Without a suffix; its folder is made if missing.
        texts: By suffix.
        figure: For ``.png``.
        dpi: The picture's dots per inch.
    """
    for suffix, text in texts.items():
        with write_aside(path.with_suffix(f'.{suffix}')) as aside:
            aside.write_text(text + '\n' * (suffix != 'csv'), encoding='utf-8', newline='')
    with write_aside(path.with_suffix('.png')) as aside:
        figure.savefig(aside, dpi=dpi)
