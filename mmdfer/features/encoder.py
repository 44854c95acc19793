"""Define FeatureEncoder, which encodes decoded views to frame vectors with a frozen backbone."""

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
    """Normalise frames with a data preprocessor and encode them with a frozen backbone.

    Args:
        backbone: A :class:`FrameEncoder`, such as FrozenCLIP, or its config.
        data_preprocessor: Config of the data preprocessor that normalises the frames. By default,
            CLIPDataPreprocessor.

    Raises:
        DFERError: If the backbone does not encode each frame on its own, or is not frozen.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any] | FrameEncoder,
        data_preprocessor: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        built = backbone if isinstance(backbone, nn.Module) else MODELS.build(backbone)
        if not isinstance(built, FrameEncoder) or built.mixes_frames:
            raise DFERError(
                f'EncodedClips: {type(built).__name__} does not encode each frame on its own; '
                "set encoder=dict(backbone=dict(type='FrozenCLIP', ...)) without an adapter, or "
                'remove EncodedClips from the datasets'
            )
        if built.trains_frames:
            raise DFERError(
                'EncodedClips: backbone.trains unfreezes the image tower or backbone.adapter '
                'adapts it, so that training changes the frame vectors; remove EncodedClips from '
                'the datasets, or set backbone.trains=() and backbone.adapter=None'
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
        """Return a digest of the backbone's weights and the normalisation of the preprocessor."""
        return encoder_digest(self.backbone, self.data_preprocessor)

    @torch.no_grad()
    def forward(self, views: list[Tensor]) -> Tensor:
        """Encode the frames of B clips.

        Args:
            views: For each of the B clips, a uint8 tensor (views, 3, T, H, W).

        Returns:
            Frame vectors (B, views, T, D) in float32 on the CPU.
        """
        batch = dict(inputs=views, data_samples=[None] * len(views))
        frames = self.data_preprocessor(batch)['inputs']  # (B, views, 3, T, H, W)
        vectors = self.backbone(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        return vectors.float().cpu()


_shared: dict[str, FeatureEncoder] = {}


def shared_encoder(config: Mapping[str, Any]) -> FeatureEncoder:
    """Build the encoder of a config, or return the one that was built before.

    All datasets of this process that have the same config share one encoder. Building the encoder
    does not change the state of torch's random generator on the CPU.

    Args:
        config: Arguments of :class:`FeatureEncoder`.
    """
    key = json.dumps(config, sort_keys=True, default=repr)
    if key not in _shared:
        with torch.random.fork_rng(devices=[]):
            _shared[key] = FeatureEncoder(**config).to(get_device())
    return _shared[key]


def release_encoders() -> None:
    """Free the memory of the shared encoders. Call this when all datasets are encoded."""
    _shared.clear()
