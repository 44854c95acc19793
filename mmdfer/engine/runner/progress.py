"""Tell how far a run has progressed, in epochs or in iterations.

The unit is the one that the training loop counts.
"""

from __future__ import annotations

from typing import Literal

from mmengine.runner import BaseLoop, IterBasedTrainLoop, Runner

Unit = Literal['epoch', 'iter']


def train_loop(runner: Runner) -> BaseLoop | None:
    """Return the training loop if the Runner has built it, else None.

    ``runner.train_loop`` would build the loop and read the training set, even in a run that only
    tests.
    """
    return runner._train_loop if isinstance(runner._train_loop, BaseLoop) else None


def unit(runner: Runner) -> Unit:
    """Return ``'iter'`` if the training loop counts iterations, else ``'epoch'``."""
    return 'iter' if isinstance(train_loop(runner), IterBasedTrainLoop) else 'epoch'


def progress(runner: Runner) -> int:
    """Return the number of epochs, or of iterations, that training has completed."""
    return runner.iter if unit(runner) == 'iter' else runner.epoch
