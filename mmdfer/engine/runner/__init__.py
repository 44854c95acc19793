"""Read configs, build the Runner, and define the Runner's loops, schedules and log processor."""

from mmdfer.engine.runner.log_processor import RankMeanLogProcessor

__all__ = [
    'RankMeanLogProcessor',
]
