"""Reading a config, building the Runner, and what the Runner uses beside hooks."""

from mmdfer.engine.runner.log_processor import RankMeanLogProcessor

__all__ = [
    'RankMeanLogProcessor',
]
