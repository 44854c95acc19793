"""A hook for runs on several ranks; their config imports this file."""

from __future__ import annotations

import hashlib

from mmengine import dist
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmaction.registry import HOOKS


@HOOKS.register_module()
class SameOnAllRanks(Hook):
    """Fails where the ranks' parameters differ by a bit after an epoch."""

    priority = 'VERY_LOW'

    def after_train_epoch(self, runner: Runner) -> None:
        """Gathers a digest of all parameters and buffers."""
        digest = hashlib.sha256()
        for tensor in (*runner.model.parameters(), *runner.model.buffers()):
            digest.update(tensor.detach().contiguous().numpy().tobytes())
        digests = dist.all_gather_object(digest.hexdigest())
        assert len(set(digests)) == 1, f'epoch {runner.epoch + 1}: {digests}'
        runner.logger.info(f'{len(digests)} ranks agree after epoch {runner.epoch + 1}')
