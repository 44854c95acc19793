"""Define the hook that checks a run before its first epoch, whatever hooks the config names."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmaction.datasets.transforms import PackActionInputs
from mmaction.registry import HOOKS

from mmdfer.datasets import DFERDataset, LoadLevels, PackLevels
from mmdfer.datasets.base import find_datasets, list_wrapped
from mmdfer.engine.hooks.bap_hook import BAPHook
from mmdfer.engine.runner.progress import train_loop
from mmdfer.engine.runner.resume_checkpoint import has_training_state
from mmdfer.engine.runner.resume_schedule import fit_to_epoch_length
from mmdfer.engine.runner.unwrap import unwrap
from mmdfer.errors import DFERError
from mmdfer.evaluation.dfer_metric import DFERMetric
from mmdfer.features import release_encoders
from mmdfer.models import FineCLIPER
from mmdfer.models.stages import list_staged_modules


@HOOKS.register_module()
class SetupHook(Hook):
    """Refuse runs that would fail late or train the wrong thing, and adapt a resumed checkpoint.

    Before the first epoch, the hook refuses:

    - a model that changes with the stage of training, such as JAS, in a run without BAPHook;
    - a training set that is smaller than one batch, if the loader drops the last incomplete batch;
    - a dataset with several labels for a clip, if the head or DFERMetric takes one label;
    - a model that reads none of the levels that the pipeline loads (FineCLIPER). If the pipeline
      of the training set loads only some of them, the hook warns.

    The hook also frees the memory of the encoders that encoded the datasets. If the run resumes
    with another batch size or another number of ranks, the hook adapts the checkpoint to the new
    length of an epoch; see `fit_to_epoch_length`.
    """

    def before_run(self, runner: Runner) -> None:
        """Check the model and the datasets that the run has built.

        Raises:
            DFERError: If the run is one of those that the class docstring lists.
        """
        release_encoders()
        model, training = unwrap(runner.model), train_loop(runner)
        if training is not None:
            check_stage_hook(runner)
            check_batches(training.dataloader)
            if unread := check_levels(model, training.dataloader.dataset):
                runner.logger.warning(
                    f'model.levels has {" and ".join(map(repr, unread))}, but the pipeline of '
                    'train_dataloader does not load it with LoadLevels, so it is not trained '
                    '(docs/levels.md)'
                )
            head = getattr(model, 'cls_head', None)
            if not getattr(head, 'multi_class', False):
                check_labels(training.dataloader.dataset)
        for loop in (runner._val_loop, runner._test_loop):
            if isinstance(loop, BaseLoop):
                check_levels(model, loop.dataloader.dataset)
            metrics = getattr(getattr(loop, 'evaluator', None), 'metrics', ())
            if any(isinstance(metric, DFERMetric) for metric in metrics):
                check_labels(loop.dataloader.dataset)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Adapt the checkpoint of a resumed run to the present length of an epoch."""
        resumes = runner._resume and train_loop(runner) is not None
        if resumes and has_training_state(checkpoint):
            fit_to_epoch_length(runner, checkpoint)


def check_stage_hook(runner: Runner) -> None:
    """Check that a model with stages of training is trained with a BAPHook.

    Args:
        runner: The Runner, which has built the model and the hooks.

    Raises:
        DFERError: If the model has modules that change with the stage, and the run has no BAPHook.
    """
    modules = list_staged_modules(runner.model)
    if modules and not any(isinstance(hook, BAPHook) for hook in runner.hooks):
        raise DFERError(
            f'{type(modules[0]).__name__} is trained in stages, but the run has no BAPHook to set '
            'them. custom_hooks of a config replace those of its base config. Add '
            "dict(type='BAPHook', stages=[...]) to custom_hooks. The stages of the base config are "
            'in _base_.custom_hooks[0]'
        )


def check_batches(loader: DataLoader) -> None:
    """Check that the loader of the training set yields at least one batch.

    Args:
        loader: The loader of the training set.

    Raises:
        DFERError: If the dataset is smaller than a batch and the loader drops incomplete batches.
    """
    if len(loader) == 0:
        assert isinstance(loader.dataset, Sized)
        raise DFERError(
            f'train_dataloader: {len(loader.dataset)} clips do not fill a batch of '
            f'{loader.batch_size}, and drop_last=True drops incomplete batches. Reduce '
            'train_dataloader.batch_size or set train_dataloader.drop_last=False'
        )


def check_levels(model: nn.Module, dataset: Any) -> list[str]:
    """Check that the pipeline of a dataset loads at least one of the levels that a model reads.

    Args:
        model: The recognizer. Only a FineCLIPER is checked.
        dataset: The dataset of a loader. Datasets of other packages are not checked, and neither
            are pipelines that pack their samples in another way than this package and MMAction2.

    Returns:
        The levels that the model reads and no pipeline loads.

    Raises:
        DFERError: If the model reads only levels that a pipeline does not load.
    """
    if not isinstance(model, FineCLIPER):
        return []
    levels, found = model.levels, set()
    for clips in find_datasets(dataset, DFERDataset):
        steps = clips.pipeline.transforms
        if not steps or type(steps[-1]) not in (PackActionInputs, PackLevels):
            return []
        loading = (step for step in steps if isinstance(step, LoadLevels))
        loaded = ['frames', *(level for step in loading for level in step.levels)]
        found.update(loaded)
        if not set(levels) & set(loaded):
            raise DFERError(
                f'model.levels={list(levels)}: the model reads only {" and ".join(levels)}, but a '
                f'pipeline of {type(clips).__name__} loads only {" and ".join(loaded)}; change '
                'model.levels, or LoadLevels in the pipeline of this loader'
            )
    return [level for level in levels if found and level not in found]


def check_labels(dataset: Any) -> None:
    """Check that every clip of a dataset has one label.

    Args:
        dataset: The dataset. If it wraps other datasets, these are checked instead.

    Raises:
        DFERError: If a clip has several labels.
    """
    if inner := list_wrapped(dataset):
        for part in inner:  # list_wrapped lists a repeated dataset once.
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
                f'{name}: has several labels ({list(label)}), but each clip must have one. '
                'Keep only its main expression, or remove the clip'
            )
