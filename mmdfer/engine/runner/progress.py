"""How far a run has come, in the unit that its training loop counts: epochs or iterations."""

from __future__ import annotations

from typing import Literal

from mmengine.runner import BaseLoop, IterBasedTrainLoop, Runner

Unit = Literal['epoch', 'iter']


def train_loop(runner: Runner) -> BaseLoop | None:
    """Return the training loop where the Runner has built it, else None.

    ``runner.train_loop`` would build it, and read the training set, when only a test is asked for.
    """
    return runner._train_loop if isinstance(runner._train_loop, BaseLoop) else None


def unit(runner: Runner) -> Unit:
    """Return ``'iter'`` where the training loop counts iterations, else ``'epoch'``."""
    return 'iter' if isinstance(train_loop(runner), IterBasedTrainLoop) else 'epoch'


def progress(runner: Runner) -> int:
    """Return the number of epochs, or of iterations, that training has completed."""
    return runner.iter if unit(runner) == 'iter' else runner.epoch
