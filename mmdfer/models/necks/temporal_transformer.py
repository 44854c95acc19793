"""Provide the temporal transformer of DFER-CLIP, a neck that reads frame vectors in order."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmaction.registry import MODELS

from mmdfer.errors import DFERError
from mmdfer.models.necks.temporal_neck import TemporalNeck, stretch_positions


class TransformerLayer(nn.Module):
    """Apply a pre-norm transformer layer without biases for queries, keys and values.

    From the authors' code of DFER-CLIP and Former-DFER: the order of the operations, the missing
    biases, and the tanh form of GELU in the MLP.

    Args:
        dims: D, the width of the vectors.
        heads: Number of attention heads.
        mlp: Number of hidden units in the MLP.
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
        """Apply attention and the MLP to sequences (N, L, D), keeping the shape."""
        qkv = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*qkv)  # (N, heads, L, d)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


@MODELS.register_module()
class TemporalTransformer(TemporalNeck):
    """Encode the frames of a clip with a transformer and a class token (DFER-CLIP, Sec. 3.2).

    From the paper (Zhao and Patras, "Prompting Visual-Language Models for Dynamic Facial Expression
    Recognition", BMVC 2023): one layer, 8 heads, an MLP of 1024 hidden units, the class token.

    From the authors' code (zengqunzhao/DFER-CLIP): pre-norm layers without dropout, no biases for
    queries, keys and values, the tanh form of GELU, no norm at the end, class token and positions
    drawn from N(0, 1), and frame vectors that are not normalised.

    Our choice: positions are interpolated for clips of another length. The configs of ResNet18-ViT
    use the same neck on a ResNet.

    Args:
        dims: D, the width of the vectors, which must be a multiple of ``heads``.
        in_channels: Number of channels of feature maps, as for TemporalNeck.
        depth: Number of transformer layers.
        heads: Number of attention heads.
        mlp: Number of hidden units in the MLP.
        num_frames: Number of learned positions.
        std: Standard deviation with which the class token and the positions are drawn. Use 0.02 for
            frame vectors of unit length (our choice).
        kwargs: Passed to TemporalNeck.

    Raises:
        DFERError: If ``heads`` does not divide D.
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
            raise DFERError(
                f'TemporalTransformer: heads={heads} does not divide dims={dims}: set heads to a '
                'divisor of dims'
            )
        self.class_token = nn.Parameter(std * torch.randn(dims))
        self.class_position = nn.Parameter(std * torch.randn(dims))
        self.position = nn.Parameter(std * torch.randn(num_frames, dims))
        self.layers = nn.Sequential(*(TransformerLayer(dims, heads, mlp) for _ in range(depth)))

    def encode_frames(self, frames: Tensor) -> Tensor:
        """Read the class token and the frames (N, T, D), and return the token's output (N, D)."""
        token = (self.class_token + self.class_position).expand(len(frames), 1, -1)  # (N, 1, D)
        frames = frames + stretch_positions(self.position, frames.shape[1])
        return self.layers(torch.cat([token, frames], dim=1))[:, 0]
