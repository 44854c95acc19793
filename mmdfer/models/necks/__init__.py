"""Provide the necks, which turn the frame vectors of a clip into one vector."""

from mmdfer.models.necks.expression_clustered_neck import ExpressionClusteredNeck
from mmdfer.models.necks.jas import JAS
from mmdfer.models.necks.recurrent_necks import GRUNeck, LSTMNeck
from mmdfer.models.necks.temporal_neck import TemporalNeck
from mmdfer.models.necks.temporal_transformer import TemporalTransformer

__all__ = [
    'ExpressionClusteredNeck',
    'GRUNeck',
    'JAS',
    'LSTMNeck',
    'TemporalNeck',
    'TemporalTransformer',
]
