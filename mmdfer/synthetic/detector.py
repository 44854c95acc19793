"""Simulate a face parser and a landmark detector by adding noise to true masks and landmarks."""

from dataclasses import dataclass

import cv2
import numpy as np

from .faces import PARTS

#: Parts that the simulated parser confuses: a part, and the part for which it is taken.
CONFUSIONS: tuple[tuple[str, str], ...] = (
    ('hair', 'background'),
    ('neck', 'clothes'),
    ('ear', 'hair'),
    ('eye', 'skin'),
    ('brow', 'skin'),
    ('nose', 'skin'),
    ('mouth', 'lower lip'),
    ('upper lip', 'skin'),
    ('lower lip', 'skin'),
)
_GRID = 8  # points along a side of the grid whose displacements move the borders of the parts


@dataclass(frozen=True)
class DetectorNoise:
    """Set the errors of the simulated detector. All values are our choice.

    The jitter gives landmarks a mean distance to their true places of 3.4 % of the distance of the
    outer corners of the eyes. HRNet reaches 3.3 % on the faces of 300-W (Wang et al.,
    "Deep High-Resolution Representation Learning for Visual Recognition", 2019).

    Attributes:
        missed: Probability that no face is found in a frame. It then has neither a mask nor
            landmarks.
        jitter: Standard deviation of the error of a landmark's x and of its y, as a fraction of the
            side of the frame. It is drawn for each frame.
        border: Root mean square displacement of the borders of the parts along x and along y, as a
            fraction of the side of the frame. Neighbouring points move alike.
        confused: Probability that a part is taken for another part in a frame, for each pair of
            ``CONFUSIONS``.
    """

    missed: float = 0.05
    jitter: float = 0.0125
    border: float = 0.012
    confused: float = 0.03


def detect(
    masks: np.ndarray, landmarks: np.ndarray, noise: DetectorNoise, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Add a detector's noise to the true masks and landmarks of a clip.

    Args:
        masks: True part masks (T, S, S), uint8 indices into ``PARTS``.
        landmarks: True landmarks (T, 68, 2) in pixels.
        noise: The errors of the detector.
        rng: The random generator of the clip.

    Returns:
        The masks (T, S, S), uint8, and the landmarks (T, 68, 2), float32. In a missed frame, the
        mask is background and the landmarks are NaN.
    """
    frames, side = masks.shape[:2]
    missed = rng.random(frames) < noise.missed
    confused = rng.random((frames, len(CONFUSIONS))) < noise.confused
    found = [
        _move_borders(_confuse_parts(mask, pairs), noise.border * side, rng)
        for mask, pairs in zip(masks, confused, strict=True)
    ]
    jittered = landmarks + rng.normal(0, noise.jitter * side, landmarks.shape)
    jittered[missed] = np.nan
    return np.stack(found) * ~missed[:, None, None], jittered.astype(np.float32)


def _confuse_parts(mask: np.ndarray, confused: np.ndarray) -> np.ndarray:
    """Replace a part of a mask (S, S) by another for each pair of ``CONFUSIONS`` that is chosen.

    Args:
        mask: The true mask.
        confused: Whether each pair is chosen, as booleans.
    """
    taken = np.arange(len(PARTS), dtype=np.uint8)
    for (part, other), chosen in zip(CONFUSIONS, confused, strict=True):
        if chosen:
            taken[PARTS.index(part)] = PARTS.index(other)
    return taken[mask]


def _move_borders(mask: np.ndarray, size: float, rng: np.random.Generator) -> np.ndarray:
    """Warp a mask (S, S) by a smooth field with a root mean square displacement in pixels."""
    side = len(mask)
    grid = rng.normal(0, 1, (_GRID, _GRID, 2)).astype(np.float32)
    field = cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)
    field *= size / np.sqrt((field**2).mean())
    places = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1)  # x and y of each pixel
    moved = (places + field).astype(np.float32)
    return cv2.remap(mask, moved, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
