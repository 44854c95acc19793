"""Define the base class of the necks, which turn the frame vectors of a clip into one vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdfer.errors import DFERError


class TemporalNeck(BaseModule):
    """Turn the frame vectors of a clip into one vector.

    In CLIPRecognizer the neck reads frame vectors (N, T, D), and it also turns the sentence vectors
    of each class into one class vector. By default this is their mean.

    In MMAction2's own recognizers the neck averages feature maps over space and maps the channels C
    to D. It has no text side there. Recognizer2D passes a list of maps (N, C, T, h, w), and
    Recognizer3D passes one map or a tuple of maps of this shape. The neck returns (N, D, 1, 1, 1)
    to both.

    A subclass implements :meth:`encode_frames`. A subclass that does not take the mean of the
    sentences also implements :meth:`text` and :meth:`text_side`.

    Args:
        dims: D, the width of the vectors.
        in_channels: C, the number of channels of the feature maps, which a linear layer maps to D.
            ``None`` means that the frame vectors already have width D, as those of CLIP have.
        in_index: Index of the feature map that is read if the backbone returns several. The default
            is the last.
        init_cfg: Passed to mmengine's BaseModule.
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
        """Compute one vector for each clip.

        Args:
            x: Frame vectors (N, T, D), a feature map (N, C, T, h, w), or a sequence of feature
                maps.
            data_samples: Ignored. MMAction2 passes the samples of the batch to every neck.

        Returns:
            The vectors, of shape (N, D), or (N, D, 1, 1, 1) for feature maps, and an empty dict,
            since the neck adds no losses.

        Raises:
            DFERError: If the shape of the feature maps is not supported.
        """
        if isinstance(x, Tensor) and x.ndim == 3:
            return self.encode_frames(x), {}
        frames = self._pool_space(x)  # (N, T, D)
        return self.encode_frames(frames)[:, :, None, None, None], {}

    def encode_frames(self, frames: Tensor) -> Tensor:
        """Compute one vector for each clip from its frame vectors, (N, T, D) -> (N, D).

        Each subclass implements this method.
        """
        raise NotImplementedError

    def text(self, sentences: Tensor) -> Tensor:
        """Return the mean of the sentence vectors of each class, (C, S, D) -> (C, D)."""
        return sentences.mean(1)

    def text_side(self) -> list[Tensor]:
        """Return the tensors that :meth:`text` depends on besides its argument, by default none.

        CLIPRecognizer recomputes cached class vectors when one of these tensors changes.
        """
        return []

    def _pool_space(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        """Convert a feature map (N, C, T, h, w), or one of several, to frame vectors (N, T, D)."""
        name = type(self).__name__
        feature = x if isinstance(x, Tensor) else x[self.in_index]
        if feature.ndim != 5:
            raise DFERError(
                f'{name}: feature maps of shape {tuple(feature.shape)} must be (N, C, T, h, w); '
                'with Recognizer2D the backbone needs two or more out_indices, for example '
                'out_indices=(2, 3), because MMAction2 slices a single feature map wrongly'
            )
        frames = feature.mean((3, 4)).transpose(1, 2)  # (N, C, T, h, w) -> (N, T, C)
        if self.projection is not None:
            return self.projection(frames)
        if frames.shape[2] != self.dims:
            raise DFERError(
                f'{name}: the feature maps have {frames.shape[2]} channels, but dims is '
                f'{self.dims}: set in_channels={frames.shape[2]}'
            )
        return frames


def stretch_positions(position: Tensor, length: int) -> Tensor:
    """Interpolate learned position embeddings (learned, D) to another length, (length, D)."""
    if length == len(position):
        return position
    return F.interpolate(position.T[None], size=length, mode='linear', align_corners=True)[0].T
