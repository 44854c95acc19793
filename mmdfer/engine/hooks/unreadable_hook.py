"""What could not be read: counted where it happens, said at the end of each epoch."""

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

_SHOWN = 20


@HOOKS.register_module()
class UnreadableHook(Hook):
    """Says at the end of an epoch which clips it could not read as they are listed.

    That is pictures for which a neighbour stood in, and in training clips whose place the next one
    took. What was said is not said again.
    """

    def __init__(self) -> None:
        self.said: dict[int, torch.Tensor] = {}

    def after_train_epoch(self, runner: Runner) -> None:
        """Of the training set."""
        self._say(runner, runner.train_dataloader.dataset)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Of the validation set."""
        self._say(runner, runner.val_dataloader.dataset)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Of the test set."""
        self._say(runner, runner.test_dataloader.dataset)

    def _say(self, runner: Runner, dataset: Dataset) -> None:
        for part in find_datasets(dataset, DFERDataset):
            dist.all_reduce(part.unreadable, 'max')  # what other ranks met
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
                    f'{len(patched)} {where} clips have pictures that cannot be read, for which '
                    f'their nearest neighbours stand in: {_shown(patched)}'
                )
            if lost:
                runner.logger.warning(
                    f'{len(lost)} {where} clips cannot be read at all and are skipped: '
                    f'{_shown(lost)}'
                )


def _shown(names: list[str]) -> str:
    return ', '.join(names[:_SHOWN]) + (', ...' if len(names) > _SHOWN else '')
