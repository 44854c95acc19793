"""Summarise the folds of a cross-validation in one table, as text, as data and as a picture."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from mmdfer.errors import DFERError
from mmdfer.evaluation.confusion_matrix import confusion_side, plot_confusion
from mmdfer.evaluation.metrics import recalls, war_uar
from mmdfer.evaluation.report import Fold, Score, synthetic_note
from mmdfer.experiments.tables import mean_deviation, save
from mmdfer.tables import markdown_table, plain_table

PROTOCOL = (1, 2, 3, 4, 5)  # published figures on DFEW and MAFW are the mean over these folds
TABLE_WIDTH = 13  # inches
COLUMNS = ('WAR, last', 'UAR, last', 'WAR, best', 'UAR, best', 'best epoch')

Row = tuple[str, float | None, float | None, float | None, float | None, int | None]


def check_alike(folds: Sequence[Fold]) -> None:
    """Check that folds can be summarised in one table.

    Folds that a hook stopped early may differ in their number of epochs.

    Args:
        folds: The results of the folds.

    Raises:
        DFERError: If the folds have different datasets, classes or numbers of epochs.
    """
    whole = [fold for fold in folds if not fold.stopped_early]
    for what, group in (('dataset', folds), ('classes', folds), ('last.epoch', whole)):
        for fold in group[1:]:
            first, other = (_get(f, what) for f in (group[0], fold))
            if first != other:
                raise DFERError(
                    f'fold {fold.number} has {what} {other}, but fold {group[0].number} has '
                    f'{first}. They cannot share a table; give each a separate --work-dir'
                )


def _get(fold: Fold, what: str) -> Any:
    """Return a value of a fold that all folds of a table must share, such as its dataset."""
    return fold.last.epoch if what == 'last.epoch' else getattr(fold, what)


# ------------------------------------------------------------------ numbers


def pooled(folds: Sequence[Fold], which: str) -> np.ndarray | None:
    """Add up the confusion matrices of all folds.

    Args:
        folds: The results of at least one fold.
        which: ``'last'`` for the last epochs, or ``'best'`` for the best epochs.

    Returns:
        The counts, (C, C), or None if a fold has no confusion matrix.
    """
    scores = [getattr(fold, which) for fold in folds]
    if any(score is None or score.confusion is None for score in scores):
        return None
    return np.sum([score.confusion for score in scores], axis=0)


def mean_std(folds: Sequence[Fold], which: str, figure: str) -> tuple[float | None, float | None]:
    """Compute the mean and the standard deviation (n - 1) of a metric over the folds.

    Args:
        folds: The results of at least one fold.
        which: ``'last'`` for the last epochs, or ``'best'`` for the best epochs.
        figure: The metric, ``'war'`` or ``'uar'``.

    Returns:
        The mean and the standard deviation. Both are None if a fold lacks the metric. The standard
        deviation is None for a single fold.
    """
    scores = [getattr(fold, which) for fold in folds]
    if any(score is None for score in scores):
        return None, None
    values = [getattr(score, figure) for score in scores]
    return mean_deviation(values)


def table(folds: Sequence[Fold]) -> list[Row]:
    """Return the rows of the cross-validation table.

    There is a row for each fold, followed by the mean over the folds, the standard deviation over
    the folds, and the metrics of the pooled confusion matrix.

    Args:
        folds: The results of at least one fold.

    Returns:
        The rows without the header. A row has a name, the values of `COLUMNS` in percent, and the
        number of the best epoch. Missing values are None.
    """
    rows: list[Row] = []
    for fold in folds:
        best = fold.best
        chosen = (None, None, None) if best is None else (best.war, best.uar, best.epoch)
        rows.append((f'fold {fold.number}', fold.last.war, fold.last.uar, *chosen))
    columns = [(which, figure) for which in ('last', 'best') for figure in ('war', 'uar')]
    means, deviations = zip(*(mean_std(folds, *column) for column in columns), strict=True)
    sums = (pooled(folds, which) for which in ('last', 'best'))
    all_clips = [v for s in sums for v in ((None, None) if s is None else war_uar(s))]
    return [
        *rows,
        (mean_label(folds), *means, None),
        ('standard deviation over folds (n - 1)', *deviations, None),
        ('pooled: one confusion matrix of all folds', *all_clips, None),
    ]


def mean_label(folds: Sequence[Fold]) -> str:
    """Return the name of the row with the mean.

    Only the mean over all folds of the protocol is called the protocol's figure.

    Args:
        folds: The results of at least one fold.
    """
    if tuple(fold.number for fold in folds) == PROTOCOL:
        return f"mean of {len(PROTOCOL)} folds, the protocol's figure"
    return f"mean of {len(folds)} fold{'s' * (len(folds) > 1)}, not the protocol's figure"


# ------------------------------------------------------------------ output


def save_tables(folds: Sequence[Fold], name: str, folder: str | Path) -> str:
    """Write the table of a cross-validation as text, Markdown, CSV and JSON, and draw it.

    The files are ``cross_validation.txt``, ``.md``, ``.csv``, ``.json`` and ``.png``. The picture
    also shows the pooled confusion matrices.

    Args:
        folds: The results of at least one fold, in the order of the table.
        name: The name of the config that was trained.
        folder: The folder for the files, which is created if it does not exist.

    Returns:
        The table as text.

    Raises:
        DFERError: If the folds have different datasets, classes or numbers of epochs.
    """
    check_alike(folds)
    head = heading(folds, name)
    text = as_text(folds, head)
    texts = dict(
        txt=text,
        md=as_markdown(folds, head),
        csv=as_csv(folds),
        json=json.dumps(as_numbers(folds, name), indent=1),
    )
    save(Path(folder, 'cross_validation'), texts, draw(folds, head))
    return text


def heading(folds: Sequence[Fold], name: str) -> list[str]:
    """Return the lines above the table, which explain its columns.

    Args:
        folds: The results of at least one fold.
        name: The name of the config that was trained.
    """
    numbers = ' '.join(str(fold.number) for fold in folds)
    dataset = folds[0].dataset
    epochs = sorted({fold.last.epoch for fold in folds})
    last = f'epoch {epochs[0]}' if len(epochs) == 1 else f'epochs {epochs[0]} to {epochs[-1]}'
    last += ', stopped early' * any(fold.stopped_early for fold in folds)
    lines = [
        f'Cross-validation of {name}' + (f' on {dataset}' if dataset else ''),
        f'fold{"s" * (len(folds) > 1)} {numbers}, in percent; last: {last}; '
        'best: the epoch with the highest WAR, chosen on the test fold',
    ]
    note = synthetic_note(dataset)
    return [note, *lines] if note else lines


def _cells(row: Row) -> list[str]:
    """Format a row for a table of text."""
    name, *figures, epoch = row
    return [name, *('-' if f is None else f'{f:.2f}' for f in figures), str(epoch or '')]


def as_text(folds: Sequence[Fold], head: Sequence[str]) -> str:
    """Format the table for a terminal.

    Args:
        folds: The results of at least one fold.
        head: The lines above the table.
    """
    return '\n'.join([*head, plain_table([['', *COLUMNS], *map(_cells, table(folds))])])


def as_markdown(folds: Sequence[Fold], head: Sequence[str]) -> str:
    """Format the table in Markdown, with the mean in bold.

    Args:
        folds: The results of at least one fold.
        head: The lines above the table.
    """
    rows = [_cells(row) for row in table(folds)]
    mean = rows[len(folds)]
    mean[:] = [f'**{cell}**' if cell else '' for cell in mean]
    return '\n\n'.join([*head, markdown_table([['', *COLUMNS], *rows])])


def as_csv(folds: Sequence[Fold]) -> str:
    """Format the table as CSV.

    If the dataset is synthetic, each row has a note that says so.

    Args:
        folds: The results of at least one fold.
    """
    note, out = synthetic_note(folds[0].dataset), io.StringIO()
    writer = csv.writer(out)
    writer.writerow(['', *COLUMNS, *['note'] * bool(note)])
    for name, *figures, epoch in table(folds):
        cells = ['' if f is None else f'{f:.4f}' for f in figures]
        writer.writerow([name, *cells, epoch or '', *[note] * bool(note)])
    return out.getvalue()


def as_numbers(folds: Sequence[Fold], name: str) -> dict[str, Any]:
    """Return all results as unrounded numbers, including the confusion matrices, for the JSON file.

    Args:
        folds: The results of at least one fold.
        name: The name of the config that was trained.
    """
    numbers: dict[str, Any] = dict(
        name=name,
        dataset=folds[0].dataset,
        note=synthetic_note(folds[0].dataset),
        classes=folds[0].classes,
        folds={
            fold.number: {which: _figures(getattr(fold, which)) for which in ('last', 'best')}
            for fold in folds
        },
        mean_is=mean_label(folds),
    )
    for i, statistic in enumerate(('mean', 'std')):
        numbers[statistic] = {
            which: {f.upper(): mean_std(folds, which, f)[i] for f in ('war', 'uar')}
            for which in ('last', 'best')
        }
    sums = {which: pooled(folds, which) for which in ('last', 'best')}
    return dict(numbers, pooled={w: _pooled_figures(s, folds[0].classes) for w, s in sums.items()})


def _figures(score: Score | None) -> dict[str, Any] | None:
    """Return the metrics of one validation for the JSON file, or None if they are missing."""
    if score is None:
        return None
    confusion = None if score.confusion is None else score.confusion.tolist()
    return dict(epoch=score.epoch, WAR=score.war, UAR=score.uar, confusion=confusion)


def _pooled_figures(confusion: np.ndarray | None, classes: Sequence[str]) -> dict[str, Any] | None:
    """Return the metrics of a pooled confusion matrix for the JSON file."""
    if confusion is None:
        return None
    war, uar = war_uar(confusion)
    by_class = zip(classes, recalls(confusion).tolist(), strict=True)
    return dict(
        WAR=war,
        UAR=uar,
        recalls={name: None if np.isnan(recall) else recall for name, recall in by_class},
        confusion=confusion.tolist(),
    )


def draw(folds: Sequence[Fold], head: Sequence[str]) -> Figure:
    """Draw the table above the pooled confusion matrices of the last and the best epochs.

    No display is required, since the figure does not use pyplot.

    Args:
        folds: The results of at least one fold.
        head: The lines above the table.

    Returns:
        The figure.
    """
    rows, classes = table(folds), folds[0].classes
    sums = {which: pooled(folds, which) for which in ('last', 'best')}
    shown = {which: confusion for which, confusion in sums.items() if confusion is not None}
    side = confusion_side(len(classes)) * bool(shown)
    heights = [0.4 * (len(rows) + len(head) + 2), side + 0.3]
    width = max(TABLE_WIDTH, side * len(shown))
    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.1)
    figure = Figure(figsize=(width, sum(heights)), layout=layout)
    grid = figure.add_gridspec(2, 1, height_ratios=heights)
    top, bottom = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    top.suptitle('\n'.join(head), fontsize=14)
    _plot_table(top.subplots(), rows, width, mean=len(folds))
    for part, (which, confusion) in enumerate(shown.items()):
        axes = bottom.add_subplot(1, len(shown), part + 1)
        plot_confusion(axes, confusion, classes)
        axes.set_title(f'{which} epoch, all folds pooled: {axes.get_title()}')
    return figure


def _plot_table(axes: Axes, rows: Sequence[Row], width: float, mean: int) -> None:
    """Draw the table into the axes of a figure.

    Args:
        axes: The axes to draw into.
        rows: The rows of the table.
        width: The width of the figure in inches. The table is not drawn wider than is readable.
        mean: The index of the row with the mean, which is drawn in bold.
    """
    axes.axis('off')
    share = min(1, TABLE_WIDTH / width)
    cells = [['', *COLUMNS], *map(_cells, rows)]
    drawn = axes.table(
        cells,
        colWidths=[0.4, *[0.12] * len(COLUMNS)],
        cellLoc='right',
        edges='horizontal',
        bbox=[(1 - share) / 2, 0, share, 1],  # type: ignore[arg-type]  # matplotlib takes four floats
    )
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(12)
    for (row, column), cell in drawn.get_celld().items():
        cell.set_edgecolor('lightgray')
        if row in (0, mean + 1):
            cell.set_text_props(weight='bold')
        if column == 0:
            cell.set_text_props(ha='left')
