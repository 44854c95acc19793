"""Datasets, their views and their transforms; importing this room registers them."""

from mmdfer.datasets.base import DFERDataset, EpochSampler
from mmdfer.datasets.dfew import DFEW
from mmdfer.datasets.ferv39k import FERV39k
from mmdfer.datasets.frames import ClipDecode, ClipInit, SampleSegments
from mmdfer.datasets.freq_hd import SampleFreqHD
from mmdfer.datasets.mafw import MAFW
from mmdfer.datasets.synth import SynthDFER
from mmdfer.datasets.transforms import ShuffleFrames

__all__ = [
    'DFEW',
    'MAFW',
    'ClipDecode',
    'ClipInit',
    'DFERDataset',
    'EpochSampler',
    'FERV39k',
    'SampleFreqHD',
    'SampleSegments',
    'ShuffleFrames',
    'SynthDFER',
]
