"""EC-STFL's loss: features of one expression together, of different ones apart."""

from __future__ import annotations

import torch
from torch import Tensor

from mmaction.models.losses import BaseWeightedLoss
from mmaction.registry import MODELS


@MODELS.register_module()
class ExpressionClusteredLoss(BaseWeightedLoss):
    """The expression-clustered loss of EC-STFL (Jiang et al., ACM MM 2020).

    With d the L1 distance of two features of a batch of N, and each clip of its own class too::

        near_i = mean of d_ij over the clips j of i's class
        far_i  = sum of 1 / d_ij over the n_i clips j of other classes / (n_i + 1)
        L      = sum of near_i * far_i over i / N^2

    As a product of distances and their inverses it does not depend on the features' scale.

    From the paper: the two terms, within a batch. From the authors' code: L1, the product,
    the divisors. On several ranks each has its own batch.

    Args:
        loss_weight: 10 in the authors' code.
        eps: Added to d before it is inverted.
    """

    def __init__(self, loss_weight: float = 10.0, eps: float = 1e-6) -> None:
        super().__init__(loss_weight)
        self.eps = eps

    def _forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Features (N, C) of classes (N,) -> the loss, without ``loss_weight``."""
        distance = torch.cdist(features, features, p=1)  # (N, N)
        same = labels[:, None] == labels
        near = (distance * same).sum(1) / same.sum(1)
        far = ((~same) / (distance + self.eps)).sum(1) / ((~same).sum(1) + 1)
        return (near * far).sum() / len(features) ** 2
