"""What the same frozen CLIP gives without training: the figures that a method must beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from mmdfer.models import FrozenCLIP

PROBE_FOLDS = 5  # in which the regularisation of the logistic regression is chosen


def mean_vectors(frames: Tensor) -> Tensor:
    """The mean of unit frame vectors, (clips, ..., T, D) -> (clips, D)."""
    return F.normalize(frames, dim=-1).flatten(1, -2).mean(1)


@torch.no_grad()
def zero_shot(clip: FrozenCLIP, vectors: Tensor, classes: Sequence[str], prompt: str) -> np.ndarray:
    """Classifies video vectors by the nearest sentence.

    Args:
        clip: Its text tower encodes the sentences.
        vectors: (N, D).
        classes: C names.
        prompt: The sentence; ``{}`` is the class.

    Returns:
        (N,) labels.
    """
    sentences = clip.encode_text([prompt.format(name) for name in classes])  # (C, D)
    return (vectors @ F.normalize(sentences, dim=-1).cpu().T).argmax(-1).numpy()


def fit_probe(vectors: Tensor, labels: np.ndarray, identities: np.ndarray) -> GridSearchCV:
    """Logistic regression, its regularisation chosen on held-out identities.

    Args:
        vectors: (N, D).
        labels: (N,).
        identities: (N,) who is seen in each clip; none is on both sides of a split.

    Returns:
        A classifier with ``predict``.
    """
    probe = make_pipeline(StandardScaler(), LogisticRegression(solver='newton-cg', max_iter=200))
    grid = {'logisticregression__C': np.logspace(-3, 2, 6)}
    search = GridSearchCV(probe, grid, scoring='accuracy', cv=GroupKFold(PROBE_FOLDS))
    return search.fit(vectors.numpy(), labels, groups=identities)
