"""What the necks share: frame vectors in, one vector of the clip out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdfer.errors import DFERError


class TemporalNeck(BaseModule):
    """The frames of a clip become one vector, over a frozen CLIP or MMAction2's own backbones.

    In CLIPRecognizer it takes frame vectors, and a class is the mean of its sentences. As the neck
    of MMAction2's own recognizers it has no text side, pools space and maps C to D: under
    Recognizer2D it takes the list of (N, C, T, h, w), under Recognizer3D a map (N, C, T, h, w) or
    a tuple of them, and returns (N, D, 1, 1, 1).

    A subclass gives :meth:`encode_frames`; one that reads sentences otherwise, :meth:`text` and
    :meth:`text_side` too.

    Args:
        dims: D, the width of the vectors.
        in_channels: C, the channels of the feature maps of another backbone, mapped to D. None
            where the frames are of width D already, as CLIP's vectors are.
        in_index: Which of several feature maps is read.
    """

    def __init__(
        self, dims: int, in_channels: int | None = None, in_index: int = -1, init_cfg: Any = None
    ) -> None:
        super().__init__(init_cfg)
        self.dims, self.in_index = dims, in_index
        self.projection = None if in_channels is None else nn.Linear(in_channels, dims)

    def forward(
        self, x: Tensor | Sequence[Tensor], data_samples: Any = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Makes one vector of each clip's frames.

        Args:
            x: (N, T, D) frame vectors; or (N, C, T, h, w), alone or one of several.
            data_samples: Unused; MMAction2 passes it to every neck.

        Returns:
            (N, D), or (N, D, 1, 1, 1) for feature maps, and a dict of auxiliary losses (none).

        Raises:
            DFERError: Feature maps of an unusable shape.
        """
        if isinstance(x, Tensor) and x.ndim == 3:
            return self.encode_frames(x), {}
        frames = self._frames_of_map(x)  # (N, T, D)
        return self.encode_frames(frames)[:, :, None, None, None], {}

    def encode_frames(self, frames: Tensor) -> Tensor:
        """Makes one vector of each clip's frame vectors, (N, T, D) -> (N, D)."""
        raise NotImplementedError

    def text(self, sentences: Tensor) -> Tensor:
        """Makes one vector of each class's sentences, (C, S, D) -> (C, D): their mean."""
        return sentences.mean(1)

    def text_side(self) -> list[Tensor]:
        """The tensors that :meth:`text` reads: none."""
        return []

    def _frames_of_map(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        """(N, C, T, h, w), alone or one of several, -> (N, T, D)."""
        name = type(self).__name__
        feature = x if isinstance(x, Tensor) else x[self.in_index]
        if feature.ndim != 5:
            raise DFERError(
                f'{name}: feature maps of shape {tuple(feature.shape)}, not (N, C, T, h, w). Under '
                'Recognizer2D the backbone needs two or more out_indices, for instance '
                'out_indices=(2, 3): MMAction2 slices a single map wrongly'
            )
        frames = feature.mean((3, 4)).transpose(1, 2)  # (N, C, T, h, w) -> (N, T, C)
        if self.projection is not None:
            return self.projection(frames)
        if frames.shape[2] != self.dims:
            raise DFERError(f'{name}: set in_channels={frames.shape[2]}, the channels of the maps')
        return frames


def stretch_positions(position: Tensor, length: int) -> Tensor:
    """Learned positions (learned, D) for a sequence of another length, -> (length, D)."""
    if length == len(position):
        return position
    return F.interpolate(position.T[None], size=length, mode='linear', align_corners=True)[0].T
