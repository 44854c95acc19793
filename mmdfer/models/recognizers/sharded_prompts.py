"""Encode prompts in shares on several ranks, with the gradients of unshared encoding."""

from __future__ import annotations

from collections.abc import Callable

import torch
from mmengine import dist
from torch import Tensor
from torch.autograd.function import FunctionCtx


def encode_sharded(
    encode: Callable[[Tensor, int | Tensor], Tensor], prompts: Tensor, end: int | Tensor
) -> Tensor:
    """Encode P prompts on N ranks, with ceil(P / N) prompts on each, and gather all vectors.

    The gradient of a prompt is the sum of its gradients from the losses of all ranks, and it flows
    back on the rank that encoded the prompt. DistributedDataParallel then averages the gradients
    over the ranks. Since the other ranks contribute zero, the result is 1/N times the sum over the
    losses, which equals the gradient of one rank that has the whole batch.

    The forward and the backward pass are collective operations, so every rank must call this
    function.

    Args:
        encode: Function that encodes prompts, as FrozenCLIP.encode_prompts does.
        prompts: Token embeddings (..., L, W), the same on every rank. P is the product of the axes
            ``...``.
        end: Position of the end token, as one integer for all prompts or as a tensor (...).

    Returns:
        Vectors of all prompts (..., D), the same on every rank, in float32 at least.
    """
    *shape, length, width = prompts.shape
    prompts = prompts.reshape(-1, length, width)  # (P, L, W)
    size = -(-len(prompts) // dist.get_world_size())
    # If N does not divide P, the last ranks continue with the first prompts, and the repeated
    # vectors are cut off below. With equal shares all ranks have equal graphs, so that the
    # collective operations run in the same order on every rank.
    first = size * dist.get_rank()
    mine = torch.arange(first, first + size, device=prompts.device) % len(prompts)
    share = encode(prompts[mine], end.reshape(-1)[mine] if isinstance(end, Tensor) else end)
    # Use float32, because the gradients of N ranks are summed.
    share = share.to(torch.promote_types(share.dtype, torch.float32))  # (size, D)
    return _Gather.apply(share)[: len(prompts)].view(*shape, -1)


class _Gather(torch.autograd.Function):
    """Gather the vectors of all ranks on each rank, with gradients.

    torch has such a function in ``torch.distributed.nn``, but that module is deprecated.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, share: Tensor) -> Tensor:
        """Gather the rows (n, D) of N ranks to (N * n, D)."""
        return torch.cat(dist.all_gather(share.contiguous()))

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        """Sum the gradients (N * n, D) of all ranks and return the rows (n, D) of this rank."""
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad.chunk(dist.get_world_size())[dist.get_rank()]
