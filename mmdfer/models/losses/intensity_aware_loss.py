"""IAL's loss: what an expression is most easily taken for weighs more."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from mmaction.models.losses import CrossEntropyLoss
from mmaction.registry import MODELS

from mmdfer.errors import DFERError


@MODELS.register_module()
class IntensityAwareLoss(CrossEntropyLoss):
    """Cross-entropy, and the intensity-aware loss (IAL; Li et al., AAAI 2023).

    The intensity-aware loss is the cross-entropy over two classes alone, the true one and the one
    that has the largest logit among the others::

        L = L_CE + intensity_weight * mean(log(1 + exp(largest other logit - true logit)))

    It is large for clips of a low intensity, which lie close to another class. For any head of
    MMAction2: ``loss_cls=dict(type='IntensityAwareLoss')``.

    From the paper: the loss. From the authors' code: its weight of 0.1.

    Args:
        intensity_weight: Of the intensity-aware loss.
        kwargs: As for MMAction2's CrossEntropyLoss; ``class_weight`` weighs the cross-entropy.
    """

    def __init__(self, intensity_weight: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.intensity_weight = intensity_weight

    def _forward(self, cls_score: Tensor, label: Tensor, **kwargs: Any) -> Tensor:
        """Computes the loss, without ``loss_weight``.

        Args:
            cls_score: (N, C) logits.
            label: (N,) the true classes.
            kwargs: As for CrossEntropyLoss.

        Raises:
            DFERError: Soft labels: there is no one true class.
        """
        if label.ndim != 1:
            raise DFERError(
                f'IntensityAwareLoss: labels of shape {tuple(label.shape)}; it wants one class a '
                'clip: set label_smooth_eps=0 in the head, and mix no clips'
            )
        true = cls_score.gather(1, label[:, None])[:, 0]  # (N,)
        others = cls_score.scatter(1, label[:, None], float('-inf')).amax(1)  # (N,)
        intensity = F.softplus(others - true).mean()
        return super()._forward(cls_score, label, **kwargs) + self.intensity_weight * intensity
