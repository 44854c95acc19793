"""Provide the data preprocessor of the CLIP methods."""

from mmdfer.models.data_preprocessors.clip_preprocessor import CLIPDataPreprocessor

__all__ = [
    'CLIPDataPreprocessor',
]
