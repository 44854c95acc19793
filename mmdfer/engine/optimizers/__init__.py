"""Optimizer wrappers."""

from mmdfer.engine.optimizers.autocast_optim_wrapper import AutocastOptimWrapper

__all__ = [
    'AutocastOptimWrapper',
]
