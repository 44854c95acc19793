"""Compute, store and serve the frame vectors of a frozen CLIP."""

from mmdfer.features.default_encoder import hand_model_to_datasets
from mmdfer.features.encoded_clips import EncodedClips
from mmdfer.features.encoder import FeatureEncoder, release_encoders

__all__ = ['EncodedClips', 'FeatureEncoder', 'release_encoders']

hand_model_to_datasets()
