"""Define the hook that supports gradient accumulation."""

from __future__ import annotations

from typing import Any

import torch
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner

from mmaction.registry import HOOKS

from mmdfer.engine.runner.unwrap import unwrap
from mmdfer.models import CLIPRecognizer

KEY = 'gradients_of_step'  # the key of the accumulated gradients in a checkpoint


@HOOKS.register_module()
class AccumulationHook(Hook):
    """Encode prompts once per optimizer step, and save accumulated gradients in checkpoints.

    The hook is for runs with gradient accumulation, in which one optimizer step takes several
    batches (``optim_wrapper.accumulative_counts`` greater than 1). In other runs it changes
    nothing.

    - The weights do not change within an optimizer step. The hook tells CLIPRecognizer which batch
      is the last of the step, so that the recognizer encodes the prompts once per step. Without the
      hook it encodes them for every batch. The gradients are the same in both cases.
    - An epoch can end in the middle of an optimizer step. The hook then saves the gradients that
      were accumulated so far in the checkpoint of the epoch, and a run that resumes from this
      checkpoint starts with these gradients. Without the hook, mmengine loses them. The hook
      discards them if the resumed run has another batch size or another number of batches per step.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, Any] | None = None  # gradients for the next checkpoint
        self._loaded: dict[str, Any] | None = None  # gradients from the checkpoint of a resumed run

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Tell a CLIPRecognizer whether this batch is the last of its optimizer step."""
        model, wrapper = unwrap(runner.model), runner.optim_wrapper
        if not isinstance(model, CLIPRecognizer) or isinstance(wrapper, OptimWrapperDict):
            return
        # The recognizer keeps no class vectors beyond the end of an epoch, because the stage of
        # training may change or a layer may join there.
        ends = self.end_of_epoch(runner.train_dataloader, batch_idx)
        model.last_of_step = wrapper.should_sync() or ends

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Take the accumulated gradients out of the checkpoint, and keep them for a resumed run."""
        self._loaded = checkpoint.pop(KEY, None) if runner._resume else None

    def before_train(self, runner: Runner) -> None:
        """Restore the accumulated gradients of the checkpoint that the run resumes from.

        The gradients are discarded if the resumed run counts iterations or batches per step
        differently.
        """
        loaded, self._loaded = self._loaded, None
        counts = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        if loaded is None or (loaded['iter'], loaded['counts']) != (runner.iter, counts):
            return
        for name, parameter in unwrap(runner.model).named_parameters():
            if name in loaded['gradients']:
                parameter.grad = loaded['gradients'][name].to(parameter)

    def after_train_epoch(self, runner: Runner) -> None:
        """Collect the accumulated gradients if the epoch ends in the middle of a step."""
        self._waiting, wrapper = None, runner.optim_wrapper
        if isinstance(wrapper, OptimWrapperDict) or wrapper.should_update():
            return
        gradients = {}
        for name, parameter in unwrap(runner.model).named_parameters():
            if not parameter.requires_grad:
                continue
            # The gradient is None if this rank has not used the parameter. Other ranks may have.
            own = parameter.grad
            gradient = torch.zeros_like(parameter) if own is None else own.detach().clone()
            # The gradients are not averaged over the ranks yet, and only rank 0 saves a checkpoint.
            # If every rank resumes with the mean, the average over the ranks is the same.
            dist.all_reduce(gradient, 'mean')
            if own is not None or gradient.any():
                gradients[name] = gradient
        counts = wrapper._accumulative_counts
        self._waiting = dict(iter=runner.iter, counts=counts, gradients=gradients)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add the accumulated gradients to the checkpoint of the epoch that they belong to."""
        if self._waiting is not None and checkpoint['meta']['iter'] == self._waiting['iter']:
            checkpoint[KEY] = self._waiting
