"""Define what a face detector returns, and the class of detectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

#: Left, top, right and bottom edge of a face in pixels. A box may reach beyond the picture.
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Face:
    """Describe one face that a detector found in a picture.

    Attributes:
        box: Left, top, right and bottom edge in pixels of the picture that the detector was given.
            The box may reach beyond the picture.
        score: Confidence of the detector, 0..1.
        landmarks: Points (x, y) in pixels of the eye, the other eye, the tip of the nose, the
            corner of the mouth and the other corner, each pair from left to right in the picture.
            None if the detector finds no such points.
    """

    box: Box
    score: float
    landmarks: tuple[tuple[float, float], ...] | None = None


class FaceDetector(Protocol):
    """Find the faces of a picture.

    A detector is used by one thread at a time.
    """

    def detect(self, image: np.ndarray) -> list[Face]:
        """Return the faces of a picture, the one with the highest score first.

        Args:
            image: The picture, RGB uint8 (H, W, 3).
        """
        ...


class WholePicture:
    """Take the whole picture for the face, for pictures that were cropped to a face before."""

    def detect(self, image: np.ndarray) -> list[Face]:
        """Return one face with the size of the picture (H, W, 3) and the score 1."""
        height, width = image.shape[:2]
        return [Face((0.0, 0.0, float(width), float(height)), 1.0)]
