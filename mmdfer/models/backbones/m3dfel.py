"""Provide M3DFEL: multi-instance learning, where a clip is a bag of short 3D instances."""

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
    """Normalise the instances of a bag by the dynamic multi-instance normalisation of M3DFEL.

    The mean and the variance are weighted sums of two statistics: those of each channel over the
    instances of a bag, as in InstanceNorm, and those of all values of the bag. The two weights of
    the means and the two weights of the variances are learned and start equal.

    From the authors' code (Tencent/TFace): the axes of both statistics. The variance of a channel
    is divided by the number of instances minus one. The variance of the bag is the mean over the
    channels of (variance + squared mean), minus the squared mean of the bag.

    Args:
        dims: C, the number of channels.
        eps: Constant that is added to the variance.
    """

    def __init__(self, dims: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight, self.bias = nn.Parameter(torch.ones(dims)), nn.Parameter(torch.zeros(dims))
        # The logits of the weights of the channel statistic and of the bag statistic.
        self.mean_weight = nn.Parameter(torch.ones(2))
        self.var_weight = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise bags (N, instances, C) of at least two instances, to the same shape."""
        var, mean = torch.var_mean(x, 1, keepdim=True)  # (N, 1, C)
        bag_mean = mean.mean(2, keepdim=True)  # (N, 1, 1)
        bag_var = (var + mean**2).mean(2, keepdim=True) - bag_mean**2
        mean_share, var_share = self.mean_weight.softmax(0), self.var_weight.softmax(0)
        mean = mean_share[0] * mean + mean_share[1] * bag_mean
        var = var_share[0] * var + var_share[1] * bag_var
        return (x - mean) * (var + self.eps).rsqrt() * self.weight + self.bias


class DLIAM(nn.Module):
    """Aggregate the instances of a bag to one vector (DLIAM of M3DFEL).

    DLIAM is the dynamic long-term instance aggregation module. A bidirectional LSTM relates the
    instances in their order. Multi-head self-attention over the outputs of the LSTM, normalised by
    DMIN and passed through a sigmoid, gates these outputs. A convolution that has the instances as
    input channels sums them to one vector.

    Args:
        instances: Number of instances in a bag.
        dims: Width of the vector of an instance. The vector of the bag is twice as wide, with one
            half for each direction of the LSTM.
        heads: Number of attention heads.
    """

    def __init__(self, instances: int, dims: int = 512, heads: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.lstm = nn.LSTM(dims, dims, num_layers=2, batch_first=True, bidirectional=True)
        self.qkv = nn.Linear(2 * dims, 6 * dims, bias=False)
        self.norm = DMIN(2 * dims)
        self.aggregate = nn.Conv1d(instances, 1, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Aggregate bags of instance vectors (N, instances, dims) to vectors (N, 2 * dims)."""
        x, _ = self.lstm(x)  # (N, instances, 2 dims)
        x = x * self.norm(self.attend(x)).sigmoid()
        return self.aggregate(x)[:, 0]

    def attend(self, x: Tensor) -> Tensor:
        """Apply self-attention without an output projection, keeping (N, instances, C)."""
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)  # (N, heads, instances, d)
        return mixed.transpose(1, 2).flatten(2)


@MODELS.register_module()
class M3DFEL(BaseModule):
    """Encode clips with M3DFEL (Wang et al., CVPR 2023), as a backbone for Recognizer3D.

    A clip is cut into instances of 4 frames. torchvision's R3D-18 encodes each instance to a
    vector, and DLIAM aggregates the vectors of the instances to the vector of the clip.

    From the paper: R3D-18 with weights pretrained on Kinetics-400, 4 instances of 4 frames from 16
    frames of 112 x 112 pixels, a BiLSTM of 2 layers, DMIN.

    From the authors' code (Tencent/TFace): 8 heads, no biases for queries, keys and values, no
    projection after attention, a kernel of size 3 in the aggregation.

    Args:
        instances: Number of instances in a clip.
        instance_length: Number of frames in an instance.
        pretrained: Weights of R3D-18, as for VideoResNet. ``None`` trains from scratch.
        init_cfg: Passed to mmengine's BaseModule.
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
        """Load the pretrained weights of R3D-18 if ``pretrained`` is given.

        Raises:
            DFERError: If the weights cannot be loaded; see ``load_video_resnet``.
        """
        super().init_weights()
        if self.pretrained is not None:
            load_video_resnet(self.r3d, 'r3d_18', self.pretrained)

    def forward(self, x: Tensor) -> Tensor:
        """Encode each clip to one vector.

        Args:
            x: Clips (N, 3, T, H, W) with T = instances * instance_length.

        Returns:
            Vectors of the clips (N, 1024, 1, 1, 1), in the shape of a feature map that I3DHead and
            necks read.

        Raises:
            DFERError: If T is another number of frames.
        """
        frames = self.instances * self.instance_length
        if x.shape[2] != frames:
            raise DFERError(
                f'M3DFEL: clips have {x.shape[2]} frames, but {self.instances} instances of '
                f'{self.instance_length} frames need {frames}: set clip_len in the pipeline to '
                f'{frames}, or change instances'
            )
        x = x.unflatten(2, (self.instances, self.instance_length))  # (N, 3, instances, t, H, W)
        features = self.r3d(x.transpose(1, 2).flatten(0, 1))  # (N * instances, 512)
        return self.dliam(features.view(len(x), self.instances, -1))[:, :, None, None, None]
