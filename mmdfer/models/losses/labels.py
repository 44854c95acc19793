"""The labels of a batch, for losses that compare one class of a clip with others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmdfer.errors import DFERError


def single_labels(data_samples: Sequence[Any], features: Tensor, owner: str) -> Tensor:
    """Return the class of each row of features, (N,).

    Args:
        data_samples: Of the clips, each with one label.
        features: (N, ...), of one or more views for each clip; views of a clip stand together.
        owner: The loss, for the error.

    Raises:
        DFERError: A clip has soft labels or several.
    """
    labels = torch.stack([sample.gt_label for sample in data_samples])  # (clips, 1)
    if labels.shape[1:] != (1,):
        raise DFERError(
            f'{owner}: labels of shape {tuple(labels.shape)}; it needs one class for each clip: '
            'do not mix clips, and take a dataset without soft labels'
        )
    return labels[:, 0].to(features.device).repeat_interleave(len(features) // len(labels))
