"""Backbone, neck, text head and recognizer; importing this room registers them."""

from mmdfer.models.clip import CLIPDataPreprocessor, FrozenCLIP
from mmdfer.models.jas import JAS
from mmdfer.models.mat import MATHead
from mmdfer.models.recognizer import CLIPRecognizer
from mmdfer.models.temporal import GRUNeck, LSTMNeck, TemporalTransformer
from mmdfer.models.vgg import VGG

__all__ = [
    'VGG',
    'JAS',
    'CLIPDataPreprocessor',
    'CLIPRecognizer',
    'FrozenCLIP',
    'GRUNeck',
    'LSTMNeck',
    'MATHead',
    'TemporalTransformer',
]
