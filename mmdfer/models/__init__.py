"""Provide the models: backbones, necks, heads, losses, recognizers and data preprocessors.

Importing this package registers all of them in MMAction2's ``MODELS`` registry.
"""

from mmdfer.models.backbones import M3DFEL, P3D, VGG, FormerDFER, FrozenCLIP, VideoResNet
from mmdfer.models.data_preprocessors import CLIPDataPreprocessor
from mmdfer.models.heads import (
    ClassNameHead,
    CLIPERHead,
    CoCoOpHead,
    CoOpHead,
    DFERCLIPHead,
    MATHead,
    TextHead,
    TwoSidedHead,
)
from mmdfer.models.losses import ExpressionClusteredLoss, IntensityAwareLoss
from mmdfer.models.necks import (
    JAS,
    ExpressionClusteredNeck,
    GRUNeck,
    LSTMNeck,
    TemporalNeck,
    TemporalTransformer,
)
from mmdfer.models.recognizers import CLIPRecognizer, FineCLIPER, FrameFeatures

__all__ = [
    'CLIPDataPreprocessor',
    'CLIPERHead',
    'CLIPRecognizer',
    'ClassNameHead',
    'CoCoOpHead',
    'CoOpHead',
    'DFERCLIPHead',
    'ExpressionClusteredLoss',
    'ExpressionClusteredNeck',
    'FineCLIPER',
    'FormerDFER',
    'FrameFeatures',
    'FrozenCLIP',
    'GRUNeck',
    'IntensityAwareLoss',
    'JAS',
    'LSTMNeck',
    'M3DFEL',
    'MATHead',
    'P3D',
    'TemporalNeck',
    'TemporalTransformer',
    'TextHead',
    'TwoSidedHead',
    'VGG',
    'VideoResNet',
]
