"""Mixed precision that also runs where there is no GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper

from mmaction.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Runs the forward pass under bfloat16 autocast, on CPU or CUDA; the weights stay float32.

    mmengine's AmpOptimWrapper asserts a GPU. bfloat16 has float32's range, so the loss needs no
    scaling, and the checkpoint is that of a plain OptimWrapper: either resumes from the other.

    Args:
        kwargs: as for `mmengine.optim.OptimWrapper`.
    """

    @contextmanager
    def optim_context(self, model: torch.nn.Module) -> Iterator[None]:
        """Autocast on the device that the model is on."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, dtype=torch.bfloat16):
            yield
