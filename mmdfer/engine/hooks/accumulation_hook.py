"""Steps over several batches: text is encoded once, and none of them is lost on resume."""

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

KEY = 'gradients_of_step'  # in a checkpoint


@HOOKS.register_module()
class AccumulationHook(Hook):
    """Lets a step over several batches encode the prompts once, as CLIPRecognizer can.

    For runs with ``optim_wrapper.accumulative_counts``; without, it changes nothing, and without
    the hook such runs give the same gradients, the text side being passed for every batch.

    Where an epoch ends inside such a step, the gradients so far go into its checkpoint, and a run
    that resumes from it begins with them. mmengine drops them. With another batch size or another
    number of batches in a step they are dropped here too.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, Any] | None = None  # to be saved
        self._loaded: dict[str, Any] | None = None  # to be put back

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Set ``last_of_step`` on a CLIPRecognizer."""
        model, wrapper = unwrap(runner.model), runner.optim_wrapper
        if not isinstance(model, CLIPRecognizer) or isinstance(wrapper, OptimWrapperDict):
            return
        # Nothing is left over at the end of an epoch, when the stage may change or a layer join.
        ends = self.end_of_epoch(runner.train_dataloader, batch_idx)
        model.last_of_step = wrapper.should_sync() or ends

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Take the gradients that a resumed run begins with out of its checkpoint."""
        self._loaded = checkpoint.pop(KEY, None) if runner._resume else None

    def before_train(self, runner: Runner) -> None:
        """Put them back, where the step that they belong to goes on."""
        loaded, self._loaded = self._loaded, None
        counts = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        if loaded is None or (loaded['iter'], loaded['counts']) != (runner.iter, counts):
            return
        for name, parameter in unwrap(runner.model).named_parameters():
            if name in loaded['gradients']:
                parameter.grad = loaded['gradients'][name].to(parameter)

    def after_train_epoch(self, runner: Runner) -> None:
        """Collect the gradients of a step that the end of the epoch interrupts."""
        self._waiting, wrapper = None, runner.optim_wrapper
        if isinstance(wrapper, OptimWrapperDict) or wrapper.should_update():
            return
        gradients = {}
        for name, parameter in unwrap(runner.model).named_parameters():
            if not parameter.requires_grad:
                continue
            own = parameter.grad  # None where it is unused here, perhaps not on every rank
            gradient = torch.zeros_like(parameter) if own is None else own.detach().clone()
            # Not yet summed over the ranks: the mean on each rank leaves that sum as it is.
            dist.all_reduce(gradient, 'mean')
            if own is not None or gradient.any():
                gradients[name] = gradient
        counts = wrapper._accumulative_counts
        self._waiting = dict(iter=runner.iter, counts=counts, gradients=gradients)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Save them with the checkpoint of the epoch."""
        if self._waiting is not None and checkpoint['meta']['iter'] == self._waiting['iter']:
            checkpoint[KEY] = self._waiting
