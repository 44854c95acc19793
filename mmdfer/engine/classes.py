"""Gives the head the dataset's class names, so that they travel with the checkpoint."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmaction.registry import HOOKS

from mmdfer.engine.unwrap import unwrap


@HOOKS.register_module()
class ClassNamesHook(Hook):
    """Hands the dataset's ``classes`` to the heads that keep names, before a checkpoint is loaded.

    A checkpoint of other names, or of the same in another order, is then refused by the head: its
    logits would be read as the wrong classes. Datasets that name no classes are left alone.
    """

    def before_run(self, runner: Runner) -> None:
        """Reads the names off every dataset that the run has built."""
        model = unwrap(runner.model)
        heads = [m for m in model.modules() if hasattr(m, 'set_classes')]
        for loop in (runner._train_loop, runner._val_loop, runner._test_loop):
            dataset = getattr(getattr(loop, 'dataloader', None), 'dataset', None)
            classes = getattr(dataset, 'metainfo', {}).get('classes')
            for head in heads if classes else ():
                head.set_classes(classes)
