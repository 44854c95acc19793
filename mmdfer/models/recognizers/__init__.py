"""Recognizers."""

from mmdfer.models.recognizers.clip_recognizer import CLIPRecognizer

__all__ = [
    'CLIPRecognizer',
]
