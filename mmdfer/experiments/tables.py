"""What tables of results share: mean and spread, and the files that hold them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from matplotlib.figure import Figure

from mmdfer.files import write_aside

T = TypeVar('T')


def all_of(values: Iterable[T | None]) -> tuple[T, ...] | None:
    """Return the values; None where one of them is None."""
    found = tuple(values)
    there = tuple(value for value in found if value is not None)
    return there if len(there) == len(found) else None


def mean_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and the standard deviation with n - 1; of one value there is none."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return float(np.mean(values)), deviation


def save(path: Path, texts: Mapping[str, str], figure: Figure, dpi: int = 100) -> None:
    """Write a table in all its forms.

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
