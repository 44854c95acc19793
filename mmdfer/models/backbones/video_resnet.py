"""Provide torchvision's video ResNets and their weights as backbones of Recognizer3D."""

from __future__ import annotations

import os
from pickle import UnpicklingError
from typing import Any
from urllib.error import URLError

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights

from mmaction.registry import MODELS

from mmdfer.errors import DFERError

TORCHVISION = 'torchvision://'
ARCHS = ('r3d_18', 'mc3_18', 'r2plus1d_18')


@MODELS.register_module()
class VideoResNet(BaseModule):
    """Encode clips with torchvision's video ResNet of 18 layers (Tran et al., CVPR 2018).

    MMAction2 has similar networks, but the weights that torchvision trained on Kinetics-400 do not
    fit them. MMAction2's ResNet3d of depth 18 pools after the stem and after the first stage, and
    its ResNet2Plus1d has other widths between the two parts of a factorised convolution.

    The DFER papers do not say which weights their 3D ResNet18 and R(2+1)D-18 start from. Our
    choice, in the configs: torchvision's weights of Kinetics-400.

    Args:
        arch: ``'r3d_18'`` (3D convolutions), ``'mc3_18'`` (3D convolutions only in the first
            layers) or ``'r2plus1d_18'`` (factorised convolutions).
        pretrained: ``'torchvision://r3d_18'`` (with the name of ``arch``) downloads torchvision's
            weights of Kinetics-400 when training begins. A path loads such a file. ``None`` trains
            from scratch.
        init_cfg: Passed to mmengine's BaseModule.

    Raises:
        DFERError: If the architecture is not one of these three.
    """

    def __init__(
        self, arch: str = 'r3d_18', pretrained: str | None = None, init_cfg: Any = None
    ) -> None:
        super().__init__(init_cfg)
        if arch not in ARCHS:
            raise DFERError(f'VideoResNet: arch must be one of {", ".join(ARCHS)}, got {arch!r}')
        self.arch, self.pretrained = arch, pretrained
        self.net = get_model(arch, weights=None)
        self.net.fc = nn.Identity()

    def init_weights(self) -> None:
        """Load the pretrained weights, except those of the classifier.

        Raises:
            DFERError: If the weights cannot be loaded; see ``load_video_resnet``.
        """
        super().init_weights()
        if self.pretrained is not None:
            load_video_resnet(self.net, self.arch, self.pretrained)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the last feature map, (N, 3, T, H, W) -> (N, 512, T / 8, H / 16, W / 16)."""
        for stage in (self.net.stem, *self.stages()):
            x = stage(x)
        return x

    def stages(self) -> tuple[nn.Module, ...]:
        """Return the four stages after the stem, in order."""
        return self.net.layer1, self.net.layer2, self.net.layer3, self.net.layer4


def load_video_resnet(net: nn.Module, arch: str, pretrained: str) -> None:
    """Load pretrained weights into a video ResNet, except those of the classifier.

    No code from the file is executed.

    Args:
        net: torchvision's network. Its classifier ``fc`` is not changed.
        arch: Name of the architecture in torchvision.
        pretrained: ``'torchvision://'`` followed by ``arch``, or the path of torchvision's file.

    Raises:
        DFERError: If the file does not exist, does not contain the weights of this architecture, or
            cannot be downloaded.
    """
    weights = get_model_weights(arch).DEFAULT
    if pretrained.startswith(TORCHVISION):
        if pretrained != TORCHVISION + arch:
            raise DFERError(
                f'pretrained={pretrained!r}: these are not weights of {arch}; set pretrained to '
                f'{TORCHVISION + arch!r}, the path of a file, or None to train from scratch'
            )
        try:
            state = weights.get_state_dict(check_hash=True)
        except (URLError, OSError) as error:
            raise DFERError(
                f'pretrained={pretrained!r}: {weights.url} cannot be downloaded ({error}); '
                'download it on another machine and set pretrained to its path, or set pretrained '
                'to None to train from scratch'
            ) from error
    elif os.path.isfile(pretrained):
        state = _read(pretrained, arch, weights.url)
    else:
        raise DFERError(
            f'pretrained={pretrained!r} is not a file; download {weights.url}, or set pretrained '
            f'to {TORCHVISION + arch!r}, or to None to train from scratch'
        )
    try:
        net.load_state_dict({k: v for k, v in state.items() if not k.startswith('fc.')})
    except (RuntimeError, AttributeError) as error:
        reason = ' '.join(str(error).split())[:160]
        raise DFERError(
            f"{pretrained}: the file does not contain the weights of torchvision's {arch} "
            f'({reason}); download {weights.url}'
        ) from error


def _read(path: str, arch: str, url: str) -> dict[str, Tensor]:
    """Read a state dict from a file without executing code from the file."""
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
        if isinstance(state, dict):
            return state
        reason = f'it contains a {type(state).__name__}'
    except (UnpicklingError, RuntimeError, EOFError) as error:
        reason = ' '.join(str(error).split())[:160]
    raise DFERError(
        f"{path}: the file does not contain the weights of torchvision's {arch} ({reason}); "
        f'download {url}'
    )
