"""Provide the pipeline transforms that sample, read and augment the frames of a clip."""

from mmdfer.datasets.transforms.clip_decode import ClipDecode, ClipInit
from mmdfer.datasets.transforms.freq_hd import SampleFreqHD
from mmdfer.datasets.transforms.load_levels import LoadLevels
from mmdfer.datasets.transforms.pack_levels import PackLevels
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
    'LoadLevels',
    'PackLevels',
    'PillowColorJitter',
    'PillowRandomSizedCrop',
    'PillowResize',
    'PillowRotate',
    'SampleFreqHD',
    'SampleSegments',
    'SampleTSN',
    'ShuffleFrames',
]
