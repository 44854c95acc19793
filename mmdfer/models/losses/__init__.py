"""Losses of the methods compared with."""

from mmdfer.models.losses.expression_clustered_loss import ExpressionClusteredLoss
from mmdfer.models.losses.intensity_aware_loss import IntensityAwareLoss

__all__ = [
    'ExpressionClusteredLoss',
    'IntensityAwareLoss',
]
