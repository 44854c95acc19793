"""Provide VGG as a backbone of MMAction2's recognizers that returns feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mmcv.cnn

from mmaction.registry import MODELS


@MODELS.register_module()
class VGG(mmcv.cnn.VGG):
    """Encode frames with mmcv's VGG, registered by name and with optional pretrained weights.

    MMAction2's Recognizer2D can build ``torchvision.vgg13`` itself. That backbone averages its
    feature maps and returns only one level, which Recognizer2D then slices wrongly when the model
    has a neck. This class returns two levels by default, each of shape (N, C, h, w).

    The tables of the DFER papers name a VGG13-LSTM and do not describe it. Our choice: mmcv's VGG
    encodes its frames.

    Args:
        depth: Number of layers: 11, 13, 16 or 19.
        pretrained: Checkpoint to start from, for example ``'torchvision://vgg13'``. By default the
            weights are drawn at random.
        out_indices: Indices of the stages whose feature maps are returned.
        kwargs: Passed to mmcv's VGG.
    """

    def __init__(
        self,
        depth: int,
        pretrained: str | None = None,
        out_indices: Sequence[int] = (3, 4),
        **kwargs: Any,
    ) -> None:
        super().__init__(depth, out_indices=out_indices, **kwargs)
        self.pretrained = pretrained

    def init_weights(self) -> None:
        """Load the pretrained checkpoint, or draw the weights at random if there is none."""
        super().init_weights(self.pretrained)

    def train(self, mode: bool = True) -> VGG:
        """Switch between training and eval, and return this module.

        mmcv's method returns None, while callers expect the module as from ``nn.Module.train``.
        """
        super().train(mode)
        return self
