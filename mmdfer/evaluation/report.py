"""Read the `report.json` that ReportHook writes at the end of training."""

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
    """Hold the metrics of one validation.

    Attributes:
        epoch: The number of the epoch, or of the iteration if the training loop counts iterations.
        war: WAR in percent.
        uar: UAR in percent.
        confusion: The counts, (C, C), or None if the report has none.
    """

    epoch: int
    war: float
    uar: float
    confusion: np.ndarray | None


@dataclass(frozen=True)
class Fold:
    """Hold the result of training on one fold of a dataset.

    Attributes:
        number: The number of the fold.
        dataset: The name of the dataset, or None if the dataset has no name.
        classes: The names of the C classes.
        last: The metrics of the last validation.
        best: The metrics of the validation with the highest WAR, or None if they were lost.
        stopped_early: Whether a hook, such as EarlyStoppingHook, ended training before the last
            epoch of the config.
    """

    number: int
    dataset: str | None
    classes: tuple[str, ...]
    last: Score
    best: Score | None
    stopped_early: bool = False


def read_fold(path: str | Path, number: int = 1) -> Fold:
    """Read the ``report.json`` that ReportHook has written.

    Args:
        path: The path of the file.
        number: The number of the fold, which the report does not contain. The default is 1, also
            for datasets with one split.

    Returns:
        The result of training on the fold.

    Raises:
        DFERError: If the file does not exist or is incomplete.
    """
    try:
        report = json.loads(Path(path).read_text())
        classes = tuple(map(str, report['classes']))
        last, best = (_score(report[which], len(classes)) for which in ('last', 'best'))
        if last is None:
            raise ValueError('it has no last epoch')
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DFERError(
            f'{path}: the report is incomplete ({type(error).__name__}: {error}); delete it and '
            'rerun tools/train.py --resume'
        ) from error
    stopped = report.get('stopped_early') is True  # absent in files of older versions
    return Fold(number, report.get('dataset'), classes, last, best, stopped)


def _score(figures: dict[str, Any] | None, classes: int) -> Score | None:
    """Convert one validation of a report.

    Args:
        figures: The entry of the report, or None.
        classes: The number of classes.

    Returns:
        The metrics, or None if the entry is None.

    Raises:
        ValueError: If the confusion matrix does not have one row and one column for each class.
    """
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
    """Return the note that every table of results on synthetic data must contain.

    Args:
        dataset: The name of the dataset, or None.

    Returns:
        The note, or an empty string if the name does not contain "synth".
    """
    if dataset is None or 'synth' not in dataset.lower():
        return ''
    rest = re.sub(r'(?i)\bsynth_\w+|synth(etic)?( tree like)?|[()\[\]]', ' ', dataset)
    name = ' '.join(rest.split()).strip(' ,:;_-')
    return f'synthetic data: not results on {name or "any real dataset"}'


def overlap_note(trained_on: str | None, tested_on: str | None) -> str:
    """Return the note about clips that the datasets of a training and of a test share.

    The number is the one in ``docs/datasets.md``.

    Args:
        trained_on: The name of the dataset of the training, or None.
        tested_on: The name of the dataset of the test, or None.

    Returns:
        The note, or an empty string if no shared clips are known.
    """
    if {trained_on, tested_on} != {'DFEW', 'MAFW'}:
        return ''
    return '1,097 clips are in both DFEW and MAFW, so the model has seen test clips in training'
