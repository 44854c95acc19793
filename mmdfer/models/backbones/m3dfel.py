"""M3DFEL: a clip is a bag of short 3D instances, whose label is the bag's alone."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn
from torchvision.models.video import r3d_18

from mmaction.registry import MODELS

from mmdfer.errors import DFERError
from mmdfer.models.backbones.video_resnet import load_video_resnet


class DMIN(nn.Module):
    """Dynamic multi-instance normalisation (M3DFEL) over (N, instances, C).

    Mean and variance are mixtures of those of each channel over the instances of a bag, as
    InstanceNorm has them, and of those of the whole bag. The shares, one pair for the means and one
    for the variances, are learned and start equal.

    From the authors' code (Tencent/TFace): the axes; a channel's variance is divided by the number
    of instances less one, and the bag's is the mean over the channels of variance plus squared
    mean, less the bag's squared mean.

    Args:
        dims: C.
        eps: Added to the variance.
    """

    def __init__(self, dims: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight, self.bias = nn.Parameter(torch.ones(dims)), nn.Parameter(torch.zeros(dims))
        self.mean_weight = nn.Parameter(torch.ones(2))  # of the channel and of the bag,
        self.var_weight = nn.Parameter(torch.ones(2))  # before the softmax

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, instances, C), two instances or more, to the same shape."""
        var, mean = torch.var_mean(x, 1, keepdim=True)  # (N, 1, C)
        bag_mean = mean.mean(2, keepdim=True)  # (N, 1, 1)
        bag_var = (var + mean**2).mean(2, keepdim=True) - bag_mean**2
        mean_share, var_share = self.mean_weight.softmax(0), self.var_weight.softmax(0)
        mean = mean_share[0] * mean + mean_share[1] * bag_mean
        var = var_share[0] * var + var_share[1] * bag_var
        return (x - mean) * (var + self.eps).rsqrt() * self.weight + self.bias


class DLIAM(nn.Module):
    """Dynamic long-term instance aggregation (M3DFEL): a bag becomes one vector.

    A BiLSTM relates the instances in their order. Multi-head self-attention over its outputs,
    normalised by DMIN, gates these outputs; a convolution with the instances as channels sums them
    up.

    Args:
        instances: In a bag.
        dims: Of an instance. The bag has twice as many, one half of each direction.
        heads: Of the attention.
    """

    def __init__(self, instances: int, dims: int = 512, heads: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.lstm = nn.LSTM(dims, dims, num_layers=2, batch_first=True, bidirectional=True)
        self.qkv = nn.Linear(2 * dims, 6 * dims, bias=False)
        self.norm = DMIN(2 * dims)
        self.aggregate = nn.Conv1d(instances, 1, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, instances, dims) -> (N, 2 dims)."""
        x, _ = self.lstm(x)  # (N, instances, 2 dims)
        x = x * self.norm(self.attend(x)).sigmoid()
        return self.aggregate(x)[:, 0]

    def attend(self, x: Tensor) -> Tensor:
        """Self-attention without a projection of its output, (N, instances, C) -> the same."""
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)  # (N, heads, instances, d)
        return mixed.transpose(1, 2).flatten(2)


@MODELS.register_module()
class M3DFEL(BaseModule):
    """M3DFEL (Wang et al., CVPR 2023): a backbone for Recognizer3D.

    T frames are cut into instances of 4, each read by an R3D-18, torchvision's; DLIAM makes one
    vector of them.

    From the paper: R3D-18 with Kinetics-400's weights, 4 instances of 4 of 16 frames at 112, BiLSTM
    of 2 layers, DMIN. From the authors' code (Tencent/TFace): 8 heads, queries, keys and values
    without biases, no projection behind the attention, the kernel of 3 of the aggregation.

    Args:
        instances: In a bag.
        instance_length: Frames of each.
        pretrained: Weights of R3D-18, as for VideoResNet.
        init_cfg: As for mmengine's BaseModule.
    """

    def __init__(
        self,
        instances: int = 4,
        instance_length: int = 4,
        pretrained: str | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        self.instances, self.instance_length = instances, instance_length
        self.pretrained = pretrained
        self.r3d = r3d_18()
        self.r3d.fc = nn.Identity()
        self.dliam = DLIAM(instances)

    def init_weights(self) -> None:
        """Load R3D-18's weights where some are given.

        Raises:
            DFERError: As ``load_video_resnet``.
        """
        super().init_weights()
        if self.pretrained is not None:
            load_video_resnet(self.r3d, 'r3d_18', self.pretrained)

    def forward(self, x: Tensor) -> Tensor:
        """Makes one vector of each clip.

        Args:
            x: (N, 3, T, H, W), T = instances * instance_length.

        Returns:
            (N, 1024, 1, 1, 1), as I3DHead and necks take it.

        Raises:
            DFERError: Another T.
        """
        frames = self.instances * self.instance_length
        if x.shape[2] != frames:
            raise DFERError(
                f'M3DFEL: clips of {x.shape[2]} frames; {self.instances} instances of '
                f"{self.instance_length} are {frames}: change instances, or the pipeline's clip_len"
            )
        x = x.unflatten(2, (self.instances, self.instance_length))  # (N, 3, instances, t, H, W)
        features = self.r3d(x.transpose(1, 2).flatten(0, 1))  # (N * instances, 512)
        return self.dliam(features.view(len(x), self.instances, -1))[:, :, None, None, None]
