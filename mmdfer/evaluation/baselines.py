"""Compute baselines from frozen CLIP features without training a model.

A method that trains on top of the same CLIP should score higher than these baselines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmdfer.models import FrozenCLIP

if TYPE_CHECKING:
    from sklearn.model_selection import GridSearchCV

PROBE_FOLDS = 5  # the folds that choose the regularisation of the logistic regression


def mean_vectors(frames: Tensor) -> Tensor:
    """Average the unit-length frame vectors of each clip.

    Args:
        frames: The frame vectors, (clips, ..., T, D). Vectors of any length are allowed.

    Returns:
        The mean vectors, (clips, D), averaged over all axes but the first and the last.
    """
    return F.normalize(frames, dim=-1).flatten(1, -2).mean(1)


@torch.no_grad()
def zero_shot(clip: FrozenCLIP, vectors: Tensor, classes: Sequence[str], prompt: str) -> np.ndarray:
    """Classify each clip by the class sentence with the most similar text vector.

    Args:
        clip: The CLIP model, whose text tower encodes the sentences.
        vectors: The vector of each clip, (N, D).
        classes: The names of the C classes.
        prompt: The sentence for each class, in which ``{}`` is replaced by the class name.

    Returns:
        The predicted labels, (N,).
    """
    sentences = clip.encode_text([prompt.format(name) for name in classes])  # (C, D)
    return (vectors @ F.normalize(sentences, dim=-1).cpu().T).argmax(-1).numpy()


def fit_probe(vectors: Tensor, labels: np.ndarray, identities: np.ndarray) -> GridSearchCV:
    """Fit a logistic regression, and choose its regularisation by cross-validation over identities.

    Args:
        vectors: The vector of each clip, (N, D).
        labels: The label of each clip, (N,).
        identities: The person in each clip, (N,). All clips of a person are in the same fold.

    Returns:
        The fitted classifier, which has the method ``predict``.
    """
    # Imported here because sklearn takes long to import, and most runs have no baselines.
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(solver='newton-cg', max_iter=200))
    grid = {'logisticregression__C': np.logspace(-3, 2, 6)}
    search = GridSearchCV(probe, grid, scoring='accuracy', cv=GroupKFold(PROBE_FOLDS))
    return search.fit(vectors.numpy(), labels, groups=identities)
