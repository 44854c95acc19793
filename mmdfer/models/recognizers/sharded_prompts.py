"""Sentences shared among the ranks: each encodes its part, all get all, gradients are exact."""

from __future__ import annotations

from collections.abc import Callable

import torch
from mmengine import dist
from torch import Tensor
from torch.autograd.function import FunctionCtx


def encode_sharded(
    encode: Callable[[Tensor, int | Tensor], Tensor], prompts: Tensor, end: int | Tensor
) -> Tensor:
    """Encodes P prompts on N ranks, ceil(P / N) on each.

    A prompt's gradient is the sum over all ranks' losses, and reaches the rank that encoded it.
    DistributedDataParallel's mean over the ranks then makes of it what one rank has on the whole
    batch: the others' share is zero, and 1/N times the sum of the losses is their mean.

    A collective, in both directions: every rank must take part.

    Args:
        encode: As FrozenCLIP.encode_prompts.
        prompts: Token embeddings (..., L, W), the same on every rank; P is the product of `...`.
        end: The position of the end token: one for all prompts, or a tensor (...).

    Returns:
        (..., D), the same on every rank; float32 at least.
    """
    *shape, length, width = prompts.shape
    prompts = prompts.reshape(-1, length, width)  # (P, L, W)
    size = -(-len(prompts) // dist.get_world_size())
    # Where N does not divide P the last ranks begin again at the first prompt, to be cut off below:
    # equal shares give equal graphs, so that collectives come in the same order on every rank.
    first = size * dist.get_rank()
    mine = torch.arange(first, first + size, device=prompts.device) % len(prompts)
    share = encode(prompts[mine], end.reshape(-1)[mine] if isinstance(end, Tensor) else end)
    # In float32, for the gradients of N ranks are summed.
    share = share.to(torch.promote_types(share.dtype, torch.float32))  # (size, D)
    return _Gather.apply(share)[: len(prompts)].view(*shape, -1)


class _Gather(torch.autograd.Function):
    """All ranks' rows one after another; torch's own, in ``distributed.nn``, is deprecated."""

    @staticmethod
    def forward(ctx: FunctionCtx, share: Tensor) -> Tensor:
        """(n, D) on each of N ranks -> (N * n, D)."""
        return torch.cat(dist.all_gather(share.contiguous()))

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        """Sums the ranks' gradients (N * n, D) and keeps this rank's own rows (n, D)."""
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad.chunk(dist.get_world_size())[dist.get_rank()]
