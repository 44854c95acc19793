"""Frame features of a frozen CLIP: computing, storing and serving them."""

from mmdfer.features.extraction import EncodeOnceHook

__all__ = [
    'EncodeOnceHook',
]
