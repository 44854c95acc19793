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

    The error gives landmarks a mean distance to their true places of 3.4 % of the distance of the
    outer corners of the eyes. HRNet reaches 3.3 % on the faces of 300-W (Wang et al.,
    "Deep High-Resolution Representation Learning for Visual Recognition", 2019). Most of it is
    constant over a clip, because a detector makes similar errors on similar frames.

    Attributes:
        missed: Probability that no face is found in a frame. It then has neither a mask nor
            landmarks.
        error: Standard deviation of the error of a landmark's x and of its y, as a fraction of the
            side of the frame.
        border: Root mean square displacement of the borders of the parts along x and along y, as a
            fraction of the side of the frame. Neighbouring points move alike.
        steady: Share of the variance of ``error`` and ``border`` that is constant over a clip. The
            rest is drawn for each frame.
        confused: Probability that a part is taken for another part in a frame, for each pair of
            ``CONFUSIONS``.
    """

    missed: float = 0.05
    error: float = 0.0125
    border: float = 0.012
    steady: float = 0.85
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
    missed = np.asarray(rng.random(frames) < noise.missed)
    confused = rng.random((frames, len(CONFUSIONS))) < noise.confused
    constant, changing = noise.steady**0.5, (1 - noise.steady) ** 0.5
    offset, jitter = rng.normal(0, 1, landmarks.shape[1:]), rng.normal(0, 1, landmarks.shape)
    found = landmarks + noise.error * side * (constant * offset + changing * jitter)
    field = constant * _draw_field(side, rng)
    parsed = np.stack(
        [
            _warp(
                _confuse_parts(mask, pairs),
                noise.border * side * (field + changing * _draw_field(side, rng)),
            )
            for mask, pairs in zip(masks, confused, strict=True)
        ]
    )
    parsed[missed], found[missed] = PARTS.index('background'), np.nan
    return parsed, found.astype(np.float32)


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


def _draw_field(side: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a smooth field of displacements (side, side, 2) with a root mean square of 1."""
    grid = rng.normal(0, 1, (_GRID, _GRID, 2)).astype(np.float32)
    field = cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.asarray(field / np.sqrt((field**2).mean()))


def _warp(mask: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Displace the points of a mask (S, S) by a field (S, S, 2) of x and y in pixels."""
    places = np.stack(np.meshgrid(np.arange(len(mask)), np.arange(len(mask))), -1)
    x, y = np.moveaxis((places + field).astype(np.float32), -1, 0).copy()
    return cv2.remap(mask, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
