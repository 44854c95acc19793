"""Provide a hook that compares the ranks of a distributed run, for the config to import."""

from __future__ import annotations

import hashlib

from mmengine import dist
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmaction.registry import HOOKS


@HOOKS.register_module()
class SameOnAllRanks(Hook):
    """Fail if the parameters of the ranks are not bit-identical after an epoch."""

    priority = 'VERY_LOW'

    def after_train_epoch(self, runner: Runner) -> None:
        """Compare the digests of all parameters and buffers between the ranks."""
        digest = hashlib.sha256()
        for tensor in (*runner.model.parameters(), *runner.model.buffers()):
            digest.update(tensor.detach().contiguous().numpy().tobytes())
        digests = dist.all_gather_object(digest.hexdigest())
        assert len(set(digests)) == 1, f'epoch {runner.epoch + 1}: {digests}'
        runner.logger.info(f'{len(digests)} ranks agree after epoch {runner.epoch + 1}')
