"""Define the hook that warns of files that could not be read."""

from __future__ import annotations

from typing import Any

import torch
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import Dataset

from mmaction.registry import HOOKS

from mmdfer.datasets import DFERDataset
from mmdfer.datasets.base import find_datasets

_SHOWN = 20  # the number of clips that a warning names


@HOOKS.register_module()
class UnreadableHook(Hook):
    """Warn at the end of an epoch about clips that could not be read completely.

    The datasets count these clips while they load them. If a picture cannot be read, its nearest
    neighbour in the clip replaces it. If a whole training clip cannot be read, the next clip
    replaces it. The hook warns of each clip once, and again only if more of its pictures fail
    later.
    """

    def __init__(self) -> None:
        self.said: dict[int, torch.Tensor] = {}

    def after_train_epoch(self, runner: Runner) -> None:
        """Warn about unreadable clips of the training set."""
        self._say(runner, runner.train_dataloader.dataset)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Warn about unreadable clips of the validation set."""
        self._say(runner, runner.val_dataloader.dataset)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Warn about unreadable clips of the test set."""
        self._say(runner, runner.test_dataloader.dataset)

    def _say(self, runner: Runner, dataset: Dataset) -> None:
        """Log the clips of a dataset that have become unreadable since the last warning."""
        for part in find_datasets(dataset, DFERDataset):
            dist.all_reduce(part.unreadable, 'max')  # includes the counts of other ranks
            counts = part.unreadable.clone()
            before = self.said.get(id(part), torch.zeros_like(counts))
            self.said[id(part)] = counts
            new = (counts > before).nonzero().flatten().tolist()
            if not new:
                continue
            names = {index: part.get_data_info(index)['clip'] for index in new}
            lost = [names[i] for i in new if counts[i] == part.LOST]
            patched = [f'{names[i]} ({counts[i]})' for i in new if counts[i] < part.LOST]
            where = 'test' if part.test_mode else 'training'
            if patched:
                runner.logger.warning(
                    f'{len(patched)} {where} clips have pictures that cannot be read; the nearest '
                    f'readable pictures replace them: {_shown(patched)}'
                )
            if lost:
                runner.logger.warning(
                    f'{len(lost)} {where} clips cannot be read at all and are skipped: '
                    f'{_shown(lost)}'
                )


def _shown(names: list[str]) -> str:
    """Join the first 20 names for a warning."""
    return ', '.join(names[:_SHOWN]) + (', ...' if len(names) > _SHOWN else '')
