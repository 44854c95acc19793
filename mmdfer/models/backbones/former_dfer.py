"""Former-DFER: a transformer over the places of each face, and one over the frames."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torchvision.models import resnet18

from mmaction.registry import MODELS

from mmdfer.errors import DFERError
from mmdfer.models.necks.temporal_transformer import TemporalTransformer, TransformerLayer

STRIDE = 16  # of the fourth convolution block, where the spatial transformer stands


@MODELS.register_module()
class FormerDFER(BaseModule):
    """Former-DFER (Zhao and Liu, ACM MM 2021): a backbone for Recognizer3D, 18 M parameters.

    The convolutional spatial transformer (CS-Former) is five convolution blocks, those of
    a ResNet-18, with spatial encoders between the fourth and the fifth, over the 7 x 7 places of
    256 channels. It makes a vector of 512 of each frame. The temporal transformer (T-Former)
    reads these frames behind a class token, whose output is the clip's vector.

    From the paper: the parts, 512 wide, 8 heads, 3 temporal encoders, 16 frames at 112. From the
    authors' code (zengqunzhao/Former-DFER): 1 spatial encoder, pre-norm, MLP 2x, no dropout, q, k
    and v without biases, GELU in its tanh form, position embeddings drawn from N(0, 1).

    Args:
        input_size: H and W in pixels.
        num_frames: T; the positions of clips of other lengths are interpolated.
        spatial_depth: Spatial encoders.
        temporal_depth: Temporal encoders.
        heads: Of both transformers.
        init_cfg: As for mmengine's BaseModule.
    """

    def __init__(
        self,
        input_size: int = 112,
        num_frames: int = 16,
        spatial_depth: int = 1,
        temporal_depth: int = 3,
        heads: int = 8,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        self.input_size = input_size
        net = resnet18()
        self.stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
        self.blocks = nn.Sequential(net.layer1, net.layer2, net.layer3)
        self.last_block = net.layer4
        side = -(-input_size // STRIDE)
        self.position = nn.Parameter(torch.randn(side * side, 256))
        self.spatial_encoder = nn.Sequential(
            *(TransformerLayer(256, heads, mlp=512) for _ in range(spatial_depth))
        )
        self.temporal_transformer = TemporalTransformer(
            512, depth=temporal_depth, heads=heads, mlp=1024, num_frames=num_frames
        )

    def forward(self, x: Tensor) -> Tensor:
        """Makes one vector of each clip.

        Args:
            x: (N, 3, T, H, W).

        Returns:
            (N, 512, 1, 1, 1), as I3DHead and necks take it.

        Raises:
            DFERError: H or W are not those that the position embeddings were made for.
        """
        if x.shape[3:] != (self.input_size, self.input_size):
            raise DFERError(
                f'FormerDFER: frames of H, W = {tuple(x.shape[3:])}; its position embeddings are '
                f"for {self.input_size}: set backbone.input_size to the pipeline's"
            )
        frames = self.encode_faces(x.transpose(1, 2).flatten(0, 1))  # (N * T, 512)
        clips = self.temporal_transformer.encode_frames(frames.unflatten(0, (len(x), -1)))
        return clips[:, :, None, None, None]

    def encode_faces(self, x: Tensor) -> Tensor:
        """CS-Former: (N, 3, H, W) -> (N, 512)."""
        x = self.blocks(self.stem(x))  # (N, 256, h, w)
        places = x.flatten(2).transpose(1, 2)  # (N, h * w, 256), row by row
        places = self.spatial_encoder(places + self.position)
        return self.last_block(places.transpose(1, 2).reshape(x.shape)).mean((2, 3))
