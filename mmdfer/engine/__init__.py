"""Register the package's hooks, optimizer wrapper, log processor and training loop.

MMAction2's registries contain these classes once this package is imported.
"""

from mmdfer.engine.hooks import (
    AccumulationHook,
    AtomicCheckpointHook,
    BAPHook,
    ClassNamesHook,
    LevelsHook,
    ReportHook,
    SetupHook,
    ShowClipsHook,
    UnreadableHook,
)
from mmdfer.engine.optimizers import AutocastOptimWrapper
from mmdfer.engine.runner import RankMeanLogProcessor
from mmdfer.engine.runner.loops import StagedTrainLoop

__all__ = [
    'AccumulationHook',
    'AtomicCheckpointHook',
    'AutocastOptimWrapper',
    'BAPHook',
    'ClassNamesHook',
    'LevelsHook',
    'RankMeanLogProcessor',
    'ReportHook',
    'SetupHook',
    'ShowClipsHook',
    'StagedTrainLoop',
    'UnreadableHook',
]
