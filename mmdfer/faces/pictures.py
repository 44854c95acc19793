"""Crop faces from pictures, and reduce pictures for a detector."""

from __future__ import annotations

import math

import cv2
import numpy as np

from mmdfer.faces.face import Box


def crop_face(image: np.ndarray, box: Box, margin: float, size: int | None = None) -> np.ndarray:
    """Crop the square around a face.

    The square has the centre of the box. Its side is that of the longer side of the box, enlarged
    by the margin at both ends. Where the square leaves the picture, the outermost pixels of the
    picture are repeated.

    Args:
        image: The picture, RGB uint8 (H, W, 3).
        box: The face in pixels of the picture.
        margin: Width of the border around the box, as a fraction of the longer side of the box.
            With 0.1, the square is 1.2 times as wide as the longer side.
        size: Side in pixels to which the square is resized. By default it is not resized.

    Returns:
        The square, RGB uint8 (side, side, 3) or (size, size, 3).
    """
    x1, y1, x2, y2 = box
    height, width = image.shape[:2]
    side = max(1, round(max(x2 - x1, y2 - y1) * (1 + 2 * margin)))
    left = round((x1 + x2 - side) / 2)
    top = round((y1 + y2 - side) / 2)
    # Indices beyond the picture are replaced by the nearest index, also far away from it.
    columns = np.clip(np.arange(left, left + side), 0, width - 1)
    rows = np.clip(np.arange(top, top + side), 0, height - 1)
    inside = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    square = inside[(rows - rows[0])[:, None], columns - columns[0]]
    return square if size is None else _resize(square, size, size)


def shrink(image: np.ndarray, longest: int) -> tuple[np.ndarray, float]:
    """Reduce a picture so that its longer side has at most the given number of pixels.

    Args:
        image: The picture (H, W, 3).
        longest: Length of the longer side in pixels. A smaller picture is not enlarged.

    Returns:
        The reduced picture, and the factor by which its lengths were multiplied, at most 1.
    """
    height, width = image.shape[:2]
    factor = min(1.0, longest / max(height, width))
    if factor == 1.0:
        return image, factor
    small = _resize(image, max(1, round(width * factor)), max(1, round(height * factor)))
    return small, factor


def _resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize a picture, with averaging where it becomes smaller."""
    smaller = width * height < math.prod(image.shape[:2])
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)
