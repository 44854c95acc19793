"""Define what finds landmarks and parts of a face, and draw parts from landmarks."""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np

from mmdfer.faces.face import Box
from mmdfer.levels import PARTS

_SHIFT = 4  # fractional bits of the coordinates for OpenCV
_BROW = 0.08  # height of a brow, as a fraction of the distance of the outer corners of the eyes
# Height of the forehead, as a fraction of the distance from the brows to the base of the nose.
_FOREHEAD = 0.75
_WING = 0.12  # how far the wings of the nose reach beyond its landmarks, as a fraction of its width


class LandmarkFinder(Protocol):
    """Find the landmarks of a face. A finder is used by one thread at a time."""

    def find(self, image: np.ndarray, box: Box) -> np.ndarray | None:
        """Find the landmarks of the face in a box.

        Args:
            image: The picture, RGB uint8 (H, W, 3).
            box: The face in pixels of the picture. The box may reach beyond the picture.

        Returns:
            The landmarks of iBUG 300-W, float32 (68, 2), as x and y in pixels, where (0, 0) is the
            centre of the upper left pixel; or None if there is no face.
        """
        ...


class PartParser(Protocol):
    """Find the parts of a face. A parser is used by one thread at a time."""

    def parse(self, image: np.ndarray, box: Box, landmarks: np.ndarray) -> np.ndarray:
        """Return the part at each pixel, uint8 (H, W), as indices into ``mmdfer.levels.PARTS``.

        Args:
            image: The picture, RGB uint8 (H, W, 3).
            box: The face in pixels of the picture.
            landmarks: The landmarks of the face in pixels, float32 (68, 2).
        """
        ...


class LandmarkPolygons:
    """Draw the parts of a face as filled polygons of its landmarks.

    There are skin, nose, brows, eyes, lips and mouth. Hair, neck, clothes and ears have no
    landmarks and remain background. The landmarks end at the brows. The skin above is half an
    ellipse, whose height above the brows is 3/4 of the distance from the brows to the base of the
    nose. All this is our choice.
    """

    def parse(self, image: np.ndarray, box: Box, landmarks: np.ndarray) -> np.ndarray:
        """Return the part at each pixel, uint8 (H, W); only the size of the picture is used."""
        p = landmarks.astype(np.float64)
        mask = np.zeros(image.shape[:2], np.uint8)
        wing = _WING * (p[35] - p[31])
        nose = np.vstack([p[27], p[31] - wing, p[32:35], p[35] + wing])
        lower = [*range(54, 60), 48, 60, 67, 66, 65, 64]
        _fill(mask, 'skin', np.vstack([p[:17], _forehead(p)]))
        _fill(mask, 'nose', nose)
        for brow in (p[17:22], p[22:27]):
            half = _up(p) * _BROW / 2 * np.linalg.norm(p[45] - p[36])
            _fill(mask, 'brow', np.vstack([brow + half, brow[::-1] - half]))
        _fill(mask, 'eye', p[36:42])
        _fill(mask, 'eye', p[42:48])
        _fill(mask, 'upper lip', p[[*range(48, 55), 64, 63, 62, 61, 60]])
        _fill(mask, 'lower lip', p[lower])
        if _is_open(p):
            _fill(mask, 'mouth', p[60:68])
        return mask


def _up(p: np.ndarray) -> np.ndarray:
    """Return the direction (2,) of length 1 from the base of the nose (33) to its root (27)."""
    direction = p[27] - p[33]
    return direction / max(float(np.linalg.norm(direction)), 1e-6)


def _forehead(p: np.ndarray) -> np.ndarray:
    """Return points (9, 2) of the upper edge of the skin, from the right of the picture."""
    centre, half = (p[0] + p[16]) / 2, (p[16] - p[0]) / 2
    brows = p[17:27].mean(0)
    top = brows + _FOREHEAD * (brows - p[33])
    height = _up(p) * max(0.0, float((top - centre) @ _up(p)))
    angles = np.linspace(0, np.pi, 11)[1:-1, None]
    return centre + np.cos(angles) * half + np.sin(angles) * height


def _is_open(p: np.ndarray) -> bool:
    """Return whether the inner contours of the lips are more than one pixel apart."""
    return float(np.linalg.norm(p[61:64] - p[[67, 66, 65]], axis=1).max()) > 1


def _fill(mask: np.ndarray, part: str, polygon: np.ndarray) -> None:
    """Fill a polygon (points, 2) in pixels with a part."""
    points = np.rint(polygon * 2**_SHIFT).astype(np.int32)
    cv2.fillPoly(mask, [points], PARTS.index(part), cv2.LINE_8, _SHIFT)
