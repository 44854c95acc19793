"""Provide P3D: a ResNet with 3 x 3 x 3 convolutions factorised into space and time."""

from __future__ import annotations

from itertools import cycle
from typing import Any

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmaction.registry import MODELS

from mmdfer.errors import DFERError

BLOCKS = {63: (3, 4, 6, 3), 131: (3, 4, 23, 3), 199: (3, 8, 36, 3)}  # layers -> blocks per stage
HALVINGS = 4  # The time axis is halved after the stem, res2, res3 and res4.


def conv(
    in_channels: int, out_channels: int, time: int, space: int, stride: int = 1, relu: bool = True
) -> ConvModule:
    """Build a 3D convolution of time x space x space with BatchNorm, which strides only in space.

    Args:
        in_channels: Number of input channels.
        out_channels: Number of output channels.
        time: Kernel size in time.
        space: Kernel size in height and width.
        stride: Stride in height and width.
        relu: Whether a ReLU follows BatchNorm.
    """
    return ConvModule(
        in_channels,
        out_channels,
        kernel_size=(time, space, space),
        stride=(1, stride, stride),
        padding=(time // 2, space // 2, space // 2),
        conv_cfg=dict(type='Conv3d'),
        norm_cfg=dict(type='BN3d'),
        act_cfg=dict(type='ReLU') if relu else None,
    )


class P3DBlock(nn.Module):
    """Apply a bottleneck block of P3D with S = 1 x 3 x 3 and T = 3 x 1 x 1 convolutions.

    The middle of the block computes T(S(x)) for kind A, S(x) + T(x) for kind B, and S(x) + T(S(x))
    for kind C. For kind ``2D`` it computes only S(x).

    Args:
        in_channels: Number of input channels.
        width: Number of channels in the middle of the block. The output has four times as many.
        kind: ``'A'``, ``'B'``, ``'C'`` or ``'2D'``.
        stride: Stride in height and width.
    """

    def __init__(self, in_channels: int, width: int, kind: str, stride: int = 1) -> None:
        super().__init__()
        self.kind = kind
        self.reduce = conv(in_channels, width, 1, 1, stride)
        self.spatial = conv(width, width, 1, 3)
        if kind != '2D':
            self.temporal = conv(width, width, 3, 1)
        self.expand = conv(width, 4 * width, 1, 1, relu=False)
        same = stride == 1 and in_channels == 4 * width
        self.shortcut = (
            nn.Identity() if same else conv(in_channels, 4 * width, 1, 1, stride, relu=False)
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block, (N, in_channels, T, H, W) -> (N, 4 width, T, H / stride, W / stride)."""
        return self.relu(self.expand(self.middle(self.reduce(x))) + self.shortcut(x))

    def middle(self, x: Tensor) -> Tensor:
        """Convolve in space and time as the kind of the block says, keeping (N, width, T, h, w)."""
        spatial = self.spatial(x)
        if self.kind == '2D':
            return spatial
        if self.kind == 'A':
            return self.temporal(spatial)
        return spatial + self.temporal(x if self.kind == 'B' else spatial)


@MODELS.register_module()
class P3D(BaseModule):
    """Encode clips with a Pseudo-3D ResNet (Qiu, Yao and Mei, ICCV 2017), for Recognizer3D.

    The blocks of res2 to res4 are P3D-A, P3D-B, P3D-C, P3D-A, ... in an order that continues
    through the stages. The blocks of res5 are two-dimensional. Time is halved after the stem, res2,
    res3 and res4, so that 16 frames become one.

    From the paper: the blocks and their order, 16 frames.

    From code that follows the authors' network file: where time is halved, the two-dimensional
    res5, the stride in the first convolution of a block.

    Our choice: 63 layers (built on ResNet-50), the smallest depth. The tables of the DFER papers do
    not say which depth was trained.

    Args:
        depth: Number of layers: 63, 131 or 199, built on ResNet-50, ResNet-101 or ResNet-152.
        base_width: Number of channels in the middle of the blocks of res2. The paper has 64.
        init_cfg: Passed to mmengine's BaseModule.

    Raises:
        DFERError: If the depth is not 63, 131 or 199.
    """

    def __init__(self, depth: int = 63, base_width: int = 64, init_cfg: Any = None) -> None:
        super().__init__(init_cfg)
        if depth not in BLOCKS:
            raise DFERError(f'P3D: depth must be one of {", ".join(map(str, BLOCKS))}, got {depth}')
        self.stem = nn.Sequential(
            conv(3, base_width, 1, 7, stride=2),
            nn.MaxPool3d((2, 3, 3), stride=2, padding=(0, 1, 1)),
        )
        self.halve = nn.MaxPool3d((2, 1, 1))
        kinds, channels, stages = cycle('ABC'), base_width, []
        for number, count in enumerate(BLOCKS[depth]):
            width, blocks = base_width * 2**number, []
            for index in range(count):
                kind = '2D' if number == 3 else next(kinds)
                stride = 2 if number > 0 and index == 0 else 1
                blocks.append(P3DBlock(channels, width, kind, stride))
                channels = 4 * width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the feature map of the last stage.

        Args:
            x: Clips (N, 3, T, H, W) with T of at least 16.

        Returns:
            Feature maps (N, 32 * base_width, T // 16, H / 32, W / 32).

        Raises:
            DFERError: If the clips have fewer than 16 frames.
        """
        if x.shape[2] < 2**HALVINGS:
            raise DFERError(
                f'P3D: clips of {x.shape[2]} frames are too short, since time is halved {HALVINGS} '
                f'times: set clip_len to {2**HALVINGS} or more'
            )
        x = self.stem(x)
        for stage in self.stages[:-1]:
            x = self.halve(stage(x))
        return self.stages[-1](x)
