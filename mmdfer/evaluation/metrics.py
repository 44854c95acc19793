"""Compute WAR, UAR and the recall of each class."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mmaction.evaluation import ConfusionMatrix

from mmdfer.errors import DFERError


def recalls(confusion: ArrayLike) -> np.ndarray:
    """Compute the recall of each class in percent.

    Args:
        confusion: The counts, (C, C); rows are true and columns are predicted classes.

    Returns:
        The recalls, (C,), which are NaN for classes without clips.
    """
    confusion = np.asarray(confusion)
    clips = confusion.sum(1)
    share = np.full(len(confusion), np.nan)
    return 100 * np.divide(confusion.diagonal(), clips, out=share, where=clips > 0)


def war_uar(confusion: ArrayLike) -> tuple[float, float]:
    """Compute the weighted and the unweighted average recall (WAR and UAR).

    WAR weights the recall of each class by its number of clips, so it equals the accuracy. UAR is
    the mean recall over the classes that have clips. A class without clips has no recall, and
    counting it as 0 would limit the highest UAR that can be reached.

    Args:
        confusion: The counts, (C, C); rows are true and columns are predicted classes.

    Returns:
        WAR and UAR in percent.

    Raises:
        DFERError: If there are no clips.
    """
    confusion = np.asarray(confusion)
    if confusion.sum() == 0:
        raise DFERError(
            'WAR and UAR cannot be computed: the test set is empty; check its annotation'
        )
    war = 100 * confusion.trace() / confusion.sum()
    return float(war), float(np.nanmean(recalls(confusion)))


def score_labels(predicted: ArrayLike, truth: ArrayLike) -> dict[str, float]:
    """Compute WAR and UAR from predicted and true labels.

    Args:
        predicted: The predicted labels, (N,).
        truth: The true labels, (N,).

    Returns:
        A dict with ``WAR`` and ``UAR`` in percent.

    Raises:
        DFERError: If there are no labels.
    """
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    classes = int(max(predicted.max(initial=0), truth.max(initial=0))) + 1
    war, uar = war_uar(ConfusionMatrix.calculate(predicted, truth, classes))
    return dict(WAR=war, UAR=uar)
