"""The text head of CoCoOp: CoOp's context, shifted by what the clip shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmaction.registry import MODELS

from mmdfer.models.backbones.frozen_clip import FrozenCLIP
from mmdfer.models.heads.coop_head import CoOpHead


@MODELS.register_module()
class CoCoOpHead(CoOpHead):
    """Conditional Context Optimization: each clip has prompts, and class vectors, of its own.

    Zhou et al., "Conditional Prompt Learning for Vision-Language Models", CVPR 2022, Sec. 3.2: a
    Meta-Net of two linear layers, the hidden one a 16th as wide, maps the image vector to one
    vector that is added to every token of the shared context. The video vector stands in for the
    image's.

    The text tower runs on C prompts per clip. They are encoded a few clips at a time, and again in
    the backward pass, so that memory does not grow with the batch.

    Args:
        classes: The C names, in the order of the dataset's labels.
        in_channels: As for TextHead.
        clips_per_pass: How many clips' prompts are encoded together.
        kwargs: As for CoOpHead, whose context is shared here.
    """

    conditioned = True

    def __init__(
        self, classes: Sequence[str], in_channels: int, clips_per_pass: int = 8, **kwargs: Any
    ) -> None:
        super().__init__(classes, in_channels, class_specific=False, **kwargs)
        self.clips_per_pass = clips_per_pass
        dims = in_channels if self.clip is None else self.clip.embed_dims
        self.meta_net = nn.Sequential(
            nn.Linear(dims, dims // 16), nn.ReLU(), nn.Linear(dims // 16, self.text_width)
        )

    def encode(self, clip: FrozenCLIP, video: Tensor) -> Tensor:
        """Encodes each clip's prompts: video vectors (B, D) to sentences (B, C, 1, D)."""
        shifts = self.meta_net(F.normalize(video, dim=-1))  # (B, W)
        parts = [
            checkpoint(self._encode, clip, part, use_reentrant=False, preserve_rng_state=False)
            for part in shifts.split(self.clips_per_pass)
        ]
        return torch.cat(parts)[:, :, None]

    def _encode(self, clip: FrozenCLIP, shifts: Tensor) -> Tensor:
        """(b, W) -> (b, C, D)."""
        contexts = self.tokens + shifts[:, None, None]  # (b, 1, M, W)
        prompts, ends = self.put_before_texts(clip, contexts)  # (b, C, L, W), (C,)
        return clip.encode_prompts(prompts, ends)
