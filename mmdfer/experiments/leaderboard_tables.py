"""Compare methods in one table: their accuracy over seeds, their cost, and published figures.

Measured and published figures are in separate columns.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmdfer.errors import DFERError
from mmdfer.evaluation.complexity import BATCH, Complexity
from mmdfer.evaluation.metrics import recalls
from mmdfer.evaluation.report import Fold, synthetic_note
from mmdfer.experiments.cross_validation_tables import pooled
from mmdfer.experiments.tables import collect_all, mean_deviation, save
from mmdfer.tables import markdown_table, plain_table

SHUFFLED = 'WAR, frames shuffled'
BARS = (('WAR', '#1f5fa8'), ('UAR', '#9cc3e6'))  # metrics and their colours


@dataclass(frozen=True)
class Run:
    """Hold the results of a method with one seed.

    Attributes:
        seed: The seed.
        folds: The result on each fold, or one result if the dataset has one split.
        shuffled: The WAR of each fold in percent at the last epoch, with the frames of each clip in
            random order. None if it was not measured.
        seconds: The training time of all folds together in seconds, or None if it is unknown.
    """

    seed: int
    folds: tuple[Fold, ...]
    shuffled: tuple[float, ...] | None
    seconds: float | None

    def figures(self) -> dict[str, float | None]:
        """Return each metric in percent, averaged over the folds.

        Returns:
            The metrics, keyed by name. A metric is None if a fold lacks it.
        """
        last = [fold.last for fold in self.folds]
        best = collect_all(fold.best for fold in self.folds) or ()
        values = {
            'WAR': [score.war for score in last],
            'UAR': [score.uar for score in last],
            'WAR, best epoch': [score.war for score in best],
            'UAR, best epoch': [score.uar for score in best],
            SHUFFLED: list(self.shuffled or ()),
        }
        return {k: float(np.mean(v)) if v else None for k, v in values.items()}

    def recalls(self) -> dict[str, float]:
        """Return the recall of each class at the last epoch, over the clips of all folds.

        Returns:
            The recalls in percent, keyed by class, or an empty dict if a fold has no confusion
            matrix.
        """
        confusion = pooled(self.folds, 'last')
        if confusion is None:
            return {}
        named = zip(self.folds[0].classes, recalls(confusion).tolist(), strict=True)
        return {name: recall for name, recall in named if not np.isnan(recall)}


@dataclass(frozen=True)
class Row:
    """Hold all results of one method.

    Attributes:
        name: The name of the method.
        runs: The results with each seed. There is at least one.
        complexity: The measured cost, or None if it was not measured.
        bank_seconds: The time to fill the feature bank in seconds, or None if the method used none.
        published: The WAR and UAR that the method's paper reports, keyed by dataset.
    """

    name: str
    runs: tuple[Run, ...]
    complexity: Complexity | None = None
    bank_seconds: float | None = None
    published: dict[str, dict[str, float]] | None = None

    def wars(self) -> list[float]:
        """Return the WAR in percent with each seed, averaged over the folds."""
        return [float(np.mean([fold.last.war for fold in run.folds])) for run in self.runs]

    def spread(self, figure: str) -> tuple[float | None, float | None]:
        """Return the mean and the standard deviation of a metric over the seeds.

        Args:
            figure: The name of the metric, a key of :meth:`Run.figures`.

        Returns:
            The mean and the standard deviation. Both are None if a run lacks the metric. The
            standard deviation is None for a single seed.
        """
        return _spread([run.figures()[figure] for run in self.runs])

    def recalls(self) -> dict[str, float]:
        """Return the recall of each class in percent, averaged over the seeds."""
        every = [run.recalls() for run in self.runs]
        return {name: float(np.mean([r[name] for r in every])) for name in every[0] if all(every)}

    def seconds(self) -> float | None:
        """Return the mean training time of a seed in seconds, or None if it is unknown."""
        return _spread([run.seconds for run in self.runs])[0]


def _spread(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Return the mean and the standard deviation of values, or Nones if a value is missing."""
    known = collect_all(values)
    return (None, None) if known is None else mean_deviation(known)


