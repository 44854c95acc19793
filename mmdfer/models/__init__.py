"""Backbone, necks, text heads and recognizer; importing this room registers them."""

from mmdfer.models.class_names import ClassNameHead
from mmdfer.models.clip import CLIPDataPreprocessor, FrozenCLIP
from mmdfer.models.cocoop import CoCoOpHead
from mmdfer.models.coop import CoOpHead
from mmdfer.models.dfer_clip import DFERCLIPHead
from mmdfer.models.jas import JAS
from mmdfer.models.mat import MATHead
from mmdfer.models.recognizer import CLIPRecognizer
from mmdfer.models.text_head import TextHead

__all__ = [
    'JAS',
    'CLIPDataPreprocessor',
    'CLIPRecognizer',
    'ClassNameHead',
    'CoCoOpHead',
    'CoOpHead',
    'DFERCLIPHead',
    'FrozenCLIP',
    'MATHead',
    'TextHead',
]
