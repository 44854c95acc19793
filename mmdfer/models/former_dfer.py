"""Former-DFER: faces read patch by patch, then frame by frame, each by a transformer."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torchvision.models import resnet18

from mmaction.registry import MODELS

from mmdfer.errors import DFERError

STRIDE = 16  # of the fourth convolution block, where the spatial transformer stands


def encoder(dims: int, depth: int, heads: int) -> nn.Sequential:
    """``depth`` pre-norm encoder layers with MLP 2x, GELU and no dropout, over (N, L, dims)."""
    return nn.Sequential(
        *(
            nn.TransformerEncoderLayer(
                dims, heads, 2 * dims, 0.0, 'gelu', batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
    )


@MODELS.register_module()
class FormerDFER(BaseModule):
    """Former-DFER (Zhao and Liu, ACM MM 2021): a backbone for Recognizer3D, 18 M parameters.

    The convolutional spatial transformer (CS-Former, Sec. 3.2) is five convolution blocks, those of
    a ResNet-18, with spatial encoders between the fourth and the fifth, over the 7 x 7 places of
    256 channels. It makes a vector of 512 of each frame. The temporal transformer (T-Former,
    Sec. 3.3) reads these frames behind a class token, whose output is the clip's vector.

    From the paper: the parts, 512 wide, 8 heads, 3 temporal encoders, 16 frames at 112. From the
    authors' code: 1 spatial encoder, MLP 2x, no dropout, position embeddings drawn from N(0, 1).
    Ours: torch's encoder layers, whose queries, keys and values have biases.

    Args:
        input_size: H and W in pixels.
        num_frames: T.
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
        self.input_size, self.num_frames = input_size, num_frames
        net = resnet18()
        self.stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
        self.blocks = nn.Sequential(net.layer1, net.layer2, net.layer3)
        self.last_block = net.layer4
        side = -(-input_size // STRIDE)
        self.spatial_position = nn.Parameter(torch.randn(side * side, 256))
        self.spatial_encoder = encoder(256, spatial_depth, heads)
        self.class_token = nn.Parameter(torch.randn(1, 512))
        self.temporal_position = nn.Parameter(torch.randn(num_frames + 1, 512))
        self.temporal_encoder = encoder(512, temporal_depth, heads)

    def forward(self, x: Tensor) -> Tensor:
        """Makes one vector of each clip.

        Args:
            x: (N, 3, T, H, W).

        Returns:
            (N, 512, 1, 1, 1), as I3DHead and necks take it.

        Raises:
            DFERError: T, H or W are not those that the position embeddings were made for.
        """
        size = x.shape[2:]
        if size != (self.num_frames, self.input_size, self.input_size):
            raise DFERError(
                f'FormerDFER: clips of T, H, W = {tuple(size)}, built for num_frames='
                f'{self.num_frames}, input_size={self.input_size}: its position embeddings are of '
                'one size; set both to those of the pipeline'
            )
        frames = self.encode_frames(x.transpose(1, 2).flatten(0, 1))  # (N * T, 512)
        frames = frames.view(len(x), self.num_frames, -1)
        return self.encode_clip(frames)[:, :, None, None, None]

    def encode_frames(self, x: Tensor) -> Tensor:
        """CS-Former: (N, 3, H, W) -> (N, 512)."""
        x = self.blocks(self.stem(x))  # (N, 256, h, w)
        places = x.flatten(2).transpose(1, 2)  # (N, h * w, 256), row by row
        places = self.spatial_encoder(places + self.spatial_position)
        return self.last_block(places.transpose(1, 2).reshape(x.shape)).mean((2, 3))

    def encode_clip(self, frames: Tensor) -> Tensor:
        """T-Former: (N, T, 512) -> (N, 512), read at the class token."""
        tokens = self.class_token.expand(len(frames), 1, -1)
        x = torch.cat([tokens, frames], dim=1) + self.temporal_position  # (N, T + 1, 512)
        return self.temporal_encoder(x)[:, 0]
