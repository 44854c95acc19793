"""Slide a window of frames over the face of each track."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mmdfer.faces import Box


class FaceFrame(NamedTuple):
    """Hold the face of a track in one frame.

    Attributes:
        time: Time of the frame in seconds.
        track: Number of the track.
        box: Left, top, right and bottom edge in pixels.
        score: Confidence of the face detector, 0..1.
        encoded: What :meth:`ClipModel.encode` returned for the crop.
    """

    time: float
    track: int
    box: Box
    score: float
    encoded: Any


class Window(NamedTuple):
    """Hold the frames of a window, and the frame in its middle, which the result belongs to."""

    middle: FaceFrame
    frames: Sequence[FaceFrame]


@dataclass
class SlidingWindow:
    """Cut the frames of one track into windows.

    Every ``stride`` frames there is a window around a frame. At both ends of the track, the window
    is moved inside, so that it holds frames of the track only. A track with fewer frames than a
    window repeats frames evenly, as the samplers of training do for short clips.

    Attributes:
        length: Number of frames of a window.
        stride: Number of frames between the middles of two windows.
    """

    length: int
    stride: int
    _frames: deque[FaceFrame] = field(init=False)
    _count: int = 0
    _next: int = 0  # number of the next frame that is the middle of a window

    def __post_init__(self) -> None:
        """Keep as many frames as two windows and a stride can need."""
        self._frames = deque(maxlen=2 * self.length + self.stride)

    def add(self, frame: FaceFrame) -> Iterator[Window]:
        """Add the next frame of the track, and yield the windows that are complete now."""
        self._frames.append(frame)
        self._count += 1
        half = self.length // 2
        while self._count >= self.length and self._next + self.length - half <= self._count:
            yield self._cut(max(0, self._next - half))

    def end(self) -> Iterator[Window]:
        """Yield the remaining windows of the track, whose last frame was added."""
        while self._next < self._count:
            yield self._cut(max(0, self._count - self.length))

    def _cut(self, start: int) -> Window:
        """Return the next window, from frame ``start`` of the track on."""
        offset = self._count - len(self._frames)  # number of the first frame that is still held
        middle = self._frames[self._next - offset]
        have = min(self.length, self._count)
        numbers = [start + i * have // self.length for i in range(self.length)]
        self._next += self.stride
        return Window(middle, [self._frames[number - offset] for number in numbers])
