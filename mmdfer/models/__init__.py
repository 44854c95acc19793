"""Backbone, neck, text head and recognizer; importing this room registers them."""

from mmdfer.models.clip import CLIPDataPreprocessor, FrozenCLIP
from mmdfer.models.jas import JAS
from mmdfer.models.mat import MATHead
from mmdfer.models.recognizer import CLIPRecognizer

__all__ = ['JAS', 'CLIPDataPreprocessor', 'CLIPRecognizer', 'FrozenCLIP', 'MATHead']