def ranked(rows: Sequence[Row]) -> list[Row]:
    """Sort the rows by their mean WAR, the highest first.

    Args:
        rows: The methods to compare.

    Raises:
        DFERError: If the rows have different datasets or classes.
    """
    folds = [(row.name, fold) for row in rows for run in row.runs for fold in run.folds]
    for name, fold in folds[1:]:
        first_name, first = folds[0]
        for what in ('dataset', 'classes'):
            ours, theirs = getattr(first, what), getattr(fold, what)
            if ours != theirs:
                raise DFERError(
                    f'{name} has {what} {theirs}, but {first_name} has {ours}. They cannot share '
                    'a table; choose others with --methods'
                )
    return sorted(rows, key=lambda row: -np.mean(row.wars()))


def lead(row: Row, other: Row) -> tuple[float, float | None]:
    """Return how much higher the mean WAR of a row is than that of another row.

    The difference is compared with a threshold, twice the pooled standard deviation over the seeds.
    With three seeds for each row, this is close to the difference that Student's t-test calls
    significant at 5 %.

    Args:
        row: The row with the higher WAR.
        other: The row to compare with.

    Returns:
        The difference and the threshold, in percentage points. The threshold is None if neither row
        has two seeds.
    """
    squares, freedom = 0.0, 0
    for part in (row, other):
        values = part.wars()
        squares += float(np.sum((np.array(values) - np.mean(values)) ** 2))
        freedom += len(values) - 1
    limit = 2 * sqrt(squares / freedom) if freedom else None
    return float(np.mean(row.wars()) - np.mean(other.wars())), limit


# ------------------------------------------------------------------ output


def save_leaderboard(rows: Sequence[Row], folder: str | Path) -> str:
    """Write the leaderboard as text, Markdown, CSV and JSON, and draw it.

    The files are ``leaderboard.txt``, ``.md``, ``.csv``, ``.json`` and ``.png``. The picture shows
    the WAR and UAR of each method.

    Args:
        rows: The results of at least one method.
        folder: The folder for the files, which is created if it does not exist.

    Returns:
        The tables as text.

    Raises:
        DFERError: If the rows have different datasets or classes.
    """
    rows = ranked(rows)
    head, parts = heading(rows), tables(rows)
    text = '\n\n'.join(['\n'.join(head), *map(plain_table, parts)])
    texts = dict(
        txt=text,
        md='\n\n'.join([*head, *map(markdown_table, parts)]),
        csv=as_csv(rows),
        json=json.dumps(as_numbers(rows), indent=1),
    )
    save(Path(folder, 'leaderboard'), texts, draw(rows), dpi=200)
    return text


def title(rows: Sequence[Row]) -> list[str]:
    """Return the title of the leaderboard, preceded by a note if the dataset is synthetic.

    Args:
        rows: The results of the methods.

    Returns:
        One or two lines.
    """
    folds = rows[0].runs[0].folds
    note = synthetic_note(folds[0].dataset)
    averaged = f', each seed averaged over {len(folds)} folds' * (len(folds) > 1)
    name = folds[0].dataset or 'an unnamed dataset'
    return [note] * bool(note) + [f'Leaderboard on {name}{averaged}']


def heading(rows: Sequence[Row]) -> list[str]:
    """Return the lines above the tables.

    The lines explain the columns and the uncertainty of the values.

    Args:
        rows: The results of the methods, sorted.
    """
    lines = [
        *title(rows),
        'WAR, UAR and recall: measured at the last epoch, in percent, as mean ± standard deviation '
        '(n - 1) over the seeds',
        'best epoch: the epoch with the highest WAR, chosen on the test set',
        'lead: difference in WAR to the next row, compared (> or <) with twice the pooled standard '
        'deviation of both rows',
    ]
    last = collect_all(fold.last.confusion for fold in rows[0].runs[0].folds)
    if last is not None:
        clips, share = int(np.sum(last)), float(np.mean(rows[0].wars())) / 100
        lines.append(
            'the deviation over seeds does not include the uncertainty from the choice of test '
            f'clips: with {clips} clips, the WAR of the first row has a standard error of '
            f'{100 * sqrt(share * (1 - share) / clips):.2f}'
        )
    if any(row.published for row in rows):
        lines.append('published: WAR / UAR from the paper, on the real dataset; not measured here')
    machines = {row.complexity.machine for row in rows if row.complexity is not None}
    speed = f'clips/s: measured with frames in memory in batches of {BATCH}'
    lines += [f'{speed}, on {m}' for m in sorted(machines)]
    return lines


