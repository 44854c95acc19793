"""Define an optimizer wrapper for mixed precision that also works without a GPU."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmaction.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Run the forward pass under bfloat16 autocast on the CPU or on CUDA, with float32 weights.

    mmengine's AmpOptimWrapper requires a GPU. bfloat16 has the range of float32, so the loss needs
    no scaling. The checkpoint is the same as that of a plain OptimWrapper, and a run with either
    wrapper can resume from a checkpoint of the other. On the CPU, 3D convolutions are computed in
    float32 (:func:`float32_conv3d`), and attention by plain products (:func:`plain_attention`).

    Args:
        kwargs: The arguments of `mmengine.optim.OptimWrapper`.
    """

    @contextmanager
    def optim_context(self, model: torch.nn.Module) -> Iterator[None]:
        """Enable bfloat16 autocast on the device of the model.

        Args:
            model: The model, whose forward pass runs inside the context.

        Yields:
            Nothing.
        """
        device = next(model.parameters()).device.type
        with (
            super().optim_context(model),
            float32_conv3d(),
            plain_attention(device),
            torch.autocast(device, dtype=torch.bfloat16),
        ):
            yield

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Compute the gradients.

        Activation checkpointing repeats parts of the forward pass here, so 3D convolutions and
        attention are computed as in the forward pass.

        Args:
            loss: The loss, a scalar.
            kwargs: The arguments of ``Tensor.backward``.
        """
        with float32_conv3d(), plain_attention(loss.device.type):
            super().backward(loss, **kwargs)


@contextmanager
def plain_attention(device: str) -> Iterator[None]:
    """Compute attention by matrix products and a softmax on the CPU, and change nothing elsewhere.

    The fused kernel of torch 2.14 takes five times as long in bfloat16 on the CPU (58 ms and 12 ms
    for a forward and a backward pass of 128 images of 65 tokens, on an AMD EPYC).
    """
    with sdpa_kernel(SDPBackend.MATH) if device == 'cpu' else nullcontext():
        yield


_CONVOLUTIONS = ('conv3d', 'conv_transpose3d')  # torch and F both have functions of these names


@contextmanager
def float32_conv3d() -> Iterator[None]:
    """Compute 3D convolutions of CPU tensors in float32 where autocast would use bfloat16.

    On CPUs with AVX-512 but without AMX, oneDNN 3.12 (in torch 2.14) returns wrong weight gradients
    of bfloat16 3D convolutions if the depth of the input is 2. Inside this context the convolution
    functions of ``torch`` and ``torch.nn.functional`` are replaced, where both layers and
    functional calls find them. Outside autocast, and on other devices, the replacements call the
    original functions.
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
