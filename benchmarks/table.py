"""Write what was measured as tables in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.timing import quartiles
from mmdfer.errors import DFERError
from mmdfer.tables import markdown_table

BASELINES = ('strong', 'naive')
LEGEND = (
    'A ratio says how many times faster (or smaller) mmdfer is: the median of paired repeats, with '
    'their quartiles in brackets. Below 1, mmdfer is slower (or larger).'
)


@dataclass(frozen=True)
class Row:
    """Hold one row of the table: the repeats of one measurement for each implementation.

    Args:
        name: What was measured.
        unit: The unit of all values, for example ``'s'`` or ``'views/s'``.
        mmdfer: The values of mmdfer, one for each repeat.
        strong: The values of the strong baseline, or of another reference that ``name`` states.
        naive: The values of the naive baseline.
        higher_is_better: Whether larger values are better, as for rates.
        note: A remark for the reader.
    """

    name: str
    unit: str
    mmdfer: list[float]
    strong: list[float] = field(default_factory=list)
    naive: list[float] = field(default_factory=list)
    higher_is_better: bool = False
    note: str = ''

    def ratios(self, baseline: str) -> list[float]:
        """Return how many times better mmdfer is than a baseline, one value for each repeat."""
        pairs = zip(self.mmdfer, getattr(self, baseline))
        return [a / b if self.higher_is_better else b / a for a, b in pairs]


def make_row(name: str, unit: str, values: Mapping[str, list[float]], **options: Any) -> Row:
    """Make a row of the values of each implementation.

    Args:
        name: As in :class:`Row`.
        unit: As in :class:`Row`.
        values: The values by implementation, ``'mmdfer'``, ``'strong'`` or ``'naive'``.
        options: Other arguments of :class:`Row`.
    """
    against = {baseline: values.get(baseline, []) for baseline in BASELINES}
    return Row(name, unit, values['mmdfer'], against['strong'], against['naive'], **options)


def rates(count: float, seconds: Sequence[float]) -> list[float]:
    """Convert the seconds of ``count`` items to items per second."""
    return [count / value for value in seconds]


def result_table(rows: Sequence[Row]) -> str:
    """Write rows as a table, with the notes and a legend below."""
    lines = [['', 'mmdfer', 'strong baseline', 'ratio', 'naive baseline', 'ratio']]
    notes: list[str] = []
    for row in rows:
        if row.note and row.note not in notes:
            notes.append(row.note)
        mark = f' [{notes.index(row.note) + 1}]' if row.note else ''
        cells = [row.name + mark, _value(row.mmdfer, row.unit)]
        for baseline in BASELINES:
            cells += [_value(getattr(row, baseline), row.unit), _ratio(row.ratios(baseline))]
        lines.append(cells)
    remarks = [f'[{number}] {note}' for number, note in enumerate(notes, 1)]
    return '\n\n'.join([markdown_table(lines, 'left'), LEGEND, *remarks])


def spread_table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Write how the median of each ratio spreads over several runs.

    Args:
        runs: The contents of the JSON files that ``--out`` wrote.
    """
    numbers = [f'run {number}' for number in range(1, len(runs) + 1)]
    tables = []
    for baseline in BASELINES:
        lines = [[f'ratio to the {baseline} baseline', *numbers, 'min', 'median', 'max']]
        found = [_median_ratios(run, baseline) for run in runs]
        for name in found[0]:
            values = [ratios[name] for ratios in found if name in ratios]
            if len(values) < len(runs):
                raise DFERError(f'the row {name!r} is not in each of the files')
            cells = [*values, min(values), median(values), max(values)]
            lines.append([name, *map(_short, cells)])
        tables.append(markdown_table(lines, 'left'))
    return '\n\n'.join(tables)


def _median_ratios(run: Mapping[str, Any], baseline: str) -> dict[str, float]:
    rows = [Row(**row) for row in run['rows']]
    return {row.name: median(row.ratios(baseline)) for row in rows if row.ratios(baseline)}


def _value(values: Sequence[float], unit: str) -> str:
    return f'{_short(median(values))} {unit}' if values else ''


def _ratio(ratios: Sequence[float]) -> str:
    if not ratios:
        return ''
    low, middle, high = quartiles(ratios)
    if low == high:
        return _short(middle)
    return f'{_short(middle)} ({_short(low)} to {_short(high)})'


def _short(value: float) -> str:
    """Write a number with three significant digits, and without an exponent."""
    return f'{value:.0f}' if abs(value) >= 100 else f'{value:#.3g}'
