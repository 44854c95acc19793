"""Normalise frames with the mean and std of the CLIP weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.logging import MMLogger
from torch import Tensor, nn

from mmaction.models import ActionDataPreprocessor
from mmaction.registry import MODELS

from mmdfer.errors import DFERError
from mmdfer.models.backbones.clip_weights import (
    Normalisation,
)
from mmdfer.models.backbones.frozen_clip import ENCODED_AND_BLENDED, FrozenCLIP


@MODELS.register_module()
class CLIPDataPreprocessor(ActionDataPreprocessor):
    """Normalises RGB frames with the mean and std of the CLIP weights; vectors pass as they are.

    MMAction2's recognizers build it before the backbone, and hand the backbone to :meth:`adopt`
    afterwards (``compat.hand_backbone_to_preprocessor``).

    Args:
        mean: Per channel, in 0..255. Defaults to that of the recognizer's FrozenCLIP, and without
            one to OpenAI's.
        std: Per channel, in 0..255. Defaults likewise.
        format_shape: ``'NCTHW'``, the shape that CLIPRecognizer takes.
        blending: Config of MixupBlending, CutmixBlending or RandomBatchAugment, which mix the
            frames of a training batch. Vectors that were encoded beforehand cannot be mixed.
    """

    def __init__(
        self,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        format_shape: str = 'NCTHW',
        blending: dict | None = None,
        **kwargs: Any,
    ) -> None:
        self._given = mean is not None, std is not None
        openai = Normalisation()
        mean = [255 * m for m in openai.mean] if mean is None else mean
        std = [255 * s for s in openai.std] if std is None else std
        # A copy: RandomBatchAugment lengthens the `probs` of its config, which may be built again.
        blending = copy.deepcopy(blending)
        super().__init__(mean=mean, std=std, format_shape=format_shape, blending=blending, **kwargs)

    def adopt(self, backbone: nn.Module) -> None:
        """Take over what the config left open: mean and std of a FrozenCLIP's weights."""
        if not isinstance(backbone, FrozenCLIP) or all(self._given):
            return
        own = backbone.normalisation
        for given, buffer, values in zip(self._given, (self.mean, self.std), (own.mean, own.std)):
            if not given:
                buffer.copy_(torch.tensor([255 * value for value in values]).view_as(buffer))
        if not own.known:
            MMLogger.get_current_instance().warning(
                'the CLIP weights do not say with which mean and std they were trained; frames are '
                "normalised with OpenAI's: copy their open_clip_config.json beside them, or set "
                'mean and std of model.data_preprocessor'
            )

    def preprocess(
        self, inputs: list[Tensor] | Tensor, data_samples: list, training: bool = False
    ) -> tuple:
        """Stacks a batch: views (clips, 3, T, H, W) are normalised, (clips, T, D) are not.

        Vectors may also come as one tensor (B, clips, T, D); they leave in fp32 or more.

        Raises:
            DFERError: Vectors are to be mixed: a mixture of frames has another vector than the
                mixture of their vectors.
        """
        if inputs[0].ndim == 3:
            if training and self.blending is not None:
                raise DFERError(ENCODED_AND_BLENDED)
            vectors = inputs if isinstance(inputs, Tensor) else torch.stack(list(inputs))
            return vectors.to(torch.promote_types(vectors.dtype, torch.float32)), data_samples
        return super().preprocess(inputs, data_samples, training)
