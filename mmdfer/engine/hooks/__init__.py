"""Define the hooks that this package adds to mmengine's Runner."""

from mmdfer.engine.hooks.accumulation_hook import AccumulationHook
from mmdfer.engine.hooks.bap_hook import BAPHook
from mmdfer.engine.hooks.checkpoint_hook import AtomicCheckpointHook
from mmdfer.engine.hooks.class_names_hook import ClassNamesHook
from mmdfer.engine.hooks.levels_hook import LevelsHook
from mmdfer.engine.hooks.renamed_hooks import EncodeOnceHook
from mmdfer.engine.hooks.report_hook import ReportHook
from mmdfer.engine.hooks.setup_hook import SetupHook
from mmdfer.engine.hooks.show_clips_hook import ShowClipsHook
from mmdfer.engine.hooks.unreadable_hook import UnreadableHook

__all__ = [
    'AccumulationHook',
    'AtomicCheckpointHook',
    'BAPHook',
    'ClassNamesHook',
    'EncodeOnceHook',
    'LevelsHook',
    'ReportHook',
    'SetupHook',
    'ShowClipsHook',
    'UnreadableHook',
]
