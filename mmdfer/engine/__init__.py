"""Hooks around mmengine's Runner; importing this room registers them."""

from mmdfer.engine.accumulation import AccumulationHook
from mmdfer.engine.amp import AutocastOptimWrapper
from mmdfer.engine.bap import BAPHook
from mmdfer.engine.checkpoint import AtomicCheckpointHook
from mmdfer.engine.classes import ClassNamesHook
from mmdfer.engine.features import EncodeOnceHook
from mmdfer.engine.logs import RankMeanLogProcessor
from mmdfer.engine.report import ReportHook
from mmdfer.engine.setup import SetupHook
from mmdfer.engine.show import ShowClipsHook
from mmdfer.engine.unreadable import UnreadableHook

__all__ = [
    'AccumulationHook',
    'AtomicCheckpointHook',
    'AutocastOptimWrapper',
    'BAPHook',
    'ClassNamesHook',
    'EncodeOnceHook',
    'RankMeanLogProcessor',
    'ReportHook',
    'SetupHook',
    'ShowClipsHook',
    'UnreadableHook',
]
