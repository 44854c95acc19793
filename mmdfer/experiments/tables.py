"""Compute means and deviations for tables of results, and save the tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from matplotlib.figure import Figure

from mmdfer.files import write_aside

T = TypeVar('T')


def collect_all(values: Iterable[T | None]) -> tuple[T, ...] | None:
    """Collect values if none of them is missing.

    Args:
        values: The values. A missing value is None.

    Returns:
        The values, or None if one of them is None.
    """
    found = tuple(values)
    there = tuple(value for value in found if value is not None)
    return there if len(there) == len(found) else None


def mean_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Compute the mean and the standard deviation (n - 1).

    Args:
        values: At least one value.

    Returns:
        The mean and the standard deviation, which is None for a single value.
    """
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return float(np.mean(values)), deviation


def save(path: Path, texts: Mapping[str, str], figure: Figure, dpi: int = 100) -> None:
    """Save a table in several formats.

    Args:
        path: The path of the files without a suffix. The folder is created if it does not exist.
        texts: The content of each text file, keyed by its suffix without a dot.
        figure: The picture for the file ``.png``.
        dpi: The resolution of the picture, in dots per inch.
    """
    for suffix, text in texts.items():
        with write_aside(path.with_suffix(f'.{suffix}')) as aside:
            aside.write_text(text + '\n' * (suffix != 'csv'), encoding='utf-8', newline='')
    with write_aside(path.with_suffix('.png')) as aside:
        figure.savefig(aside, dpi=dpi)
