"""Multiply with frozen weights in oneDNN's packed layout on CPUs on which this is faster."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Linear = Callable[[Tensor], Tensor]  # (..., I) -> (..., O)


def frozen_linear(weight: Tensor, bias: Tensor | None, gradient: bool) -> Linear:
    """Return the function ``x @ weight.T + bias`` for a weight that never changes.

    Args:
        weight: Weight (O, I).
        bias: Bias (O,), or ``None``.
        gradient: Whether the gradient with respect to ``x`` is needed. The weight never gets a
            gradient.

    Returns:
        A function that maps ``x`` (..., I) to (..., O). Packed and plain products differ only in
        rounding. The choice between them depends only on the device, the dtype and the CPU, so a
        resumed run on the same machine reproduces its results.
    """
    if not should_pack(weight):
        return partial(F.linear, weight=weight, bias=bias)
    packed = _pack(weight)
    if not gradient:
        return partial(_multiply, weight=packed, bias=bias)
    turned = _pack(weight.T.contiguous())
    return lambda x: _Product.apply(x, packed, turned, bias)


def should_pack(weight: Tensor) -> bool:
    """Return whether the packed product is faster than torch's product for this weight.

    In bfloat16 it is faster on CPUs that support bfloat16 (with AMX, forward and backward of a text
    block take 47 ms instead of 50), because oneDNN also adds the bias within the product. In
    float32 torch multiplies with MKL. MKL is as fast as oneDNN on Intel CPUs (180 GFLOP/s per core
    for both), and takes twice as long on AMD CPUs.
    """
    if weight.device.type != 'cpu' or not hasattr(torch.ops.mkldnn, '_reorder_linear_weight'):
        return False
    if weight.dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return weight.dtype == torch.float32 and _is_amd()


@lru_cache
def _is_amd() -> bool:
    """Return whether this machine has an AMD CPU."""
    cpu = Path('/proc/cpuinfo')
    return cpu.is_file() and 'AuthenticAMD' in cpu.read_text()


def _pack(weight: Tensor) -> Tensor:
    """Return a weight (O, I) in oneDNN's packed layout."""
    return torch.ops.mkldnn._reorder_linear_weight(weight, None)


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Multiply (..., I) with a packed weight (O, I) and add the bias (O,)."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'none', [], '')


class _Product(torch.autograd.Function):
    """Compute the packed product with a gradient, which needs the packed transposed weight too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, turned: Tensor, bias: Tensor | None) -> Tensor:
        """Return the product of x (..., I) with the packed weight (O, I), plus the bias (O,)."""
        ctx.turned = turned
        return _multiply(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient with respect to x, and none for the frozen weight and bias."""
        return _multiply(grad, ctx.turned, None), None, None, None
