"""Provide the recognizers of the CLIP methods."""

from mmdfer.models.recognizers.clip_recognizer import CLIPRecognizer, FrameFeatures
from mmdfer.models.recognizers.fine_cliper import FineCLIPER

__all__ = [
    'CLIPRecognizer',
    'FineCLIPER',
    'FrameFeatures',
]
