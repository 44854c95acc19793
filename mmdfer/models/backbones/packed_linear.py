"""Products with frozen weights that oneDNN keeps in its own layout, where that is faster."""

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
    """Makes the product with a weight that never changes: ``x @ weight.T + bias``.

    Args:
        weight: (O, I).
        bias: (O,), or None.
        gradient: Whether one will be asked for with respect to ``x``. There is none for the weight.

    Returns:
        The product, a function of ``x`` (..., I). Packed or not, results differ in rounding
        only, and the choice rests on device, dtype and CPU alone: a resumed run repeats it.
    """
    if not packs(weight):
        return partial(F.linear, weight=weight, bias=bias)
    packed = _pack(weight)
    if not gradient:
        return partial(_multiply, weight=packed, bias=bias)
    turned = _pack(weight.T.contiguous())
    return lambda x: _Product.apply(x, packed, turned, bias)


def packs(weight: Tensor) -> bool:
    """Whether packing pays for this weight.

    In bfloat16 it does (on AMX, a text block forward and backward: 47 ms against 50), since
    oneDNN also adds the bias within the product. In float32 torch multiplies with MKL, which on
    Intel is as fast (180 GFLOP/s on a core either way), and on AMD takes twice oneDNN's time.
    """
    if weight.device.type != 'cpu' or not hasattr(torch.ops.mkldnn, '_reorder_linear_weight'):
        return False
    if weight.dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return weight.dtype == torch.float32 and _is_amd()


@lru_cache
def _is_amd() -> bool:
    cpu = Path('/proc/cpuinfo')
    return cpu.is_file() and 'AuthenticAMD' in cpu.read_text()


def _pack(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight, None)


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'none', [], '')


class _Product(torch.autograd.Function):
    """The packed product with its gradient, which wants the transposed weight packed as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, turned: Tensor, bias: Tensor | None) -> Tensor:
        ctx.turned = turned
        return _multiply(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _multiply(grad, ctx.turned, None), None, None, None
