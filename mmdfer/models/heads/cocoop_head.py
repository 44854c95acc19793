"""Provide the text head of CoCoOp, which shifts the context of CoOp by the video vector."""

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
    """Shift the shared context of CoOp by a vector that depends on the clip.

    Each clip therefore has separate prompts and class vectors.

    From the paper (Zhou et al., "Conditional Prompt Learning for Vision-Language Models", CVPR
    2022, Sec. 3.2): a Meta-Net of two linear layers maps the image vector to a vector that is added
    to every token of the shared context. The hidden layer has a 16th of the input's width.

    From the authors' code (KaiyangZhou/CoOp): the Meta-Net reads vectors of unit length.

    Our choice: the video vector replaces the image vector.

    The text tower encodes C prompts for each clip. It encodes the prompts of a few clips at a time
    and recomputes them in the backward pass, so that memory does not grow with the batch.

    Args:
        classes: The C class names, in the order of the dataset's labels.
        in_channels: Width of the features, as for TextHead.
        clips_per_pass: Number of clips whose prompts are encoded together.
        kwargs: Passed to CoOpHead. ``class_specific`` cannot be given: all classes share the
            context.
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
        """Encode the prompts of each clip.

        Args:
            clip: CLIP whose text tower encodes the prompts.
            video: Video vectors (B, D), which the Meta-Net reads.

        Returns:
            Vectors of the prompts (B, C, 1, D).
        """
        shifts = self.meta_net(F.normalize(video, dim=-1))  # (B, W)
        parts = [
            checkpoint(self._encode, clip, part, use_reentrant=False, preserve_rng_state=False)
            for part in shifts.split(self.clips_per_pass)
        ]
        return torch.cat(parts)[:, :, None]

    def _encode(self, clip: FrozenCLIP, shifts: Tensor) -> Tensor:
        """Encode the prompts of some clips, context shifts (b, W) -> vectors (b, C, D)."""
        contexts = self.tokens + shifts[:, None, None]  # (b, 1, M, W)
        prompts, ends = self.put_before_texts(clip, contexts)  # (b, C, L, W), (C,)
        return clip.encode_prompts(prompts, ends)
