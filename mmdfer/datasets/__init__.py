"""Datasets, their views and their transforms; importing this room registers them."""

from mmdfer.datasets.base import DFERDataset, EpochSampler
from mmdfer.datasets.synth import SynthDFER
from mmdfer.datasets.transforms import ShuffleFrames

__all__ = ['DFERDataset', 'EpochSampler', 'ShuffleFrames', 'SynthDFER']
