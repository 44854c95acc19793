"""VGG as a backbone of MMAction2's recognizers, which have none that gives feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mmcv.cnn

from mmaction.registry import MODELS


@MODELS.register_module()
class VGG(mmcv.cnn.VGG):
    """mmcv's VGG by name, with the weights that it starts from.

    Recognizer2D's own ``torchvision.vgg13`` averages its maps and keeps one level, which it then
    slices wrongly for a neck; this one gives two levels, (N, C, h, w) each.

    Args:
        depth: 11, 13, 16 or 19.
        pretrained: A checkpoint, for instance ``'torchvision://vgg13'``.
        out_indices: The stages whose maps are given.
        kwargs: As for mmcv's VGG.
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
        """Loads the checkpoint, or draws the weights where there is none."""
        super().init_weights(self.pretrained)

    def train(self, mode: bool = True) -> VGG:
        """As mmcv's, which returns nothing where torch's returns the module."""
        super().train(mode)
        return self
