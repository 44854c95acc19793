"""Provide Former-DFER: a spatial transformer on each frame and a temporal one on the frames."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torchvision.models import resnet18

from mmaction.registry import MODELS

from mmdfer.errors import DFERError
from mmdfer.models.necks.temporal_transformer import TemporalTransformer, TransformerLayer

STRIDE = 16  # stride of the fourth convolution block, which the spatial transformer follows


@MODELS.register_module()
class FormerDFER(BaseModule):
    """Encode clips with Former-DFER (Zhao and Liu, ACM MM 2021), as a backbone for Recognizer3D.

    The network has 18 M parameters. The convolutional spatial transformer (CS-Former) consists of
    the five convolution blocks of a ResNet-18, with spatial encoders between the fourth and the
    fifth block. The spatial encoders relate the 7 x 7 positions of a feature map of 256 channels.
    CS-Former encodes each frame to a vector of width 512. The temporal transformer (T-Former) reads
    a class token followed by the frame vectors. The output of the class token is the vector of the
    clip.

    From the paper: the two transformers, width 512, 8 heads, 3 temporal encoders, 16 frames of 112
    x 112 pixels.

    From the authors' code (zengqunzhao/Former-DFER): 1 spatial encoder, pre-norm layers, MLPs twice
    as wide as their input, no dropout, no biases for queries, keys and values, the tanh form of
    GELU, position embeddings drawn from N(0, 1).

    Our choice: position embeddings are interpolated for clips of another length than
    ``num_frames``.

    Args:
        input_size: Height and width of the frames in pixels.
        num_frames: Number of learned position embeddings of the temporal transformer.
        spatial_depth: Number of spatial encoders.
        temporal_depth: Number of temporal encoders.
        heads: Number of attention heads in both transformers.
        init_cfg: Passed to mmengine's BaseModule.
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
        """Encode each clip to one vector.

        Args:
            x: Clips (N, 3, T, H, W).

        Returns:
            Vectors of the clips (N, 512, 1, 1, 1), in the shape of a feature map that I3DHead and
            necks read.

        Raises:
            DFERError: If H or W differs from ``input_size``, for which the position embeddings are
                made.
        """
        if x.shape[3:] != (self.input_size, self.input_size):
            raise DFERError(
                f'FormerDFER: frames of H, W = {tuple(x.shape[3:])} do not fit the position '
                f'embeddings, which are for {self.input_size}: set backbone.input_size to the size '
                'of the frames in the pipeline'
            )
        frames = self.encode_faces(x.transpose(1, 2).flatten(0, 1))  # (N * T, 512)
        clips = self.temporal_transformer.encode_frames(frames.unflatten(0, (len(x), -1)))
        return clips[:, :, None, None, None]

    def encode_faces(self, x: Tensor) -> Tensor:
        """Encode frames with CS-Former, (N, 3, H, W) -> (N, 512)."""
        x = self.blocks(self.stem(x))  # (N, 256, h, w)
        places = x.flatten(2).transpose(1, 2)  # (N, h * w, 256), in row-major order
        places = self.spatial_encoder(places + self.position)
        return self.last_block(places.transpose(1, 2).reshape(x.shape)).mean((2, 3))
