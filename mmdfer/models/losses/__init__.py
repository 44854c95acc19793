"""Provide the losses of methods that CLIP methods are compared with: EC-STFL and IAL."""

from mmdfer.models.losses.expression_clustered_loss import ExpressionClusteredLoss
from mmdfer.models.losses.intensity_aware_loss import IntensityAwareLoss

__all__ = [
    'ExpressionClusteredLoss',
    'IntensityAwareLoss',
]
