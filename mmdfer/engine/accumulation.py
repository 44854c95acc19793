"""Tells the recognizer where in an optimizer step it stands, so that text is encoded once."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner

from mmaction.registry import HOOKS

from mmdfer.engine.unwrap import unwrap


@HOOKS.register_module()
class AccumulationHook(Hook):
    """Lets a step over several batches encode the prompts once, as CLIPRecognizer can.

    For runs with ``optim_wrapper.accumulative_counts``; without, it changes nothing, and without
    the hook such runs give the same gradients, the text side being passed for every batch.
    """

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Sets ``last_of_step`` on a recognizer that has it."""
        model, wrapper = unwrap(runner.model), runner.optim_wrapper
        if not hasattr(model, 'last_of_step') or isinstance(wrapper, OptimWrapperDict):
            return
        # Nothing is left over at the end of an epoch, when the stage may change or a layer join.
        ends = self.end_of_epoch(runner.train_dataloader, batch_idx)
        model.last_of_step = wrapper.should_sync() or ends
