"""Find the landmarks and the parts of the face in all frames of a clip."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from mmdfer.faces import (
    Box,
    FaceDetector,
    FaceMesh,
    LandmarkFinder,
    PartParser,
    WholePicture,
    build_detector,
    build_parser,
    follow_faces,
)
from mmdfer.files import hash_file
from mmdfer.inference.film import Film
from mmdfer.levels import NUM_LANDMARKS, ClipLevels

# The longer side of the masks in pixels at most. It is enough for an encoder that sees 224 pixels.
_LONGEST = 256
#: Without a detector, each picture is a crop of a face. The box of the face is the picture without
#: the margin that METAINFO['face_crop'] of the dataset names, or else this one, which the datasets
#: of this package have.
MARGIN = 0.12


@dataclass(frozen=True)
class LevelFinding:
    """Hold how landmarks and parts are found.

    Attributes:
        landmarks: Model file of the face mesh.
        parser: Name of the parser of face parts.
        detector: Name of the face detector. With ``none``, each picture is a crop of a face.
        face_model: Model file of the face detector, or None.
    """

    landmarks: str
    parser: str = 'polygons'
    detector: str = 'centerface'
    face_model: str | None = None

    def build(self) -> tuple[FaceDetector, LandmarkFinder, PartParser]:
        """Return the detector, the finder and the parser of this process, which are built once.

        Raises:
            DFERError: If a package or a file is missing.
        """
        return _build(self)

    def record(self) -> dict[str, Any]:
        """Return the settings on which the files depend, as JSON values."""
        polygons = 'filled polygons of the landmarks'
        return dict(
            landmarks=f'face mesh {hash_file(self.landmarks)[:16]} on ai-edge-litert',
            parts=polygons if self.parser == 'polygons' else self.parser,
            detector=self.detector,
            face_model=self.face_model and hash_file(self.face_model)[:16],
            longest_side=_LONGEST,
        )


@lru_cache(maxsize=1)
def _build(finding: LevelFinding) -> tuple[FaceDetector, LandmarkFinder, PartParser]:
    detector = build_detector(finding.detector, finding.face_model)
    return detector, FaceMesh(finding.landmarks), build_parser(finding.parser)


@dataclass(frozen=True, eq=False)
class _FrameLevels:
    """Hold what was found in a frame.

    Attributes:
        size: Height and width of the frame in pixels.
        shape: Height and width of the masks in pixels, at most ``_LONGEST``.
        landmarks: Landmarks (68, 2) as fractions of the width and the height, or None.
        mask: Part mask of this shape, or None.
    """

    size: tuple[int, int]
    shape: tuple[int, int]
    landmarks: np.ndarray | None = None
    mask: np.ndarray | None = None


def find_levels(film: Film, finding: LevelFinding, margin: float = MARGIN) -> ClipLevels:
    """Find the landmarks and the parts of the largest face in each frame of a clip.

    Args:
        film: The clip.
        finding: How they are found.
        margin: Margin of the crops, as a fraction of the longer side of the box of the face. It is
            only used without a face detector.

    Returns:
        The levels of all frames. The longer side of the masks has 256 pixels at most. If the frames
        have different sizes, the levels are stretched to the shape of the frame with the largest
        area, as ClipDecode stretches the frames, and they are marked as ``mixed``.
        Where no face is found, the landmarks are NaN and the mask is background.

    Raises:
        DFERError: If a package or a file is missing.
        UnreadableClipError: If the clip cannot be read.
    """
    detector, finder, parser = finding.build()
    whole = isinstance(detector, WholePicture)
    found = []
    for _, image, faces in follow_faces(((time, read()) for time, read in film.read()), detector):
        box = (_inset(faces[0].box, margin) if whole else faces[0].box) if faces else None
        found.append(_find_in_frame(image, box, finder, parser))
    shape = max(found, key=lambda frame: frame.size[0] * frame.size[1]).shape
    masks = np.zeros((len(found), *shape), np.uint8)
    landmarks = np.full((len(found), NUM_LANDMARKS, 2), np.nan, np.float32)
    for number, frame in enumerate(found):
        if frame.mask is not None and frame.landmarks is not None:
            exact = cv2.INTER_NEAREST_EXACT
            masks[number] = cv2.resize(frame.mask, shape[::-1], interpolation=exact)
            landmarks[number] = frame.landmarks * shape[::-1] - 0.5
    return ClipLevels(shape, masks, landmarks, len({frame.size for frame in found}) > 1)


def _find_in_frame(
    image: np.ndarray, box: Box | None, finder: LandmarkFinder, parser: PartParser
) -> _FrameLevels:
    """Find the landmarks and the parts of the face in a box of a picture (H, W, 3)."""
    height, width = image.shape[:2]
    factor = min(1.0, _LONGEST / max(height, width))
    shape = max(1, round(height * factor)), max(1, round(width * factor))
    landmarks = None if box is None else finder.find(image, box)
    if box is None or landmarks is None:
        return _FrameLevels((height, width), shape)
    relative = (landmarks + 0.5) / (width, height)
    small = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA)
    x1, y1, x2, y2 = (value * factor for value in box)
    points = (relative * shape[::-1] - 0.5).astype(np.float32)
    mask = parser.parse(small, (x1, y1, x2, y2), points)
    return _FrameLevels((height, width), shape, relative, mask)


def _inset(box: Box, margin: float) -> Box:
    """Return the box of the face in a crop with this margin, whose box is given."""
    x1, y1, x2, y2 = box
    border = margin / (1 + 2 * margin) * max(x2 - x1, y2 - y1)
    return x1 + border, y1 + border, x2 - border, y2 - border
