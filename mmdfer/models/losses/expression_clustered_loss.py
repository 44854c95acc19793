"""Provide the loss of EC-STFL, which clusters the features of clips by expression."""

from __future__ import annotations

import torch
from torch import Tensor

from mmaction.models.losses import BaseWeightedLoss
from mmaction.registry import MODELS


@MODELS.register_module()
class ExpressionClusteredLoss(BaseWeightedLoss):
    """Compute the expression-clustered loss of EC-STFL (Jiang et al., ACM MM 2020).

    The loss pulls features of the same expression together and pushes features of different
    expressions apart. With d_ij the L1 distance of the features of the clips i and j in a batch of
    N clips::

        near_i = mean of d_ij over all clips j of the class of i, including i
        far_i  = sum of 1 / d_ij over the n_i clips j of other classes / (n_i + 1)
        L      = sum of near_i * far_i over i / N^2

    The loss is a product of distances and inverse distances, so it does not depend on the scale of
    the features.

    From the paper: the two terms, computed within a batch.

    From the authors' code: the L1 distance, the product of the two terms, the divisors, the weight
    of 10.

    With several ranks, each rank computes the loss over its own part of the batch.

    Args:
        loss_weight: Weight of the loss.
        eps: Constant that is added to d before it is inverted.
    """

    def __init__(self, loss_weight: float = 10.0, eps: float = 1e-6) -> None:
        super().__init__(loss_weight)
        self.eps = eps

    def _forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of features (N, C) with classes (N,), without ``loss_weight``."""
        distance = torch.cdist(features, features, p=1)  # (N, N)
        same = labels[:, None] == labels
        near = (distance * same).sum(1) / same.sum(1)
        far = ((~same) / (distance + self.eps)).sum(1) / ((~same).sum(1) + 1)
        return (near * far).sum() / len(features) ** 2
