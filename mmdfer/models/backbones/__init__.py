"""Provide the backbones: the frozen CLIP, and the networks that CLIP methods are compared with."""

from mmdfer.models.backbones.former_dfer import FormerDFER
from mmdfer.models.backbones.frozen_clip import FrozenCLIP
from mmdfer.models.backbones.m3dfel import M3DFEL
from mmdfer.models.backbones.p3d import P3D
from mmdfer.models.backbones.vgg import VGG
from mmdfer.models.backbones.video_resnet import VideoResNet

__all__ = [
    'FormerDFER',
    'FrozenCLIP',
    'M3DFEL',
    'P3D',
    'VGG',
    'VideoResNet',
]
