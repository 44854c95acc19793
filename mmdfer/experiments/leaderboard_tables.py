"""Methods side by side: accuracy over seeds, what it cost, and what the papers print, apart."""

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
from mmdfer.experiments.tables import all_of, mean_deviation, save
from mmdfer.tables import markdown_table, plain_table

SHUFFLED = 'WAR, frames shuffled'
BARS = (('WAR', '#1f5fa8'), ('UAR', '#9cc3e6'))  # and their colours


@dataclass(frozen=True)
class Run:
    """One seed of a method.

    Attributes:
        seed: Its number.
        folds: The result on each fold; one where the dataset has one split.
        shuffled: Of the last epoch, on the frames of each clip in random order: each fold's WAR
            in percent. None where it was not measured.
        seconds: Of training, all folds together. None where it is not known.
    """

    seed: int
    folds: tuple[Fold, ...]
    shuffled: tuple[float, ...] | None
    seconds: float | None

    def figures(self) -> dict[str, float | None]:
        """WAR and UAR in percent, each the mean over the folds; None where a fold lacks it."""
        last = [fold.last for fold in self.folds]
        best = all_of(fold.best for fold in self.folds) or ()
        values = {
            'WAR': [score.war for score in last],
            'UAR': [score.uar for score in last],
            'WAR, best epoch': [score.war for score in best],
            'UAR, best epoch': [score.uar for score in best],
            SHUFFLED: list(self.shuffled or ()),
        }
        return {k: float(np.mean(v)) if v else None for k, v in values.items()}

    def recalls(self) -> dict[str, float]:
        """Each class's recall in percent over the clips of all folds; empty if not kept."""
        confusion = pooled(self.folds, 'last')
        if confusion is None:
            return {}
        named = zip(self.folds[0].classes, recalls(confusion).tolist(), strict=True)
        return {name: recall for name, recall in named if not np.isnan(recall)}


@dataclass(frozen=True)
class Row:
    """A method: at least one run, its cost, and what its paper prints by dataset."""

    name: str
    runs: tuple[Run, ...]
    complexity: Complexity | None = None
    bank_seconds: float | None = None
    published: dict[str, dict[str, float]] | None = None

    def wars(self) -> list[float]:
        """Return the WAR of each seed, which every run has."""
        return [float(np.mean([fold.last.war for fold in run.folds])) for run in self.runs]

    def spread(self, figure: str) -> tuple[float | None, float | None]:
        """Mean and standard deviation over the seeds of one of :meth:`Run.figures`."""
        return _spread([run.figures()[figure] for run in self.runs])

    def recalls(self) -> dict[str, float]:
        """Each class's recall, the mean over the seeds."""
        every = [run.recalls() for run in self.runs]
        return {name: float(np.mean([r[name] for r in every])) for name in every[0] if all(every)}

    def seconds(self) -> float | None:
        """Of training one seed, the mean."""
        return _spread([run.seconds for run in self.runs])[0]


