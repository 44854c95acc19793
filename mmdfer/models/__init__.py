"""Backbones, necks, text heads and recognizer; importing this room registers them."""

from mmdfer.models.class_names import ClassNameHead
from mmdfer.models.clip import CLIPDataPreprocessor, FrozenCLIP
from mmdfer.models.cocoop import CoCoOpHead
from mmdfer.models.coop import CoOpHead
from mmdfer.models.dfer_clip import DFERCLIPHead
from mmdfer.models.jas import JAS
from mmdfer.models.mat import MATHead
from mmdfer.models.recognizer import CLIPRecognizer
from mmdfer.models.temporal import GRUNeck, LSTMNeck, TemporalTransformer
from mmdfer.models.text_head import TextHead
from mmdfer.models.vgg import VGG

__all__ = [
    'JAS',
    'VGG',
    'CLIPDataPreprocessor',
    'CLIPRecognizer',
    'ClassNameHead',
    'CoCoOpHead',
    'CoOpHead',
    'DFERCLIPHead',
    'FrozenCLIP',
    'GRUNeck',
    'LSTMNeck',
    'MATHead',
    'TemporalTransformer',
    'TextHead',
]
