"""Provide the recognizer of the CLIP methods."""

from mmdfer.models.recognizers.clip_recognizer import CLIPRecognizer, FrameFeatures

__all__ = [
    'CLIPRecognizer',
    'FrameFeatures',
]
