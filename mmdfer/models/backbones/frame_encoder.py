"""Define the interface of backbones that encode the frames of a clip to vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod

from mmengine.model import BaseModule
from torch import Tensor


class FrameEncoder(BaseModule, ABC):
    """Define the interface of a backbone that encodes the frames of a clip to frame vectors.

    While such a backbone is frozen and encodes each frame independently of the other frames, the
    frame vectors of a view can be computed once and reused in every epoch. The dataset wrapper
    EncodedClips does this.

    Attributes:
        embed_dims: D, the width of a frame vector.
    """

    embed_dims: int

    @property
    @abstractmethod
    def identity(self) -> dict[str, str]:
        """Return JSON values that distinguish the frame vectors of this encoder from another's.

        The values typically are the architecture and a digest of the weights.
        """

    @property
    @abstractmethod
    def trains_frames(self) -> bool:
        """Return whether training changes the weights that the frame vectors are computed with."""

    @property
    def mixes_frames(self) -> bool:
        """Return whether the vector of a frame depends on the other frames of its clip.

        By default it does not. If it does, frames are only encoded together with their clip: they
        have no features of their own, and a film is encoded window by window.
        """
        return False

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Encode clips of shape (N, 3, T, H, W) to frame vectors of shape (N, T, D)."""
