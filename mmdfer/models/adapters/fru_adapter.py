"""Provide the frame recalibration unit adapter, which weighs and mixes the frames of a clip."""

from __future__ import annotations

from typing import Any

from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn

from mmaction.registry import MODELS

from mmdfer.errors import DFERError
from mmdfer.models.adapters.frame_mixing_adapter import (
    ALL,
    FrameMixingAdapter,
    attend_within,
    group_by_frame,
    group_by_place,
)
from mmdfer.models.adapters.tower_adapter import check_sizes

PLACES = ('block', 'mlp')


class FRUBlock(nn.Module):
    """Compute one frozen block with a frame recalibration unit and attention over time.

    Args:
        dims: W, the width of the tower.
        width: R, the width of the bottleneck.
        num_frames: T, the number of frames of a clip.
        beside: What the adapter is added beside, as for FRUAdapter.
    """

    def __init__(self, dims: int, width: int, num_frames: int, beside: str) -> None:
        super().__init__()
        self.num_frames, self.beside = num_frames, beside
        self.down, self.up = nn.Linear(dims, width), nn.Linear(width, dims)
        self.norm, self.attention_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.weigh = nn.Linear(num_frames, num_frames)
        self.attention = nn.MultiheadAttention(width, num_heads=1, batch_first=True)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, block: ResidualAttentionBlock, x: Tensor, kept: slice = ALL) -> Tensor:
        """Compute the output of a frozen block for the kept tokens of x (N * T, L, W)."""
        read = kept if self.beside == 'block' else ALL  # beside the MLP, mix() reads all tokens
        attended = x[:, read] + attend_within(block.attn, block.ln_1(x), read)
        normed = block.ln_2(attended)
        mixed = self.mix(x if self.beside == 'block' else normed, kept)
        return attended[:, kept] + block.mlp(normed[:, kept]) + mixed

    def mix(self, x: Tensor, kept: slice = ALL) -> Tensor:
        """Weigh the frames of each clip and mix them, (N * T, L, W) -> (N * T, K, W)."""
        x = group_by_place(self.norm(self.down(x)), self.num_frames)  # (N, L, T, R)
        weights = self.weigh(x.mean((1, 3))).softmax(1)  # (N, T), from all tokens
        x = x[:, kept] * weights[:, None, :, None]
        tokens = x.flatten(0, 1)  # (N * L, T, R)
        normed = self.attention_norm(tokens)
        tokens = tokens + self.attention(normed, normed, normed, need_weights=False)[0]
        return self.up(group_by_frame(tokens.view_as(x)))


@MODELS.register_module()
class FRUAdapter(FrameMixingAdapter):
    """Adapt a frozen image tower with the frame recalibration unit of FRU-Adapter.

    Each block gets a bottleneck of width R. Its narrowing layer and a LayerNorm give h. The mean of
    h over the tokens and channels of each frame passes a linear map from T to T values and a
    softmax over the frames, whose result scales the frames of h. Then h + attn(LayerNorm(h)), with
    a single head and over the tokens of one place in all frames, passes the widening layer.

    From the paper (Her et al., "FRU-Adapter: Frame Recalibration Unit Adapter for Dynamic Facial
    Expression Recognition", Electronics 14(5), 2025): the recalibration of frames, and the
    self-attention over time that follows it.

    From the authors' code (SeoulTech-HCIRLab/FRU-Adapter): a width of 128 for ViT-L, the mean after
    the LayerNorm, and pre-norm attention with a residual connection. A LayerNorm centres each token
    until its weights have changed, so the mean is zero at first, and the map trains slowly.

    From the paper and its code: the adapter is in parallel with each encoder layer. In the code, it
    reads the input of a block and is added beside the whole block (``beside='block'``).

    Our choice: the widening layer starts at zero, so that the tower starts as CLIP. With
    ``beside='mlp'``, the adapter reads ``ln_2`` of the block and is added beside its MLP, as one
    adapter of AIM is.

    Args:
        dims: W, the width of the tower. FrozenCLIP sets it.
        layers: Number of blocks of the tower. FrozenCLIP sets it.
        width: R, the width of the bottlenecks.
        num_frames: T, the number of frames of each clip. The map from T to T values fixes it.
        beside: ``'block'`` or ``'mlp'``, what the adapter is added beside.

    Raises:
        DFERError: If ``width`` or ``num_frames`` is not a positive integer, or if ``beside`` has
            another value.
    """

    def __init__(
        self, dims: int, layers: int, width: int = 128, num_frames: int = 16, beside: str = 'block'
    ) -> None:
        check_sizes('FRUAdapter', width=width, num_frames=num_frames)
        if beside not in PLACES:
            raise DFERError(f"FRUAdapter: beside must be 'block' or 'mlp', got {beside!r}")
        blocks = (FRUBlock(dims, width, num_frames, beside) for _ in range(layers))
        super().__init__(blocks, num_frames)
        self.beside = beside

    @property
    def settings(self) -> dict[str, Any]:
        """Return the type and what the adapter is added beside."""
        return super().settings | dict(beside=self.beside)