def tables(rows: Sequence[Row]) -> list[list[list[str]]]:
    """Return the tables of accuracy, recall and cost.

    Args:
        rows: The results of the methods, sorted.

    Returns:
        The tables as rows of cells, each with a header row.
    """
    accuracy, cost = _accuracy(rows), _cost()
    classes = rows[0].recalls()
    recall: Columns = {f'recall: {name}': partial(_recall, name=name) for name in classes}
    return [
        [['', *columns], *([row.name, *(cell(row) for cell in columns.values())] for row in rows)]
        for columns in (accuracy, recall, cost)
        if columns
    ]


Columns = dict[str, Callable[[Row], str]]


def _accuracy(rows: Sequence[Row]) -> Columns:
    """Return the columns of the table of accuracy, as functions of a row."""
    after = dict(zip((row.name for row in rows), rows[1:]))
    columns: Columns = {
        'seeds': lambda row: str(len(row.runs)),
        'WAR': lambda row: _pm(*row.spread('WAR')),
        'UAR': lambda row: _pm(*row.spread('UAR')),
        'lead': lambda row: _lead(row, after.get(row.name)),
        SHUFFLED: lambda row: _pm(*row.spread(SHUFFLED)),
        'WAR, best epoch': lambda row: _pm(*row.spread('WAR, best epoch')),
        'UAR, best epoch': lambda row: _pm(*row.spread('UAR, best epoch')),
    }
    for dataset in dict.fromkeys(d for row in rows for d in row.published or ()):
        columns[f'published: {dataset}'] = partial(_published, dataset=dataset)
    return columns


def _cost() -> Columns:
    """Return the columns of the table of cost, as functions of a row."""

    def format_cost(attribute: str, unit: float, digits: int) -> Callable[[Row], str]:
        """Return a function that formats an attribute of Complexity in the given unit."""
        return lambda row: (
            '-'
            if row.complexity is None
            else f'{getattr(row.complexity, attribute) / unit:.{digits}f}'
        )

    return {
        'trained parameters (M)': format_cost('trained', 1e6, 3),
        'all parameters (M)': format_cost('parameters', 1e6, 2),
        'GFLOPs per clip': format_cost('clip_flops', 1e9, 2),
        'one-time GFLOPs (class vectors)': format_cost('once_flops', 1e9, 2),
        'training time': lambda row: _time(row.seconds()),
        'time to fill the feature bank': lambda row: _time(row.bank_seconds),
        'clips/s': format_cost('clips_per_second', 1, 1),
    }


def _recall(row: Row, name: str) -> str:
    """Format the recall of a class."""
    return _number(row.recalls().get(name))


def _number(value: float | None) -> str:
    """Format a number, or a dash if it is missing."""
    return '-' if value is None else f'{value:.2f}'


def _pm(mean: float | None, deviation: float | None) -> str:
    """Format a mean with its standard deviation."""
    return _number(mean) + ('' if deviation is None else f' ± {deviation:.2f}')


def _lead(row: Row, other: Row | None) -> str:
    """Format the lead of a row over the next row, with its threshold."""
    if other is None:
        return ''
    difference, limit = lead(row, other)
    if limit is None:
        return f'{difference:.2f}'
    return f'{difference:.2f} {">" if difference > limit else "<"} {limit:.2f}'


def _published(row: Row, dataset: str) -> str:
    """Format the published WAR and UAR of a method on a dataset."""
    printed = (row.published or {}).get(dataset)
    return '-' if printed is None else f'{printed["WAR"]:.2f} / {printed["UAR"]:.2f}'


def _time(seconds: float | None) -> str:
    """Format seconds as hours, minutes and seconds."""
    return '-' if seconds is None else str(timedelta(seconds=round(seconds)))


def as_numbers(rows: Sequence[Row]) -> dict[str, Any]:
    """Return all results as unrounded numbers for the JSON file.

    The results include the metrics and the confusion matrix of each seed.

    Args:
        rows: The results of the methods, sorted.
    """
    dataset = rows[0].runs[0].folds[0].dataset
    return dict(
        dataset=dataset,
        note=synthetic_note(dataset),
        methods=[
            dict(_flat(row, other), runs=[_run(run) for run in row.runs])
            for row, other in zip(rows, [*rows[1:], None])
        ],
    )


