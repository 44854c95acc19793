"""Provide the models: backbones, adapters, necks, heads, losses, recognizers, preprocessors.

Importing this package registers all of them in MMAction2's ``MODELS`` registry.
"""

from mmdfer.models.adapters import AIMAdapter, FRUAdapter, LoRA, TowerAdapter
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
    'AIMAdapter',
    'CLIPDataPreprocessor',
    'CLIPERHead',
    'CLIPRecognizer',
    'ClassNameHead',
    'CoCoOpHead',
    'CoOpHead',
    'DFERCLIPHead',
    'ExpressionClusteredLoss',
    'ExpressionClusteredNeck',
    'FRUAdapter',
    'FineCLIPER',
    'FormerDFER',
    'FrameFeatures',
    'FrozenCLIP',
    'GRUNeck',
    'IntensityAwareLoss',
    'JAS',
    'LSTMNeck',
    'LoRA',
    'M3DFEL',
    'MATHead',
    'P3D',
    'TemporalNeck',
    'TemporalTransformer',
    'TextHead',
    'TowerAdapter',
    'TwoSidedHead',
    'VGG',
    'VideoResNet',
]
