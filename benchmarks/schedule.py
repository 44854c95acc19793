"""Compute the duration of DFEW's whole schedule from the parts that were measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median

from benchmarks.mmdfer_runs import BAP
from benchmarks.settings import PRECISIONS
from benchmarks.table import Row, make_row
from benchmarks.timing import Samples

# Clips of the training set and the test set of a fold, and of all folds; views of a training clip.
TRAIN, TEST, CLIPS, VIEWS = 9356, 2341, 11697, 8
BATCHES, TEST_BATCHES = TRAIN // 64, -(-TEST // 64)  # the last batch of training is left out
EPOCHS = {name: stage.epochs for name, stage in BAP.items()}
NOTE = (
    f'Computed from the measured parts: 100 epochs of {BATCHES} batches of 64 with a validation '
    'after each, and the extraction of eight training views and one test view of each clip, once '
    'for all folds. The naive baseline extracts nothing, and its decoding and its text tower in '
    'validation are counted as free.'
)


def compute_schedule(samples: Mapping[str, Samples]) -> list[Row]:
    """Compute the hours of one fold and of five folds of DFEW, one value for each repeat.

    Args:
        samples: The measured values of the parts ``steps`` and ``extraction``.
    """
    rows = []
    for folds in (1, 5):
        for precision in PRECISIONS:
            values = {
                name: _hours(samples, folds, precision, name)
                for name in ('mmdfer', 'strong', 'naive')
                if name != 'naive' or precision == 'fp32'
            }
            title = f'DFEW, {folds} fold{"s" * (folds > 1)}, {precision} (computed)'
            rows.append(make_row(title, 'h', values, note=NOTE))
    return rows


def describe_parts(samples: Mapping[str, Samples]) -> str:
    """Write the hours that extraction, steps and validation take in five folds."""
    lines = []
    for precision in PRECISIONS:
        for name in ('mmdfer', 'strong'):
            parts = (_extraction, _steps, _validation)
            extraction, steps, validation = (
                median(part(samples, 5, precision, name)) / 3600 for part in parts
            )
            lines.append(
                f'DFEW, 5 folds, {precision}, {name}: extraction {extraction:.2f} h, '
                f'steps {steps:.2f} h, validation {validation:.2f} h'
            )
    return '\n'.join(lines)


def _hours(samples: Mapping[str, Samples], folds: int, precision: str, name: str) -> list[float]:
    parts: list[Callable[..., list[float]]] = [_steps, _validation]
    if name != 'naive':
        parts.append(_extraction)
    seconds = [part(samples, folds, precision, name) for part in parts]
    return [sum(values) / 3600 for values in zip(*seconds)]


def _extraction(
    samples: Mapping[str, Samples], folds: int, precision: str, name: str
) -> list[float]:
    views = VIEWS * TRAIN + TEST if folds == 1 else (VIEWS + 1) * CLIPS
    return [views / rate for rate in samples['extraction'][f'{precision} {name}']]


def _steps(samples: Mapping[str, Samples], folds: int, precision: str, name: str) -> list[float]:
    key = name if name == 'naive' else f'{name} {precision}'
    stages = [
        [folds * epochs * BATCHES * seconds for seconds in samples['steps'][f'{stage} {key}']]
        for stage, epochs in EPOCHS.items()
    ]
    return [sum(values) for values in zip(*stages)]


def _validation(
    samples: Mapping[str, Samples], folds: int, precision: str, name: str
) -> list[float]:
    key = 'joint image pass' if name == 'naive' else f'validation {name}'
    batches = folds * sum(EPOCHS.values()) * TEST_BATCHES
    return [batches * seconds for seconds in samples['steps'][key]]
