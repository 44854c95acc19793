"""The temporal transformer of DFER-CLIP, a neck that reads frame vectors in order."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmaction.registry import MODELS

from mmdfer.errors import DFERError
from mmdfer.models.necks.temporal_neck import TemporalNeck, stretch_positions


class TransformerLayer(nn.Module):
    """A pre-norm transformer layer without biases in q, k and v, as DFER-CLIP's code has it.

    Args:
        dims: D.
        heads: Of the attention.
        mlp: The hidden width of the MLP, whose GELU is in its tanh form.
    """

    def __init__(self, dims: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dims), nn.LayerNorm(dims)
        self.qkv, self.out = nn.Linear(dims, 3 * dims, bias=False), nn.Linear(dims, dims)
        self.mlp = nn.Sequential(
            nn.Linear(dims, mlp), nn.GELU(approximate='tanh'), nn.Linear(mlp, dims)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Relate the rows of (N, L, D) with one another, to the same shape."""
        qkv = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*qkv)  # (N, heads, L, d)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


@MODELS.register_module()
class TemporalTransformer(TemporalNeck):
    """A transformer over the frames, read at a class token (DFER-CLIP, Sec. 3.2).

    From the paper: one layer, 8 heads, an MLP of 1024, the class token. From the authors' code
    (zengqunzhao/DFER-CLIP): pre-norm layers without dropout, q, k and v without biases, GELU in its
    tanh form, no norm at the end; class token and positions drawn from N(0, 1), for frame vectors
    that are not normalised. ResNet18-ViT has the same over a ResNet.

    Args:
        dims: D, a multiple of ``heads``.
        in_channels: As in TemporalNeck.
        depth: The number of layers.
        heads: Of the attention.
        mlp: The hidden width of the MLP.
        num_frames: Positions that are learned; other lengths interpolate between them (ours).
        std: Of the class token and the positions when they are drawn. 0.02 suits frame vectors of
            unit length (ours).
        kwargs: As for TemporalNeck.

    Raises:
        DFERError: ``heads`` does not divide D.
    """

    def __init__(
        self,
        dims: int,
        in_channels: int | None = None,
        depth: int = 1,
        heads: int = 8,
        mlp: int = 1024,
        num_frames: int = 16,
        std: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(dims, in_channels, **kwargs)
        if dims % heads:
            raise DFERError(f'TemporalTransformer: heads={heads} does not divide dims={dims}')
        self.class_token = nn.Parameter(std * torch.randn(dims))
        self.class_position = nn.Parameter(std * torch.randn(dims))
        self.position = nn.Parameter(std * torch.randn(num_frames, dims))
        self.layers = nn.Sequential(*(TransformerLayer(dims, heads, mlp) for _ in range(depth)))

    def encode_frames(self, frames: Tensor) -> Tensor:
        """Read (N, T, D) behind the class token, and give what the token has become, (N, D)."""
        token = (self.class_token + self.class_position).expand(len(frames), 1, -1)  # (N, 1, D)
        frames = frames + stretch_positions(self.position, frames.shape[1])
        return self.layers(torch.cat([token, frames], dim=1))[:, 0]
