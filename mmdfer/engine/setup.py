"""What a run is refused for before its first epoch, whatever hooks and datasets a config names."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmaction.registry import HOOKS

from mmdfer.engine.bap import BAPHook, stage_modules
from mmdfer.engine.progress import train_loop
from mmdfer.engine.unwrap import unwrap
from mmdfer.errors import DFERError
from mmdfer.evaluation.metrics import DFERMetric


@HOOKS.register_module()
class SetupHook(Hook):
    """Refuse set-ups that would otherwise fail late, or train something else in silence.

    - A model that changes with the stage of training (JAS) is trained without BAPHook.
    - A dataset gives several labels for a clip, where the head or DFERMetric takes one.
    """

    def before_run(self, runner: Runner) -> None:
        """Check the model and the datasets that the run has built.

        Raises:
            DFERError: One of these holds.
        """
        training = train_loop(runner)
        if training is not None:
            check_stage_hook(runner)
            head = getattr(unwrap(runner.model), 'cls_head', None)
            if not getattr(head, 'multi_class', False):
                check_labels(training.dataloader.dataset)
        for loop in (runner._val_loop, runner._test_loop):
            metrics = getattr(getattr(loop, 'evaluator', None), 'metrics', ())
            if any(isinstance(metric, DFERMetric) for metric in metrics):
                check_labels(loop.dataloader.dataset)


def check_stage_hook(runner: Runner) -> None:
    """Raise DFERError where a model has stages of training and the run has no BAPHook."""
    modules = stage_modules(runner.model)
    if modules and not any(isinstance(hook, BAPHook) for hook in runner.hooks):
        raise DFERError(
            f'{type(modules[0]).__name__} is trained in stages, and the run has no BAPHook to set '
            'them; a config that sets custom_hooks replaces those of its base: add '
            "dict(type='BAPHook', stages=[...]) to custom_hooks (its base's stages are "
            '_base_.stages)'
        )


def check_labels(dataset: Any) -> None:
    """Raise DFERError where a clip of a dataset, or of those that it wraps, has several labels."""
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if inner != [None]:
        for part in inner:  # once each, however often it is repeated
            check_labels(part)
        return
    if not (hasattr(dataset, 'get_data_info') and isinstance(dataset, Sized)):
        return
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        label = info.get('label')
        if isinstance(label, (list, tuple, np.ndarray, Tensor)) and np.size(label) != 1:
            name = info.get('filename') or info.get('frame_dir') or f'clip {index}'
            raise DFERError(
                f'{name}: has several labels ({list(label)}); one expression for each clip is '
                'needed: give its main one, or leave the clip out'
            )
