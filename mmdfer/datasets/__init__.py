"""Register the datasets of dynamic facial expressions and their transforms with MMAction2."""

from mmdfer.datasets.base import DFERDataset
from mmdfer.datasets.csv_dataset import CSVDataset
from mmdfer.datasets.epochs import EpochIndex, carry_epochs
from mmdfer.datasets.licensed import DFEW, MAFW, FERV39k
from mmdfer.datasets.synth import SynthDFER
from mmdfer.datasets.transforms import (
    ClipDecode,
    ClipInit,
    LoadLevels,
    PackLevels,
    PillowColorJitter,
    PillowRandomSizedCrop,
    PillowResize,
    PillowRotate,
    SampleFreqHD,
    SampleSegments,
    SampleTSN,
    ShuffleFrames,
)

__all__ = [
    'CSVDataset',
    'ClipDecode',
    'ClipInit',
    'DFERDataset',
    'DFEW',
    'EpochIndex',
    'FERV39k',
    'LoadLevels',
    'MAFW',
    'PackLevels',
    'PillowColorJitter',
    'PillowRandomSizedCrop',
    'PillowResize',
    'PillowRotate',
    'SampleFreqHD',
    'SampleSegments',
    'SampleTSN',
    'ShuffleFrames',
    'SynthDFER',
    'carry_epochs',
]

carry_epochs()
