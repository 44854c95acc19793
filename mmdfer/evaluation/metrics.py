"""Compute WAR, UAR and the recall of each class."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mmaction.evaluation import ConfusionMatrix

from mmdfer.errors import DFERError


def recalls(confusion: ArrayLike) -> np.ndarray:
    """Each class's recall in percent, (C, C) -> (C,); NaN for a class without a clip."""
    confusion = np.asarray(confusion)
    clips = confusion.sum(1)
    share = np.full(len(confusion), np.nan)
    return 100 * np.divide(confusion.diagonal(), clips, out=share, where=clips > 0)


def war_uar(confusion: ArrayLike) -> tuple[float, float]:
    """Weighted and unweighted average recall.

    WAR weights each class by its clips and so is the accuracy. UAR is the plain mean over the
    classes that have a clip: one that the test set lacks has no recall, and counting it as 0 would
    cap what can be reached.

    Args:
        confusion: (C, C) counts, rows the true and columns the predicted class.

    Returns:
        WAR and UAR in percent.

    Raises:
        DFERError: There is no clip at all.
    """
    confusion = np.asarray(confusion)
    if confusion.sum() == 0:
        raise DFERError('WAR and UAR of no clips: the test set is empty; check its annotation')
    war = 100 * confusion.trace() / confusion.sum()
    return float(war), float(np.nanmean(recalls(confusion)))


def war_uar_of_labels(predicted: ArrayLike, truth: ArrayLike) -> dict[str, float]:
    """WAR and UAR, by name, of labels (N,) against the true ones (N,)."""
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    classes = int(max(predicted.max(initial=0), truth.max(initial=0))) + 1
    war, uar = war_uar(ConfusionMatrix.calculate(predicted, truth, classes))
    return dict(WAR=war, UAR=uar)
