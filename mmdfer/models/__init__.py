"""Backbone, neck, text head and recognizer; importing this room registers them."""

from mmdfer.models.clip import CLIPDataPreprocessor, FrozenCLIP
from mmdfer.models.expression_clustered import ExpressionClusteredLoss, ExpressionClusteredNeck
from mmdfer.models.former_dfer import FormerDFER
from mmdfer.models.intensity import IntensityAwareLoss
from mmdfer.models.jas import JAS
from mmdfer.models.m3dfel import M3DFEL
from mmdfer.models.mat import MATHead
from mmdfer.models.p3d import P3D
from mmdfer.models.recognizer import CLIPRecognizer
from mmdfer.models.temporal import GRUNeck, LSTMNeck, TemporalTransformer
from mmdfer.models.vgg import VGG

__all__ = [
    'JAS',
    'M3DFEL',
    'P3D',
    'CLIPDataPreprocessor',
    'CLIPRecognizer',
    'ExpressionClusteredLoss',
    'ExpressionClusteredNeck',
    'FormerDFER',
    'FrozenCLIP',
    'IntensityAwareLoss',
    'MATHead',
    'VGG',
    'GRUNeck',
    'LSTMNeck',
    'TemporalTransformer',
]
