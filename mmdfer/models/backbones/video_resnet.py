"""torchvision's video ResNets as backbones of MMAction2's Recognizer3D, and their weights."""

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
    """A video ResNet of 18 layers (Tran et al., CVPR 2018), torchvision's.

    MMAction2's ResNet3d of depth 18 pools after the stem and after the first stage, and its
    ResNet2Plus1d has other widths between the parts of a convolution, so that weights trained on
    Kinetics do not fit them.

    Args:
        arch: ``'r3d_18'``, ``'mc3_18'`` or ``'r2plus1d_18'``.
        pretrained: ``'torchvision://r3d_18'`` downloads torchvision's weights of Kinetics-400
            when training begins; or the path of such a file; None trains from scratch.
        init_cfg: As for mmengine's BaseModule.

    Raises:
        DFERError: Another architecture, or weights of another one.
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
        """Load the pretrained weights, but for the classifier.

        Raises:
            DFERError: There is no such file, it holds something else, or it cannot be downloaded.
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
        """Return the four stages behind the stem, in order."""
        return self.net.layer1, self.net.layer2, self.net.layer3, self.net.layer4


def load_video_resnet(net: nn.Module, arch: str, pretrained: str) -> None:
    """Load weights of a video ResNet, but for its classifier; nothing in the file is executed.

    Args:
        net: torchvision's net, whose ``fc`` is left as it is.
        arch: Its name in torchvision.
        pretrained: ``torchvision://`` and its name, or the path of torchvision's file.

    Raises:
        DFERError: There is no such file, it holds something else, or it cannot be downloaded.
    """
    weights = get_model_weights(arch).DEFAULT
    if pretrained.startswith(TORCHVISION):
        if pretrained != TORCHVISION + arch:
            raise DFERError(
                f'pretrained={pretrained!r}: these are not weights of {arch}; give '
                f'{TORCHVISION + arch!r}, the path of a file, or None to train from scratch'
            )
        try:
            state = weights.get_state_dict(check_hash=True)
        except (URLError, OSError) as error:
            raise DFERError(
                f'pretrained={pretrained!r}: {weights.url} cannot be downloaded ({error}); fetch '
                'it elsewhere and give its path, or None to train from scratch'
            ) from error
    elif os.path.isfile(pretrained):
        state = _read(pretrained, arch, weights.url)
    else:
        raise DFERError(
            f'pretrained={pretrained!r} is not a file; fetch {weights.url}, or give '
            f'{TORCHVISION + arch!r}, or None to train from scratch'
        )
    try:
        net.load_state_dict({k: v for k, v in state.items() if not k.startswith('fc.')})
    except (RuntimeError, AttributeError) as error:
        reason = ' '.join(str(error).split())[:160]
        raise DFERError(
            f"{pretrained}: not the weights of torchvision's {arch} ({reason}); fetch {weights.url}"
        ) from error


def _read(path: str, arch: str, url: str) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
        if isinstance(state, dict):
            return state
        reason = f'it holds a {type(state).__name__}'
    except (UnpicklingError, RuntimeError, EOFError) as error:
        reason = ' '.join(str(error).split())[:160]
    raise DFERError(f"{path}: not the weights of torchvision's {arch} ({reason}); fetch {url}")
