"""The frozen encoder that turns decoded views into frame features."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.model import BaseDataPreprocessor
from torch import Tensor, nn

from mmaction.registry import MODELS

from mmdfer.errors import DFERError
from mmdfer.models.backbones.frame_encoder import FrameEncoder
from mmdfer.models.data_preprocessors.clip_preprocessor import CLIPDataPreprocessor, encoder_digest


class FeatureEncoder(nn.Module):
    """A frozen backbone with the preprocessor that normalises its frames.

    Args:
        backbone: Config of a :class:`FrameEncoder`, such as FrozenCLIP, or one that is built.
        data_preprocessor: Config of the preprocessor. CLIPDataPreprocessor by default.

    Raises:
        DFERError: The backbone does not encode frame by frame, or training changes it.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any] | FrameEncoder,
        data_preprocessor: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        built = backbone if isinstance(backbone, nn.Module) else MODELS.build(backbone)
        if not isinstance(built, FrameEncoder):
            raise DFERError(
                f'EncodedClips: a {type(built).__name__} does not encode each frame on its own: '
                "set encoder=dict(backbone=dict(type='FrozenCLIP', ...)), or take EncodedClips off "
                'the datasets'
            )
        if built.trains_frames:
            raise DFERError(
                'EncodedClips: backbone.trains unfreezes the image tower, so that its vectors '
                'change: take EncodedClips off the datasets, or set backbone.trains=()'
            )
        self.backbone = built
        self.data_preprocessor: BaseDataPreprocessor = MODELS.build(
            data_preprocessor or dict(type='CLIPDataPreprocessor')
        )
        if isinstance(self.data_preprocessor, CLIPDataPreprocessor):
            self.data_preprocessor.adopt(built)
        self.eval()

    @property
    def digest(self) -> str:
        """Return the digest of the backbone's weights and of the normalisation."""
        return encoder_digest(self.backbone, self.data_preprocessor)

    @torch.no_grad()
    def forward(self, views: list[Tensor]) -> Tensor:
        """Encode views (views, 3, T, H, W) of B clips to vectors (B, views, T, D) in float32."""
        batch = dict(inputs=views, data_samples=[None] * len(views))
        frames = self.data_preprocessor(batch)['inputs']  # (B, views, 3, T, H, W)
        vectors = self.backbone(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        return vectors.float().cpu()


_shared: dict[str, FeatureEncoder] = {}


def shared_encoder(config: Mapping[str, Any]) -> FeatureEncoder:
    """Return the encoder of a config, built once in this process for all datasets that name it.

    The state of torch's random generator is left as it was.

    Args:
        config: Arguments of :class:`FeatureEncoder`.
    """
    key = json.dumps(config, sort_keys=True, default=repr)
    if key not in _shared:
        with torch.random.fork_rng(devices=[]):
            _shared[key] = FeatureEncoder(**config).to(get_device())
    return _shared[key]


def release_encoders() -> None:
    """Free the memory of the encoders, once all datasets are encoded."""
    _shared.clear()
