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
from mmdfer.models.attention import attend

ALL, CLASS_TOKEN = slice(None), slice(1)  # tokens of a frame


class FrameMixingAdapter(TowerAdapter):
    """Run an image tower in which the adapter of each block mixes the frames of a clip.

    Args:
        blocks: Modules that are called as ``module(block, x, kept)``, one for each block of the
            tower. They compute the output of the block and its adapter for N clips, for the tokens
            of each frame in the slice ``kept``: (N * T, L, W) for all, (N * T, 1, W) for the class
            token, which alone is read from the last block.
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
        pairs = list(zip(visual.transformer.resblocks, self.blocks, strict=True))
        for number, (block, adapter) in enumerate(pairs, start=1):
            kept = CLASS_TOKEN if number == len(pairs) else ALL
            if visual.transformer.grad_checkpointing:
                x = checkpoint(adapter, block, x, kept, use_reentrant=False)
            else:
                x = adapter(block, x, kept)
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


def attend_within(attention: nn.MultiheadAttention, x: Tensor, kept: slice = ALL) -> Tensor:
    """Compute self-attention as a module of torch does, but faster for frozen weights on a CPU.

    The module transposes its input. For such an input and a weight that is not trained, torch
    copies the weight once for each token of the sequence, and multiplies the copies one by one.

    Args:
        attention: The module, which has dropout 0.
        x: Tokens (N, L, W).
        kept: The tokens whose output is computed, by default all.

    Returns:
        The output of the attention for the kept tokens, (N, K, W).
    """
    width, heads = attention.embed_dim, attention.num_heads
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    query = F.linear(x[:, kept], weight[:width], bias[:width]) * (width // heads) ** -0.5
    key_value = F.linear(x, weight[width:], bias[width:])  # (N, L, 2 W)
    return attention.out_proj(attend(query, key_value, heads))
