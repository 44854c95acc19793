"""Mixed precision that also runs where there is no GPU."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper
from torch import Tensor

from mmaction.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Runs the forward pass under bfloat16 autocast, on CPU or CUDA; the weights stay float32.

    mmengine's AmpOptimWrapper asserts a GPU. bfloat16 has float32's range, so the loss needs no
    scaling, and the checkpoint is that of a plain OptimWrapper: either resumes from the other.
    On the CPU, 3D convolutions are computed in float32: see :func:`float32_conv3d`.

    Args:
        kwargs: as for `mmengine.optim.OptimWrapper`.
    """

    @contextmanager
    def optim_context(self, model: torch.nn.Module) -> Iterator[None]:
        """Autocast on the device that the model is on."""
        device = next(model.parameters()).device.type
        with (
            super().optim_context(model),
            float32_conv3d(),
            torch.autocast(device, dtype=torch.bfloat16),
        ):
            yield

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Computes gradients; what activation checkpointing runs again here, as it ran before."""
        with float32_conv3d():
            super().backward(loss, **kwargs)


_CONVOLUTIONS = ('conv3d', 'conv_transpose3d')  # found under these names in torch and in F


@contextmanager
def float32_conv3d() -> Iterator[None]:
    """Compute 3D convolutions of CPU tensors in float32 where autocast would take bfloat16.

    On CPUs with AVX-512 and without AMX, oneDNN 3.12 (in torch 2.14) returns garbage as the weight
    gradient of a bfloat16 3D convolution whose input has depth 2. Layers and functional calls look
    the functions up in the two modules in which they are replaced here for the time being. Outside
    autocast, and on other devices, the replacements call the original functions.
    """
    places = [(module, name) for module in (torch, F) for name in _CONVOLUTIONS]
    originals = [getattr(module, name) for module, name in places]
    for (module, name), original in zip(places, originals):
        setattr(module, name, _in_float32(original))
    try:
        yield
    finally:
        for (module, name), original in zip(places, originals):
            setattr(module, name, original)


def _in_float32(convolve: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Wrap a convolution so that autocast on the CPU does not apply to it."""

    @functools.wraps(convolve)
    def wrapped(
        input: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Tensor:
        if input.device.type != 'cpu' or not torch.is_autocast_enabled('cpu'):
            return convolve(input, weight, bias, *args, **kwargs)
        with torch.autocast('cpu', enabled=False):
            input, weight = _raise_precision(input), _raise_precision(weight)
            bias = None if bias is None else _raise_precision(bias)
            return convolve(input, weight, bias, *args, **kwargs)

    return wrapped


def _raise_precision(tensor: Tensor) -> Tensor:
    """Return half-precision tensors in float32 and others unchanged."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
