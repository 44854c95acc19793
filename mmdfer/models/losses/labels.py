"""Read the labels of a batch for losses that compare one true class with the other classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmdfer.errors import DFERError


def read_single_labels(data_samples: Sequence[Any], features: Tensor, owner: str) -> Tensor:
    """Return the true class of each row of features, of shape (N,).

    Args:
        data_samples: Samples of the clips, each with one label.
        features: Features (N, ...) of the clips. If each clip has several views, the views of a
            clip are adjacent rows.
        owner: Name of the loss or head, for the error message.

    Raises:
        DFERError: If a clip has a soft label or several labels.
    """
    labels = torch.stack([sample.gt_label for sample in data_samples])  # (clips, 1)
    if labels.shape[1:] != (1,):
        raise DFERError(
            f'{owner}: labels of shape {tuple(labels.shape)} must be one class for each clip: do '
            'not use blending, and use a dataset without soft labels'
        )
    return labels[:, 0].to(features.device).repeat_interleave(len(features) // len(labels))
