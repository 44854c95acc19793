"""Draw and save a confusion matrix."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from mmdfer.evaluation.metrics import war_uar
from mmdfer.files import write_aside

# matplotlib and sklearn are imported where they are used, because together they take a second, and
# every command and every worker process imports this module.
if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def save_confusion(confusion: ArrayLike, classes: Sequence[str], folder: str | Path) -> None:
    """Save a confusion matrix as ``confusion_matrix.png``, ``.csv`` and ``.json``.

    Args:
        confusion: The counts, (C, C); rows are true and columns are predicted classes.
        classes: The names of the C classes.
        folder: The folder for the files, which is created if it does not exist.
    """
    confusion, folder = np.asarray(confusion), Path(folder)
    war, uar = war_uar(confusion)
    table = io.StringIO()
    csv.writer(table).writerows(
        [['true \\ predicted', *classes]]
        + [[name, *row] for name, row in zip(classes, confusion.tolist(), strict=True)]
    )
    numbers = dict(classes=list(classes), confusion=confusion.tolist(), WAR=war, UAR=uar)
    with write_aside(folder / 'confusion_matrix.csv') as aside:
        aside.write_text(table.getvalue(), newline='')
    with write_aside(folder / 'confusion_matrix.json') as aside:
        aside.write_text(json.dumps(numbers, indent=1))
    with write_aside(folder / 'confusion_matrix.png') as aside:
        draw_confusion(confusion, classes).savefig(aside, dpi=100)


def draw_confusion(confusion: np.ndarray, classes: Sequence[str]) -> Figure:
    """Draw a confusion matrix with percentages and counts.

    Each cell shows its share of the row in percent and the number of clips. No display is required,
    since the figure does not use pyplot.

    Args:
        confusion: The counts, (C, C); rows are true and columns are predicted classes.
        classes: The names of the C classes.

    Returns:
        The figure.
    """
    from matplotlib.figure import Figure

    side = confusion_side(len(classes))
    figure = Figure(figsize=(side, side), layout='constrained')
    plot_confusion(figure.subplots(), confusion, classes)
    return figure


def confusion_side(classes: int) -> float:
    """Return the side length at which a confusion matrix is readable, in inches.

    Args:
        classes: The number of classes.
    """
    return 2.5 + 0.75 * classes


def plot_confusion(axes: Axes, confusion: np.ndarray, classes: Sequence[str]) -> None:
    """Draw a confusion matrix into the axes of a figure; see :func:`draw_confusion`.

    Args:
        axes: The axes to draw into.
        confusion: The counts, (C, C); rows are true and columns are predicted classes.
        classes: The names of the C classes.
    """
    from sklearn.metrics import ConfusionMatrixDisplay

    clips = confusion.sum(1, keepdims=True)
    shares = 100 * confusion / np.maximum(clips, 1)  # The row of a class without clips is zero.
    display = ConfusionMatrixDisplay(shares, display_labels=classes).plot(
        ax=axes,
        cmap='Blues',
        colorbar=False,
        xticks_rotation=45,
        im_kw=dict(vmin=0, vmax=100),
    )
    for cell, share, count in zip(display.text_.flat, shares.flat, confusion.flat, strict=True):
        cell.set(text=f'{share:.0f} %\n{count}', color='white' if share > 50 else 'black')
    war, uar = war_uar(confusion)
    axes.set_title(f'WAR {war:.2f} %   UAR {uar:.2f} %   {clips.sum()} clips')
