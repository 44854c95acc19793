"""Provide the loss of IAL, which emphasises the class that a clip is most easily confused with."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from mmaction.models.losses import CrossEntropyLoss
from mmaction.registry import MODELS

from mmdfer.errors import DFERError


@MODELS.register_module()
class IntensityAwareLoss(CrossEntropyLoss):
    """Compute the cross-entropy plus the intensity-aware loss of IAL (Li et al., AAAI 2023).

    The intensity-aware loss is a cross-entropy over only two classes: the true class and the class
    with the largest logit among the others::

        L = L_CE + intensity_weight * mean(log(1 + exp(largest other logit - true logit)))

    The second term is large for clips with expressions of low intensity, because their logits are
    close to those of another class. The loss works in any head of MMAction2:
    ``loss_cls=dict(type='IntensityAwareLoss')``.

    From the paper: the loss.

    From the authors' code: its weight of 0.1.

    Args:
        intensity_weight: Weight of the intensity-aware loss relative to the cross-entropy.
        kwargs: Passed to MMAction2's CrossEntropyLoss. ``class_weight`` affects only the
            cross-entropy.
    """

    def __init__(self, intensity_weight: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.intensity_weight = intensity_weight

    def _forward(self, cls_score: Tensor, label: Tensor, **kwargs: Any) -> Tensor:
        """Compute the loss, without ``loss_weight``.

        Args:
            cls_score: Logits (N, C).
            label: True classes (N,).
            kwargs: Passed to CrossEntropyLoss.

        Raises:
            DFERError: If the labels are soft labels, which have no single true class.
        """
        if label.ndim != 1:
            raise DFERError(
                f'IntensityAwareLoss: labels of shape {tuple(label.shape)} must be one class for '
                'each clip: set label_smooth_eps=0 in the head and do not use blending'
            )
        true = cls_score.gather(1, label[:, None])[:, 0]  # (N,)
        others = cls_score.scatter(1, label[:, None], float('-inf')).amax(1)  # (N,)
        intensity = F.softplus(others - true).mean()
        return super()._forward(cls_score, label, **kwargs) + self.intensity_weight * intensity
