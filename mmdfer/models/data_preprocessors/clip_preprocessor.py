"""Normalise frames with the mean and std of the CLIP weights."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseDataPreprocessor
from torch import nn

from mmaction.models import ActionDataPreprocessor
from mmaction.registry import MODELS

from mmdfer.errors import DFERError
from mmdfer.models.backbones.clip_weights import (
    Normalisation,
)
from mmdfer.models.backbones.frame_encoder import FrameEncoder
from mmdfer.models.backbones.frozen_clip import FrozenCLIP


@MODELS.register_module()
class CLIPDataPreprocessor(ActionDataPreprocessor):
    """Normalise RGB frames with the mean and std of the CLIP weights; features are only stacked.

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

    def forward(self, data: dict | tuple, training: bool = False) -> dict | tuple:
        """Stack and normalise the frames of a batch, or stack its features.

        Args:
            data: A batch with ``inputs``, frames (views, 3, T, H, W) of each clip; or with
                ``features``, vectors (views, T, D) of each clip, which leave in float32 or more.
            training: Whether to mix the frames, if the config has ``blending``.

        Raises:
            DFERError: Features are to be mixed: a mixture of frames has another vector than the
                mixture of their vectors.
        """
        if not (isinstance(data, dict) and 'features' in data):
            return super().forward(data, training)
        if training:
            check_blending(dict(blending=self.blending))
        features = torch.stack(list(data['features']))  # (B, views, T, D)
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        return self.cast_data(dict(data, features=features))


def check_blending(preprocessor: Mapping[str, Any] | None) -> None:
    """Raise DFERError where a preprocessor's config would mix features in training."""
    if preprocessor is not None and preprocessor.get('blending') is not None:
        raise DFERError(
            'model.data_preprocessor.blending mixes frames, and EncodedClips serves features that '
            'were encoded before: take EncodedClips off train_dataloader, or leave blending out'
        )


def encoder_digest(backbone: FrameEncoder, preprocessor: BaseDataPreprocessor) -> str:
    """Return what distinguishes the features of one encoder from those of another.

    Args:
        backbone: Its ``identity`` is read.
        preprocessor: Its mean and std are read.

    Returns:
        16 hexadecimal digits.
    """
    read = [backbone.identity, preprocessor.mean.tolist(), preprocessor.std.tolist()]
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()[:16]