def _spread(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    known = all_of(values)
    return (None, None) if known is None else mean_deviation(known)


def ranked(rows: Sequence[Row]) -> list[Row]:
    """The rows by mean WAR, the highest first.

    Raises:
        DFERError: They are of different datasets or classes.
    """
    folds = [(row.name, fold) for row in rows for run in row.runs for fold in run.folds]
    for name, fold in folds[1:]:
        first_name, first = folds[0]
        for what in ('dataset', 'classes'):
            ours, theirs = getattr(first, what), getattr(fold, what)
            if ours != theirs:
                raise DFERError(
                    f'{name} has {what} {theirs}, but {first_name} has {ours}: these make no one '
                    'table; choose the --methods of one'
                )
    return sorted(rows, key=lambda row: -np.mean(row.wars()))


def lead(row: Row, other: Row) -> tuple[float, float | None]:
    """By how much a row's mean WAR exceeds another's, and what it must exceed to count.

    That is twice the pooled standard deviation of the seeds; with three seeds each, about the
    difference that Student's t calls significant at 5 %. None where neither has two seeds.
    """
    squares, freedom = 0.0, 0
    for part in (row, other):
        values = part.wars()
        squares += float(np.sum((np.array(values) - np.mean(values)) ** 2))
        freedom += len(values) - 1
    limit = 2 * sqrt(squares / freedom) if freedom else None
    return float(np.mean(row.wars()) - np.mean(other.wars())), limit


# ------------------------------------------------------------------ as text, numbers and picture


def save_leaderboard(rows: Sequence[Row], folder: str | Path) -> str:
    """Writes ``leaderboard.txt``, ``.md``, ``.csv``, ``.json`` and ``.png``.

    Args:
        rows: At least one.
        folder: Where to; made if missing.

    Returns:
        The tables as text.

    Raises:
        DFERError: The rows are of different datasets or classes.
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
    """What the figures are of; before it, where they are synthetic, that they are."""
    folds = rows[0].runs[0].folds
    note = synthetic_note(folds[0].dataset)
    of_folds = f', each seed the mean of {len(folds)} folds' * (len(folds) > 1)
    name = folds[0].dataset or 'a dataset without a name'
    return [note] * bool(note) + [f'Leaderboard on {name}{of_folds}']


def heading(rows: Sequence[Row]) -> list[str]:
    """The lines above the tables: what the figures are, and how far they can be trusted."""
    lines = [
        *title(rows),
        'ours: the last epoch in percent, mean ± standard deviation (n - 1) over the seeds; best '
        'epoch: of highest WAR, chosen on the test set itself',
        'lead: in WAR, over the next row, against twice the pooled standard deviation of both '
        '(> exceeds it, < does not)',
    ]
    last = all_of(fold.last.confusion for fold in rows[0].runs[0].folds)
    if last is not None:
        clips, share = int(np.sum(last)), float(np.mean(rows[0].wars())) / 100
        lines.append(
            f'the seeds say nothing of the choice of test clips: with {clips} of them the first '
            f"row's WAR has a standard error of {100 * sqrt(share * (1 - share) / clips):.2f}"
        )
    if any(row.published for row in rows):
        lines.append("published: the papers' own WAR / UAR on the real data, of no run of ours")
    machines = {row.complexity.machine for row in rows if row.complexity is not None}
    lines += [f'clips/s: frames in memory, batches of {BATCH}, {m}' for m in sorted(machines)]
    return lines


def tables(rows: Sequence[Row]) -> list[list[list[str]]]:
    """Accuracy, recalls and cost, each with its head; rows as ranked."""
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
    def of(attribute: str, unit: float, digits: int) -> Callable[[Row], str]:
        return lambda row: (
            '-'
            if row.complexity is None
            else f'{getattr(row.complexity, attribute) / unit:.{digits}f}'
        )

    return {
        'trained parameters, M': of('trained', 1e6, 3),
        'all parameters, M': of('parameters', 1e6, 2),
        'GFLOPs per clip': of('clip_flops', 1e9, 2),
        'GFLOPs once, class vectors': of('once_flops', 1e9, 2),
        'training time': lambda row: _time(row.seconds()),
        'filling the feature bank': lambda row: _time(row.bank_seconds),
        'clips/s': of('clips_per_second', 1, 1),
    }


def _recall(row: Row, name: str) -> str:
    return _number(row.recalls().get(name))


def _number(value: float | None) -> str:
    return '-' if value is None else f'{value:.2f}'


def _pm(mean: float | None, deviation: float | None) -> str:
    return _number(mean) + ('' if deviation is None else f' ± {deviation:.2f}')


def _lead(row: Row, other: Row | None) -> str:
    if other is None:
        return ''
    difference, limit = lead(row, other)
    if limit is None:
        return f'{difference:.2f}'
    return f'{difference:.2f} {">" if difference > limit else "<"} {limit:.2f}'


def _published(row: Row, dataset: str) -> str:
    printed = (row.published or {}).get(dataset)
    return '-' if printed is None else f'{printed["WAR"]:.2f} / {printed["UAR"]:.2f}'


def _time(seconds: float | None) -> str:
    return '-' if seconds is None else str(timedelta(seconds=round(seconds)))


def as_numbers(rows: Sequence[Row]) -> dict[str, Any]:
    """All of it for programs: unrounded, with each seed's figures and confusion matrices."""
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
    confusion = pooled(run.folds, 'last')
    return dict(
        seed=run.seed,
        seconds=run.seconds,
        **run.figures(),
        confusion=None if confusion is None else confusion.tolist(),
    )


def _flat(row: Row, other: Row | None) -> dict[str, Any]:
    """One row of the CSV."""
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
    """A wide table, unrounded; where figures are synthetic, each row says so."""
    numbers, out = as_numbers(rows), io.StringIO()
    flat = [{k: v for k, v in row.items() if k != 'runs'} for row in numbers['methods']]
    note = {'note': numbers['note']} if numbers['note'] else {}
    writer = csv.DictWriter(out, list(dict.fromkeys(k for row in flat for k in {**row, **note})))
    writer.writeheader()
    writer.writerows({**row, **note} for row in flat)
    return out.getvalue()


def draw(rows: Sequence[Row]) -> Figure:
    """Bars of WAR and UAR with their standard deviation, a dot for each seed.

    Needs no display: the figure is not pyplot's.
    """
    figure = Figure(figsize=(9, 1.7 + 0.55 * len(rows)), layout='constrained')
    axes, places = figure.subplots(), np.arange(len(rows))
    for offset, (name, colour) in zip((-0.19, 0.19), BARS, strict=True):
        _plot_bars(axes, rows, places + offset, name, colour)
    shuffled = [row.spread(SHUFFLED)[0] for row in rows]
    if shown := [(war, y) for war, y in zip(shuffled, places - 0.19) if war is not None]:
        axes.plot(*zip(*shown), 'D', color='#d9822b', markersize=5, label=SHUFFLED)
    axes.set_yticks(places, [row.name for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)  # the first row on top
    axes.set(xlim=(0, 106), xlabel='percent, last epoch')
    axes.set_xticks(range(0, 101, 20))
    axes.grid(axis='x', color='#dddddd', linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    axes.set_title('\n'.join(title(rows)), fontsize=10)
    figure.legend(loc='outside lower center', ncols=5, frameon=False, fontsize=9)
    return figure


def _plot_bars(axes: Axes, rows: Sequence[Row], at: np.ndarray, name: str, colour: str) -> None:
    """One figure of every row, at heights (rows,)."""
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
        label='a seed' if first else None,
    )
    for y, mean, error, row in zip(at, means, errors, rows):
        end = max(mean + error, *(run.figures()[name] for run in row.runs))
        axes.text(end + 0.9, y, f'{mean:.1f}', va='center', fontsize=8)
