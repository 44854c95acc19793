"""Choose the frames of a film on which faces are searched for, and find the cuts between shots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import cv2
import numpy as np

# At most this many bytes of frames lie between two key frames, so that films with large pictures
# or many frames per second fit into memory.
_MOST_BYTES = 2**27
_THUMBNAIL = 16  # side of the thumbnails in pixels
# Two pictures show the same shot if their thumbnails differ by at most this many grey levels, or
# if their correlation is at least that large. In nine films with nine cuts, consecutive frames of
# a shot that differed by more had a correlation of at least 0.57, and frames at a cut at most 0.27.
_SMALL_DIFFERENCE = 10
_SAME_SHOT = 0.5
# After a flash, the picture is as before: the correlation is at least this large.
_SAME_PICTURE = 0.9


@dataclass
class Frame:
    """Hold a frame of a film.

    Attributes:
        time: Time of the frame in seconds.
        image: The picture, RGB uint8 (H, W, 3).
        key: Whether faces are to be searched for in this frame.
        starts_shot: Whether the frame is the first of the film or the first after a cut.
    """

    time: float
    image: np.ndarray = field(repr=False)
    key: bool = False
    starts_shot: bool = False

    @cached_property
    def thumbnail(self) -> np.ndarray:
        """The grey levels of a small version of the picture, float32 (pixels,)."""
        y, x = (max(1, side // (4 * _THUMBNAIL)) for side in self.image.shape[:2])
        few = np.ascontiguousarray(self.image[::y, ::x])
        small = cv2.resize(few, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
        return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32).ravel()


def mark_key_frames(frames: Iterable[tuple[float, np.ndarray]], every: float) -> Iterator[Frame]:
    """Mark the key frames and the cuts of a film.

    The key frames are one frame in every period, the last frame of the film, and the frames before
    and after each cut. So all frames between two key frames belong to the same shot.

    Args:
        frames: Time in seconds and picture, RGB uint8 (H, W, 3), of each frame in order.
        every: Length of the period in seconds.

    Yields:
        The frames in order. The frames of one period are held in memory.
    """
    part: list[Frame] = []  # the last key frame and all frames after it
    size = 0
    for time, image in frames:
        part.append(Frame(time, image))
        size += image.nbytes
        if len(part) == 1:
            part[0].key = part[0].starts_shot = True
            yield part[0]
        # Times are rounded, so a frame may come slightly too early.
        elif time - part[0].time > every - 1e-3 or size > _MOST_BYTES:
            yield from _finish(part)
            part, size = part[-1:], image.nbytes
    yield from _finish(part)


def _finish(part: Sequence[Frame]) -> Sequence[Frame]:
    """Mark the last frame of a part as a key frame, and return the frames after the first one."""
    if len(part) > 1:
        part[-1].key = True
        _mark_cuts(part)
    return part[1:]


def _mark_cuts(part: Sequence[Frame]) -> None:
    """Mark the frames before and after each cut.

    A camera flash is not a cut: the first and the last picture of the part are then alike.
    """
    changed = not _are_alike(part[0], part[-1], _SAME_PICTURE)
    for before, after in pairwise(part):
        resized = before.image.shape != after.image.shape
        if resized or (changed and not _are_alike(before, after, _SAME_SHOT)):
            before.key = after.key = after.starts_shot = True


def _are_alike(one: Frame, other: Frame, least: float) -> bool:
    """Return whether two pictures hardly differ, or have at least this correlation."""
    a, b = one.thumbnail, other.thumbnail
    if np.abs(a - b).mean() <= _SMALL_DIFFERENCE:
        return True
    a, b = a - a.mean(), b - b.mean()
    correlation = float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-9)
    return correlation >= least
