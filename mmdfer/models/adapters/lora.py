"""Provide LoRA, which adds trained low-rank matrices to the frozen attention weights of a tower."""

from __future__ import annotations

import math
from typing import Any

import torch
from open_clip.transformer import Transformer
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mmaction.registry import MODELS

from mmdfer.models.adapters.tower_adapter import TowerAdapter, check_sizes


class LowRankUpdate(nn.Module):
    """Hold the product of two narrow matrices, which is zero at the start.

    Args:
        outputs: Number of rows of the product.
        inputs: Number of columns of the product.
        rank: Number of rows of one factor and of columns of the other.
        scale: Factor of the product.
    """

    def __init__(self, outputs: int, inputs: int, rank: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.down = nn.Parameter(torch.empty(rank, inputs))
        self.up = nn.Parameter(torch.zeros(outputs, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self) -> Tensor:
        """Return the scaled product (outputs, inputs)."""
        return self.scale * self.up @ self.down


class _AddUpdate(nn.Module):
    """Add an update to a frozen weight, as a parametrization of torch.

    Args:
        update: The update, which belongs to a LoRA module.
    """

    def __init__(self, update: LowRankUpdate) -> None:
        super().__init__()
        self._update = [update]  # in a list, so that its parameters are not registered again

    def forward(self, weight: Tensor) -> Tensor:
        """Return the frozen weight plus the update."""
        (update,) = self._update
        return weight + update()


class LoRABlock(nn.Module):
    """Hold the updates of the attention weights of one block.

    Args:
        dims: W, the width of the tower.
        rank: Rank of each update.
        scale: Factor of each update.
    """

    def __init__(self, dims: int, rank: int, scale: float) -> None:
        super().__init__()
        self.in_proj = LowRankUpdate(3 * dims, dims, rank, scale)
        self.out_proj = LowRankUpdate(dims, dims, rank, scale)

    def attach(self, attention: nn.MultiheadAttention) -> None:
        """Add the updates to the weights of the attention of a frozen block."""
        parametrize.register_parametrization(attention, 'in_proj_weight', _AddUpdate(self.in_proj))
        parametrize.register_parametrization(
            attention.out_proj, 'weight', _AddUpdate(self.out_proj)
        )


@MODELS.register_module()
class LoRA(TowerAdapter):
    """Add a product of two trained matrices of low rank to attention weights of a frozen tower.

    A weight W becomes W + (alpha / rank) B A, where B starts at zero. Both an image tower and a
    text tower can have this adapter.

    From the paper (Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, Sec.
    4.1): the formula, and zeros as the first values of B.

    From the authors' code (microsoft/LoRA): the first values of A, which are those of torch's
    linear layer.

    Our choice: the adapted weights are the stacked projection to queries, keys and values
    (``in_proj_weight``), with one B A for all three, and the output projection
    (``out_proj.weight``) of each block; alpha is the rank by default.

    Args:
        dims: W, the width of the tower. FrozenCLIP sets it.
        layers: Number of blocks of the tower. FrozenCLIP sets it.
        rank: Rank of each product B A.
        alpha: Numerator of the factor of B A. By default it is ``rank``, so that the factor is 1.

    Raises:
        DFERError: If ``rank`` is not a positive integer.
    """

    def __init__(self, dims: int, layers: int, rank: int = 8, alpha: float | None = None) -> None:
        check_sizes('LoRA', rank=rank)
        super().__init__()
        self.scale = 1.0 if alpha is None else alpha / rank
        self.blocks = nn.ModuleList(LoRABlock(dims, rank, self.scale) for _ in range(layers))

    @property
    def settings(self) -> dict[str, Any]:
        """Return the type and the factor of the products."""
        return super().settings | dict(scale=self.scale)

    def attach(self, transformer: Transformer) -> None:
        """Add the updates to the attention weights of a frozen transformer.

        Args:
            transformer: The transformer of an open_clip tower.
        """
        for block, updates in zip(transformer.resblocks, self.blocks, strict=True):
            assert isinstance(updates, LoRABlock)
            updates.attach(block.attn)
