"""Datasets, their views and their transforms. Importing this package registers them."""

from mmdfer.datasets.base import DFERDataset
from mmdfer.datasets.dfew import DFEW
from mmdfer.datasets.epochs import EpochIndex, carry_epochs
from mmdfer.datasets.ferv39k import FERV39k
from mmdfer.datasets.frames import ClipDecode, ClipInit, SampleSegments
from mmdfer.datasets.freq_hd import SampleFreqHD
from mmdfer.datasets.mafw import MAFW
from mmdfer.datasets.pillow import (
    PillowColorJitter,
    PillowRandomSizedCrop,
    PillowResize,
    PillowRotate,
)
from mmdfer.datasets.synth import SynthDFER
from mmdfer.datasets.transforms import ShuffleFrames
from mmdfer.datasets.tsn import SampleTSN

__all__ = [
    'DFEW',
    'MAFW',
    'ClipDecode',
    'ClipInit',
    'DFERDataset',
    'EpochIndex',
    'FERV39k',
    'PillowColorJitter',
    'PillowRandomSizedCrop',
    'PillowResize',
    'PillowRotate',
    'SampleFreqHD',
    'SampleSegments',
    'SampleTSN',
    'ShuffleFrames',
    'SynthDFER',
]

carry_epochs()
