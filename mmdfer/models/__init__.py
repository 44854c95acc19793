"""Backbones, necks, text heads and recognizer; importing this room registers them."""

from mmdfer.models.class_names import ClassNameHead
from mmdfer.models.clip import CLIPDataPreprocessor, FrozenCLIP
from mmdfer.models.cliper import CLIPERHead
from mmdfer.models.cocoop import CoCoOpHead
from mmdfer.models.coop import CoOpHead
from mmdfer.models.dfer_clip import DFERCLIPHead
from mmdfer.models.expression_clustered import ExpressionClusteredLoss, ExpressionClusteredNeck
from mmdfer.models.former_dfer import FormerDFER
from mmdfer.models.intensity import IntensityAwareLoss
from mmdfer.models.jas import JAS
from mmdfer.models.m3dfel import M3DFEL
from mmdfer.models.mat import MATHead
from mmdfer.models.p3d import P3D
from mmdfer.models.recognizer import CLIPRecognizer
from mmdfer.models.temporal import GRUNeck, LSTMNeck, TemporalTransformer
from mmdfer.models.text_head import TextHead
from mmdfer.models.vgg import VGG
from mmdfer.models.video_resnet import VideoResNet

__all__ = [
    'JAS',
    'M3DFEL',
    'P3D',
    'VGG',
    'CLIPDataPreprocessor',
    'CLIPERHead',
    'CLIPRecognizer',
    'ClassNameHead',
    'CoCoOpHead',
    'CoOpHead',
    'DFERCLIPHead',
    'ExpressionClusteredLoss',
    'ExpressionClusteredNeck',
    'FormerDFER',
    'FrozenCLIP',
    'GRUNeck',
    'IntensityAwareLoss',
    'LSTMNeck',
    'MATHead',
    'TemporalTransformer',
    'TextHead',
    'VideoResNet',
]