def _run(run: Run) -> dict[str, Any]:
    """Return the results with one seed for the JSON file."""
    confusion = pooled(run.folds, 'last')
    return dict(
        seed=run.seed,
        seconds=run.seconds,
        **run.figures(),
        confusion=None if confusion is None else confusion.tolist(),
    )


def _flat(row: Row, other: Row | None) -> dict[str, Any]:
    """Return one row of the CSV file."""
    flat: dict[str, Any] = dict(method=row.name, seeds=len(row.runs))
    for figure in row.runs[0].figures():
        flat[figure], flat[f'{figure}, deviation'] = row.spread(figure)
    flat['lead'], flat['lead, limit'] = (None, None) if other is None else lead(row, other)
    flat.update({f'recall/{name}': value for name, value in row.recalls().items()})
    cost = vars(row.complexity) if row.complexity is not None else {}
    flat.update(cost, training_seconds=row.seconds(), bank_seconds=row.bank_seconds)
    for dataset, printed in (row.published or {}).items():
        flat.update({f'published: {dataset} {k}': v for k, v in printed.items()})
    return flat


def as_csv(rows: Sequence[Row]) -> str:
    """Format all results as one wide CSV table with unrounded numbers.

    If the dataset is synthetic, each row has a note that says so.

    Args:
        rows: The results of the methods, sorted.
    """
    numbers, out = as_numbers(rows), io.StringIO()
    flat = [{k: v for k, v in row.items() if k != 'runs'} for row in numbers['methods']]
    note = {'note': numbers['note']} if numbers['note'] else {}
    writer = csv.DictWriter(out, list(dict.fromkeys(k for row in flat for k in {**row, **note})))
    writer.writeheader()
    writer.writerows({**row, **note} for row in flat)
    return out.getvalue()


def draw(rows: Sequence[Row]) -> Figure:
    """Draw WAR and UAR of each method as bars with standard deviations, and each seed as a dot.

    No display is required, since the figure does not use pyplot.

    Args:
        rows: The results of the methods, sorted.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(9, 1.7 + 0.55 * len(rows)), layout='constrained')
    axes, places = figure.subplots(), np.arange(len(rows))
    for offset, (name, colour) in zip((-0.19, 0.19), BARS, strict=True):
        _plot_bars(axes, rows, places + offset, name, colour)
    shuffled = [row.spread(SHUFFLED)[0] for row in rows]
    if shown := [(war, y) for war, y in zip(shuffled, places - 0.19) if war is not None]:
        axes.plot(*zip(*shown), 'D', color='#d9822b', markersize=5, label=SHUFFLED)
    axes.set_yticks(places, [row.name for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)  # puts the first row at the top
    axes.set(xlim=(0, 106), xlabel='percent, last epoch')
    axes.set_xticks(range(0, 101, 20))
    axes.grid(axis='x', color='#dddddd', linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    axes.set_title('\n'.join(title(rows)), fontsize=10)
    figure.legend(loc='outside lower center', ncols=5, frameon=False, fontsize=9)
    return figure


def _plot_bars(axes: Axes, rows: Sequence[Row], at: np.ndarray, name: str, colour: str) -> None:
    """Draw the bars of one metric for all rows.

    Args:
        axes: The axes to draw into.
        rows: The results of the methods.
        at: The vertical position of each bar, (rows,).
        name: The metric, 'WAR' or 'UAR'.
        colour: The colour of the bars.
    """
    first = name == BARS[0][0]
    means, deviations = zip(*(row.spread(name) for row in rows), strict=True)
    errors = [deviation or 0 for deviation in deviations]
    axes.barh(at, means, 0.36, color=colour, label=name)
    dots = [(run.figures()[name], y) for row, y in zip(rows, at) for run in row.runs]
    axes.errorbar(
        means,
        at,
        xerr=errors,
        fmt='none',
        color='black',
        elinewidth=0.9,
        capsize=2.5,
        label='standard deviation over seeds' if first else None,
    )
    axes.plot(
        *zip(*dots),
        'o',
        markersize=3.2,
        markerfacecolor='white',
        markeredgecolor='black',
        markeredgewidth=0.7,
        label='one seed' if first else None,
    )
    for y, mean, error, row in zip(at, means, errors, rows):
        end = max(mean + error, *(run.figures()[name] for run in row.runs))
        axes.text(end + 0.9, y, f'{mean:.1f}', va='center', fontsize=8)
