"""The interface of backbones that encode each frame of a clip on its own."""

from __future__ import annotations

from abc import ABC, abstractmethod

from mmengine.model import BaseModule
from torch import Tensor


class FrameEncoder(BaseModule, ABC):
    """A backbone whose vector of a frame depends on no other frame.

    While it is frozen, the vectors of a view can be computed once and kept (``EncodedClips``).

    Attributes:
        embed_dims: D, the width of a frame vector.
    """

    embed_dims: int

    @property
    @abstractmethod
    def identity(self) -> dict[str, str]:
        """Return what distinguishes this encoder's vectors from another's, as JSON values."""

    @property
    @abstractmethod
    def trains_frames(self) -> bool:
        """Return whether training changes the frame vectors."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Encode clips (N, 3, T, H, W) to frame vectors (N, T, D)."""
