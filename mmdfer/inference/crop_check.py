"""Tell pictures that show one cropped face from whole scenes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from tqdm import tqdm

from mmdfer.datasets.transforms.frame_reader import NO_PICTURE, read_picture
from mmdfer.faces import FaceDetector

_LEAST = 0.5  # of a crop's side that the face covers; 0.63 with a margin of 0.3
_MOST_OBLONG = 1.25


def count_face_crops(pictures: Iterable[str], detector: FaceDetector) -> int:
    """Return how many pictures are crops of a face. A progress bar is shown.

    A picture is a crop if it is about square, and if a face covers at least half of its side. A
    picture that cannot be read is not a crop.

    Args:
        pictures: Paths of the pictures.
        detector: The face detector.
    """
    return sum(_is_crop(path, detector) for path in tqdm(pictures, 'Looking for faces'))


def _is_crop(path: str, detector: FaceDetector) -> bool:
    """Return whether a picture file is the crop of a face."""
    try:
        picture = read_picture(path)
    except NO_PICTURE:
        return False
    sides = picture.shape[:2]
    if max(sides) > _MOST_OBLONG * min(sides):
        return False
    return _largest_face(picture, detector) >= _LEAST * min(sides)


def _largest_face(picture: np.ndarray, detector: FaceDetector) -> float:
    """Return the longer side in pixels of the largest face, or 0 without a face.

    A border is added for the detector, which misses faces that touch the edge.
    """
    border = min(picture.shape[:2]) // 3
    wider = np.pad(picture, [(border, border), (border, border), (0, 0)], 'edge')
    boxes = [face.box for face in detector.detect(wider)]
    return max((max(x2 - x1, y2 - y1) for x1, y1, x2, y2 in boxes), default=0.0)
