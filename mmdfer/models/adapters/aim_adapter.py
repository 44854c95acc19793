"""Provide the adapter of AIM, which lets a frozen image tower attend over time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from mmaction.registry import MODELS

from mmdfer.models.adapters.frame_mixing_adapter import (
    ALL,
    FrameMixingAdapter,
    attend_within,
    group_by_frame,
    group_by_place,
)
from mmdfer.models.adapters.tower_adapter import check_sizes

MLP_SCALE = 0.5  # factor of the adapter beside the MLP


class Bottleneck(nn.Module):
    """Apply a linear layer that narrows, GELU and a linear layer that widens; zero at the start.

    Args:
        dims: W, the width of the input and the output.
        width: The width between both layers.
    """

    def __init__(self, dims: int, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(dims, width), nn.Linear(width, dims)
        nn.init.trunc_normal_(self.down.weight, std=0.02)
        for tensor in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(tensor)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (..., W) to (..., W)."""
        return self.up(F.gelu(self.down(x)))


class AIMBlock(nn.Module):
    """Compute one frozen block with the three adapters of AIM.

    Args:
        dims: W, the width of the tower.
        width: The width of each bottleneck.
        num_frames: T, the number of frames of a clip.
    """

    def __init__(self, dims: int, width: int, num_frames: int) -> None:
        super().__init__()
        self.num_frames = num_frames
        self.temporal, self.spatial, self.mlp = (Bottleneck(dims, width) for _ in range(3))

    def forward(self, block: ResidualAttentionBlock, x: Tensor, kept: slice = ALL) -> Tensor:
        """Compute the output of a frozen block for the kept tokens of x (N * T, L, W)."""
        places = group_by_place(x, self.num_frames)  # (N, L, T, W)
        attended = attend_within(block.attn, block.ln_1(places.flatten(0, 1)))  # (N * L, T, W)
        x = x + group_by_frame(self.temporal(attended).view_as(places))
        attended = attend_within(block.attn, block.ln_1(x), kept)  # (N * T, K, W)
        x = x[:, kept] + attended + self.spatial(attended)
        normed = block.ln_2(x)
        return x + block.mlp(normed) + MLP_SCALE * self.mlp(normed)


@MODELS.register_module()
class AIMAdapter(FrameMixingAdapter):
    """Adapt a frozen image tower to video, as AIM does.

    Each block uses its frozen self-attention twice: first over the tokens of one place in all
    frames, and then within each frame. With the bottlenecks T, S and M (linear layer, GELU, linear
    layer), x becomes::

        x + T(attn(ln_1(x)))            over time
        x + a + S(a)                    with a = attn(ln_1(x)) within each frame
        x + mlp(ln_2(x)) + 0.5 M(ln_2(x))

    From the paper (Yang et al., "AIM: Adapting Image Models for Efficient Video Action
    Recognition", ICLR 2023): the three adapters and their order, and the frozen attention that is
    used twice.

    From the authors' code (taoyang1122/adapt-image-models): the skip connection of S only, the
    factor 0.5, a width of a quarter of the tower's, zeros as the first values of the widening
    layers, N(0, 0.02) for those of the narrowing layers, and a learned position of each frame that
    starts at zero and is added before the first LayerNorm.

    Our choice: only the adapter is trained. The authors' code also trains the last LayerNorm of the
    tower, which ``FrozenCLIP.trains=[r'visual[.]ln_post']`` adds, and drops T and M at random
    (stochastic depth).

    Args:
        dims: W, the width of the tower. FrozenCLIP sets it.
        layers: Number of blocks of the tower. FrozenCLIP sets it.
        width: Width of the bottlenecks. 192 is a quarter of the width of ViT-B.
        num_frames: T, the number of frames of each clip.

    Raises:
        DFERError: If ``width`` or ``num_frames`` is not a positive integer.
    """

    def __init__(self, dims: int, layers: int, width: int = 192, num_frames: int = 16) -> None:
        check_sizes('AIMAdapter', width=width, num_frames=num_frames)
        super().__init__((AIMBlock(dims, width, num_frames) for _ in range(layers)), num_frames)
        self.position = nn.Parameter(torch.zeros(num_frames, dims))

    def add_positions(self, x: Tensor) -> Tensor:
        """Add the position of its frame to each token (N * T, L, W)."""
        position = self.position[:, None].to(x.dtype)  # (T, 1, W)
        return (x.unflatten(0, (-1, self.num_frames)) + position).flatten(0, 1)
