"""What is checked and settled before a run's first epoch, whatever hooks a config names."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

from mmaction.registry import HOOKS

from mmdfer.datasets.base import list_wrapped
from mmdfer.engine.hooks.bap_hook import BAPHook
from mmdfer.engine.runner.progress import train_loop
from mmdfer.engine.runner.resume_checkpoint import has_training_state
from mmdfer.engine.runner.resume_schedule import fit_to_epoch_length
from mmdfer.engine.runner.unwrap import unwrap
from mmdfer.errors import DFERError
from mmdfer.evaluation.dfer_metric import DFERMetric
from mmdfer.features import release_encoders
from mmdfer.models.stages import list_staged_modules


@HOOKS.register_module()
class SetupHook(Hook):
    """Refuse set-ups that would fail late or train something else, and fit what is resumed.

    - A model that changes with the stage of training (JAS) is refused without BAPHook.
    - A training set that does not fill a batch, where the last is dropped.
    - A dataset that gives several labels for a clip is refused where the head or DFERMetric takes
      one.
    - The encoders that the datasets were encoded by are released.
    - A checkpoint that is resumed from with another batch size or number of ranks becomes that of
      a run that had them from the start; see `fit_to_epoch_length`.
    """

    def before_run(self, runner: Runner) -> None:
        """Check the model and the datasets that the run has built.

        Raises:
            DFERError: One of these holds.
        """
        release_encoders()
        training = train_loop(runner)
        if training is not None:
            check_stage_hook(runner)
            check_batches(training.dataloader)
            head = getattr(unwrap(runner.model), 'cls_head', None)
            if not getattr(head, 'multi_class', False):
                check_labels(training.dataloader.dataset)
        for loop in (runner._val_loop, runner._test_loop):
            metrics = getattr(getattr(loop, 'evaluator', None), 'metrics', ())
            if any(isinstance(metric, DFERMetric) for metric in metrics):
                check_labels(loop.dataloader.dataset)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Make a checkpoint that is resumed from one of the present epoch length."""
        resumes = runner._resume and train_loop(runner) is not None
        if resumes and has_training_state(checkpoint):
            fit_to_epoch_length(runner, checkpoint)


def check_stage_hook(runner: Runner) -> None:
    """Raise DFERError where a model has stages of training and the run has no BAPHook."""
    modules = list_staged_modules(runner.model)
    if modules and not any(isinstance(hook, BAPHook) for hook in runner.hooks):
        raise DFERError(
            f'{type(modules[0]).__name__} is trained in stages, and the run has no BAPHook to set '
            'them; a config that sets custom_hooks replaces those of its base: add '
            "dict(type='BAPHook', stages=[...]) to custom_hooks (its base's stages are "
            '_base_.custom_hooks[0])'
        )


def check_batches(loader: DataLoader) -> None:
    """Raise DFERError where a loader gives no batch, so that nothing would be trained."""
    if len(loader) == 0:
        assert isinstance(loader.dataset, Sized)
        raise DFERError(
            f'train_dataloader: {len(loader.dataset)} clips do not fill a batch of '
            f'{loader.batch_size}, and drop_last leaves out the rest: set '
            'train_dataloader.batch_size lower, or train_dataloader.drop_last=False'
        )


def check_labels(dataset: Any) -> None:
    """Raise DFERError where a clip of a dataset, or of those that it wraps, has several labels."""
    if inner := list_wrapped(dataset):
        for part in inner:  # once each, however often it is repeated
            check_labels(part)
        return
    if not (isinstance(dataset, Sized) and hasattr(dataset, 'get_data_info')):
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
