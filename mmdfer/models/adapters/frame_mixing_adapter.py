"""Define the base class of adapters whose blocks read all frames of a clip together."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmdfer.errors import DFERError
from mmdfer.models.adapters.tower_adapter import TowerAdapter


class FrameMixingAdapter(TowerAdapter):
    """Run an image tower in which the adapter of each block mixes the frames of a clip.

    Args:
        blocks: Modules that are called as ``module(block, x)``, one for each block of the tower.
            They compute the output (N * T, L, W) of the block and its adapter for N clips.
        num_frames: T, the number of frames of each clip.
    """

    def __init__(self, blocks: Iterable[nn.Module], num_frames: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.num_frames = num_frames

    def check_input(self, x: Tensor) -> None:
        """Raise DFERError unless the input of the backbone is clips of T frames (N, 3, T, H, W)."""
        name, t = type(self).__name__, self.num_frames
        if x.ndim != 5:
            raise DFERError(
                f'{name} mixes the frames of a clip, but the input is images of shape '
                f'{tuple(x.shape)}: use a recognizer that passes clips (N, 3, {t}, H, W), such as '
                'CLIPRecognizer, or an adapter that reads single images, such as LoRA'
            )
        if x.shape[2] != t:
            raise DFERError(
                f'{name} has num_frames={t}, but the clips have {x.shape[2]} frames: set '
                f'backbone.adapter.num_frames={x.shape[2]}, or sample {t} frames in the pipeline'
            )

    def encode(self, visual: VisionTransformer, images: Tensor) -> Tensor:
        """Encode the frames of clips with an image tower and this adapter.

        Args:
            visual: The image tower, a plain vision transformer that reads its class token.
            images: Frames (N * T, 3, H, W), the T frames of a clip one after another.

        Returns:
            Frame vectors (N * T, D).
        """
        patches = visual.conv1(images).flatten(2).transpose(1, 2)  # (N * T, L - 1, W)
        first = visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        x = torch.cat([first, patches], dim=1) + visual.positional_embedding.to(patches.dtype)
        x = visual.ln_pre(self.add_positions(x))
        for block, adapter in zip(visual.transformer.resblocks, self.blocks, strict=True):
            if visual.transformer.grad_checkpointing:
                x = checkpoint(adapter, block, x, use_reentrant=False)
            else:
                x = adapter(block, x)
        return visual.ln_post(x[:, 0]) @ visual.proj

    def add_positions(self, x: Tensor) -> Tensor:
        """Add positions in time to the embedded tokens (N * T, L, W), by default none."""
        return x


def group_by_place(x: Tensor, num_frames: int) -> Tensor:
    """Collect the tokens of one place over all frames of a clip, (N * T, L, W) -> (N, L, T, W)."""
    return x.unflatten(0, (-1, num_frames)).transpose(1, 2)


def group_by_frame(x: Tensor) -> Tensor:
    """Undo :func:`group_by_place`, (N, L, T, W) -> (N * T, L, W)."""
    return x.transpose(1, 2).flatten(0, 1)


def attend(attention: nn.MultiheadAttention, x: Tensor) -> Tensor:
    """Compute self-attention as a module of torch does, but faster for frozen weights on a CPU.

    The module transposes its input. For such an input and a weight that is not trained, torch
    copies the weight once for each token of the sequence, and multiplies the copies one by one.

    Args:
        attention: The module, which has dropout 0.
        x: Tokens (N, L, W).

    Returns:
        The output of the attention, (N, L, W).
    """
    projected = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)  # (N, L, 3 W)
    heads = projected.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(*heads)  # (N, heads, L, W / heads)
    return attention.out_proj(mixed.transpose(1, 2).flatten(2))
