"""Train Align-DFER as it is written in the paper, and cache nothing: the naive baseline.

Each step encodes every frame by the image tower, and every sentence at all 77 positions of CLIP's
text tower. What a stage freezes runs without gradient, and the image tower gets the batch size that
is fastest on this machine. Nothing of mmdfer is imported.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.model import Optimizer, PlainAlignDFER, encode_images


class Trainer:
    """Take the steps of one stage on frames.

    Args:
        model: The model.
        stage: The stage: text, video or joint.
        image_batch: How many images the image tower encodes at a time.
    """

    def __init__(self, model: PlainAlignDFER, stage: str, image_batch: int = 32) -> None:
        self.model, self.stage, self.image_batch = model, stage, image_batch
        self.optimizer = Optimizer(model, stage)

    def encode_frames(self, frames: Tensor) -> Tensor:
        """Encode normalised frames (B, T, 3, H, W) to frame vectors (B, T, D)."""
        vectors = encode_images(self.model.clip, frames.flatten(0, 1), self.image_batch)
        # Training cannot use a tensor of inference mode, but can use its copy.
        return vectors.clone().unflatten(0, frames.shape[:2])

    def step(self, frames: Tensor, labels: Tensor) -> Tensor:
        """Take one optimizer step on normalised frames (B, T, 3, H, W), and return the loss."""
        return self.step_after_images(self.encode_frames(frames), labels)

    def step_after_images(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Take the part of a step that follows the image tower, on frame vectors (B, T, D)."""
        with torch.set_grad_enabled(self.stage != 'video'):
            classes = self.model.encode_classes(self.stage, self.model.clip.context_length)
        loss = F.cross_entropy(self.model(vectors, classes, self.stage), labels)
        return self.optimizer.update(loss)
