"""Normalise frames with the mean and standard deviation of the CLIP weights."""

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
    """Normalise RGB frames with the mean and standard deviation of the CLIP weights.

    Batches of features from EncodedClips are only stacked, because their frames were normalised
    before they were encoded.

    MMAction2's recognizers build the preprocessor before the backbone. They pass the backbone to
    :meth:`adopt` afterwards (see ``compat.hand_backbone_to_preprocessor``), so that the
    preprocessor can read the mean and standard deviation of its weights.

    Args:
        mean: Mean of each RGB channel, in 0..255. The default is that of the recognizer's
            FrozenCLIP, or OpenAI's if the recognizer has no FrozenCLIP.
        std: Standard deviation of each RGB channel, in 0..255. The default is chosen as for
            ``mean``.
        format_shape: Shape of the input. The default ``'NCTHW'`` is the shape that CLIPRecognizer
            reads.
        blending: Config of MixupBlending, CutmixBlending or RandomBatchAugment, which mix the
            frames of a training batch. Features from EncodedClips cannot be mixed.
        kwargs: Passed to MMAction2's ActionDataPreprocessor.
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
        # Copy the config, because RandomBatchAugment appends to the list `probs` in its config,
        # and the config may be used to build another model.
        blending = copy.deepcopy(blending)
        super().__init__(mean=mean, std=std, format_shape=format_shape, blending=blending, **kwargs)

    def adopt(self, backbone: nn.Module) -> None:
        """Use the mean and std of a FrozenCLIP's weights, unless the config sets them.

        Args:
            backbone: Backbone of the recognizer. Any other backbone is ignored.
        """
        if not isinstance(backbone, FrozenCLIP) or all(self._given):
            return
        own = backbone.normalisation
        for given, buffer, values in zip(self._given, (self.mean, self.std), (own.mean, own.std)):
            if not given:
                buffer.copy_(torch.tensor([255 * value for value in values]).view_as(buffer))
        if not own.known:
            MMLogger.get_current_instance().warning(
                'the mean and std with which the CLIP weights were trained are unknown, so frames '
                "are normalised with OpenAI's: copy the open_clip_config.json of the weights to "
                'their folder, or set mean and std of model.data_preprocessor'
            )

    def forward(self, data: dict | tuple, training: bool = False) -> dict | tuple:
        """Stack and normalise the frames of a batch, or stack its features.

        Args:
            data: A batch. Its ``inputs`` are the frames (views, 3, T, H, W) of each clip. A batch
                from EncodedClips has ``features`` instead, the frame vectors (views, T, D) of each
                clip, which are converted to float32 at least.
            training: Whether to mix the frames, if the config has ``blending``.

        Returns:
            The batch, with ``inputs`` (B, views, 3, T, H, W) or ``features`` (B, views, T, D).

        Raises:
            DFERError: If a batch of features would be mixed. The vector of a mixture of frames
                differs from the mixture of their vectors.
        """
        if not (isinstance(data, dict) and 'features' in data):
            return super().forward(data, training)
        if training:
            check_blending(dict(blending=self.blending))
        features = torch.stack(list(data['features']))  # (B, views, T, D)
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        return self.cast_data(dict(data, features=features))


def check_blending(preprocessor: Mapping[str, Any] | None) -> None:
    """Raise DFERError if the config of a preprocessor mixes the samples of a training batch.

    This check is used for training on features, which cannot be mixed.

    Args:
        preprocessor: Config of the data preprocessor, or ``None``.
    """
    if preprocessor is not None and preprocessor.get('blending') is not None:
        raise DFERError(
            'model.data_preprocessor.blending mixes frames, but EncodedClips returns features that '
            'were encoded beforehand: remove EncodedClips from train_dataloader, or remove blending'
        )


def encoder_digest(backbone: FrameEncoder, preprocessor: BaseDataPreprocessor) -> str:
    """Return a digest that distinguishes the features of one encoder from those of another.

    Args:
        backbone: Backbone that encodes the frames. Its ``identity`` enters the digest.
        preprocessor: Preprocessor of the frames. Its mean and standard deviation enter the digest.

    Returns:
        16 hexadecimal digits.
    """
    read = [backbone.identity, preprocessor.mean.tolist(), preprocessor.std.tolist()]
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()[:16]
