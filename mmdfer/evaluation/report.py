"""Read the `report.json` that a run of training ends with."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmdfer.errors import DFERError


@dataclass(frozen=True)
class Score:
    """One validation: WAR and UAR in percent, and (C, C) counts where they were kept.

    ``epoch`` is the number of the iteration where training counted iterations.
    """

    epoch: int
    war: float
    uar: float
    confusion: np.ndarray | None


@dataclass(frozen=True)
class Fold:
    """What training came to on one fold.

    Attributes:
        number: The fold's.
        dataset: The dataset's name, where it has one.
        classes: The names of its C classes.
        last: The validation at the end of training.
        best: The validation of highest WAR; None where its figures are lost.
        stopped_early: Whether a hook, such as EarlyStoppingHook, ended training before the last
            epoch of its config.
    """

    number: int
    dataset: str | None
    classes: tuple[str, ...]
    last: Score
    best: Score | None
    stopped_early: bool = False


# ------------------------------------------------------------------ reading


def read_fold(path: str | Path, number: int = 1) -> Fold:
    """Reads the ``report.json`` that ReportHook wrote.

    Args:
        path: The file.
        number: Of the fold, which the report does not know.

    Raises:
        DFERError: The file is missing or incomplete.
    """
    try:
        report = json.loads(Path(path).read_text())
        classes = tuple(map(str, report['classes']))
        last, best = (_score(report[which], len(classes)) for which in ('last', 'best'))
        if last is None:
            raise ValueError('without a last epoch')
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DFERError(
            f'{path}: the report is incomplete ({type(error).__name__}: {error}); delete it and '
            'rerun tools/train.py --resume'
        ) from error
    stopped = report.get('stopped_early') is True  # absent where an older version wrote the file
    return Fold(number, report.get('dataset'), classes, last, best, stopped)


def _score(figures: dict[str, Any] | None, classes: int) -> Score | None:
    """One validation of a report; ValueError where its confusion matrix is of another size."""
    if figures is None:
        return None
    confusion = figures['confusion']
    if confusion is not None:
        confusion = np.array(confusion, dtype=np.int64)
        if confusion.shape != (classes, classes):
            raise ValueError(f'confusion of shape {confusion.shape} for {classes} classes')
    step = figures['iter' if 'iter' in figures else 'epoch']
    return Score(int(step), float(figures['WAR']), float(figures['UAR']), confusion)


def synthetic_note(dataset: str | None) -> str:
    """What has to stand on every table of figures that are not of the dataset itself; or ``''``."""
    if dataset is None or 'synth' not in dataset.lower():
        return ''
    rest = re.sub(r'(?i)synth(etic)?( tree like)?|[()\[\]]', ' ', dataset)
    name = ' '.join(rest.split()).strip(' ,:;_-')
    return f'synthetic data: not results on {name or "any real dataset"}'
