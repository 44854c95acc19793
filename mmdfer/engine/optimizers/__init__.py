"""Define the optimizer wrapper for mixed precision."""

from mmdfer.engine.optimizers.autocast_optim_wrapper import AutocastOptimWrapper

__all__ = [
    'AutocastOptimWrapper',
]
