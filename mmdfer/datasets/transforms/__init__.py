"""Provide the pipeline transforms that sample, read and augment the frames of a clip."""

from mmdfer.datasets.transforms.clip_decode import ClipDecode, ClipInit
from mmdfer.datasets.transforms.freq_hd import SampleFreqHD
from mmdfer.datasets.transforms.pillow import (
    PillowColorJitter,
    PillowRandomSizedCrop,
    PillowResize,
    PillowRotate,
)
from mmdfer.datasets.transforms.samplers import SampleSegments, SampleTSN
from mmdfer.datasets.transforms.shuffle_frames import ShuffleFrames

__all__ = [
    'ClipDecode',
    'ClipInit',
    'PillowColorJitter',
    'PillowRandomSizedCrop',
    'PillowResize',
    'PillowRotate',
    'SampleFreqHD',
    'SampleSegments',
    'SampleTSN',
    'ShuffleFrames',
]
