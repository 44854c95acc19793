"""Follow faces through a film, with the same memory for films of any length.

Faces are searched for in a few key frames per second. Between two key frames, boxes are
interpolated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmdfer.faces.face import Box, Face, FaceDetector, WholePicture
from mmdfer.faces.key_frames import Frame, mark_key_frames

_CARRY = 1.0  # seconds for which the last box of a face is kept
_START = 0.5  # the lowest score of a face that begins a track; a track continues at any score
# The lowest similarity (see `_similarity`) of a face and a track. A face that was in the last key
# frame may have moved by its own width. The place of another one must overlap.
_NEAR, _OVERLAPPING = -0.2, 0.0
# Changes of a box below this fraction of its longer side are smoothed, the smaller the more.
_JITTER = 0.1
_LEAST_WEIGHT = 0.3
# Another face becomes the largest one if it is larger by this factor.
_LARGER = 1.5


@dataclass(frozen=True)
class TrackedFace:
    """Describe the face of a track in one frame.

    Attributes:
        track: Number of the track, counted from 1.
        box: Left, top, right and bottom edge in pixels of the frame. The box may reach beyond the
            frame.
        score: Confidence of the detector, 0..1, interpolated like the box.
        carried: Whether the face was not found here, so that the box is that of the last time.
    """

    track: int
    box: Box
    score: float
    carried: bool


@dataclass(frozen=True)
class _Place:
    """Hold the state of a track at a key frame.

    Attributes:
        box: The smoothed box (4,) in pixels, of the last time that the face was found.
        score: The score of that time.
        found: That time in seconds.
        speed: Speed (2,) of the centre at that time, in pixels per second.
    """

    box: np.ndarray
    score: float
    found: float
    speed: np.ndarray


def follow_faces(
    frames: Iterable[tuple[float, np.ndarray]],
    detector: FaceDetector,
    every: float = 0.2,
    all_faces: bool = False,
) -> Iterator[tuple[float, np.ndarray, list[TrackedFace]]]:
    """Follow the largest face of a film, or all faces.

    A face that is not found keeps its last box for at most one second, marked as carried. After
    that its track ends, and a face in the same place begins a new track. All tracks end at a cut.

    The largest face is followed until its track ends, or until another face is 1.5 times as large.

    Args:
        frames: Time in seconds and picture, RGB uint8 (H, W, 3), of each frame in order.
        detector: The detector. With WholePicture, every whole frame is the face of track 1.
        every: Seconds between two searches for faces. With 0, each frame is searched.
        all_faces: Whether to follow all faces.

    Yields:
        Time, picture and faces of each frame in order. At most about ``every`` seconds of frames
        are held in memory.
    """
    if isinstance(detector, WholePicture):
        for time, image in frames:
            whole = detector.detect(image)[0]
            yield time, image, [TrackedFace(1, whole.box, whole.score, False)]
        return
    tracker = _Tracker(all_faces)
    pending: list[Frame] = []  # the last key frame and all frames after it
    start: Mapping[int, _Place] = {}
    for frame in mark_key_frames(frames, every):
        if frame.starts_shot:
            yield from _place_faces(pending, start, pending[-1:], start)
            pending, start = [], {}
            tracker.end_tracks()
        if frame.key:
            tracker.update(frame.time, detector.detect(frame.image))
            yield from _place_faces(pending, start, [frame], tracker.places)
            pending, start = [], tracker.shown()
        pending.append(frame)
    yield from _place_faces(pending, start, pending[-1:], start)


def _place_faces(
    frames: Sequence[Frame],
    start: Mapping[int, _Place],
    key_frame: Sequence[Frame],
    end: Mapping[int, _Place],
) -> Iterator[tuple[float, np.ndarray, list[TrackedFace]]]:
    """Yield the faces of a key frame and of the frames up to the next one.

    Args:
        frames: The key frame and the frames after it.
        start: The tracks to show, at that key frame.
        key_frame: The next key frame, which is not yielded.
        end: All tracks at the next key frame.
    """
    for frame in frames:
        first, last = frames[0].time, key_frame[0].time
        weight = (frame.time - first) / (last - first) if last > first else 0.0
        faces = []
        for number, place in start.items():
            after = end.get(number, place)
            found = place.found == first and (weight == 0 or after.found == last)
            if found or frame.time - place.found <= _CARRY:
                box = place.box + weight * (after.box - place.box)
                score = place.score + weight * (after.score - place.score)
                faces.append(TrackedFace(number, _to_box(box), score, not found))
        yield frame.time, frame.image, faces


class _Tracker:
    """Assign the faces of key frames to tracks.

    Args:
        all_faces: Whether to show all tracks or that of the largest face. All faces are followed in
            both cases, so that the largest one is never confused with another.

    Attributes:
        places: The state of each track at the last key frame.
    """

    def __init__(self, all_faces: bool) -> None:
        self.places: dict[int, _Place] = {}
        self._all_faces = all_faces
        self._largest: int | None = None
        self._time = 0.0
        self._count = 0

    def end_tracks(self) -> None:
        """End all tracks, so that every face of the next key frame begins a new one."""
        self.places = {}

    def update(self, time: float, faces: Sequence[Face]) -> None:
        """Continue the tracks at the next key frame, and begin tracks for new faces."""
        old = {
            number: place
            for number, place in self.places.items()
            if place.found == self._time or time - place.found <= _CARRY
        }
        matches = self._match(time, old, faces)
        new = {
            number: _move(place, time, faces[matches[number]]) if number in matches else place
            for number, place in old.items()
            if number in matches or time - place.found <= _CARRY
        }
        for index, face in enumerate(faces):
            if index not in matches.values() and face.score >= _START:
                self._count += 1
                new[self._count] = _Place(np.array(face.box), face.score, time, np.zeros(2))
        self.places, self._time = new, time

    def _match(
        self, time: float, old: Mapping[int, _Place], faces: Sequence[Face]
    ) -> dict[int, int]:
        """Assign faces to tracks one to one, the most similar pairs first.

        Returns:
            The index of the face for the number of each track that was found.
        """
        pairs = []
        for number, place in old.items():
            least = _NEAR if place.found == self._time else _OVERLAPPING
            moved = place.box + np.tile(place.speed * (time - place.found), 2)
            for index, face in enumerate(faces):
                box = np.array(face.box)
                similarity = max(_similarity(place.box, box), _similarity(moved, box))
                if similarity > least:
                    pairs.append((similarity, number, index))
        matches: dict[int, int] = {}
        for _, number, index in sorted(pairs, reverse=True):
            if number not in matches and index not in matches.values():
                matches[number] = index
        return matches

    def shown(self) -> dict[int, _Place]:
        """Return the tracks to show from this key frame to the next one."""
        if self._all_faces:
            return self.places
        present = {n: _side(p.box) for n, p in self.places.items() if p.found == self._time}
        if present:
            largest = max(present, key=lambda number: present[number])
            current = self.places.get(self._largest or 0)
            if current is None or present[largest] >= _LARGER * _side(current.box):
                self._largest = largest
        return {n: place for n, place in self.places.items() if n == self._largest}


def _move(place: _Place, time: float, face: Face) -> _Place:
    """Return the state of a track at a key frame in which its face was found."""
    new = np.array(face.box)
    change = float(np.abs(new - place.box).max()) / max(_side(new), 1.0)
    weight = min(1.0, max(_LEAST_WEIGHT, change / _JITTER))
    step = weight * (new - place.box)
    passed = time - place.found
    speed = (step[:2] + step[2:]) / 2 / passed if passed > 0 else place.speed
    return _Place(place.box + step, face.score, time, speed)


def _similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Return how well two boxes (4,) agree in place and size, from -1 to 1.

    This is the distance-IoU of Zheng et al. (arXiv 1911.08287): the intersection over union, minus
    the squared ratio of the distance of the centres to the diagonal of the box around both.
    """
    inside = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    around = np.maximum(one[2:], other[2:]) - np.minimum(one[:2], other[:2])
    common = float(np.prod(np.maximum(inside, 0)))
    union = float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2])) - common
    distance = (one[:2] + one[2:] - other[:2] - other[2:]) / 2
    apart = float(distance @ distance) / max(float(around @ around), 1e-9)
    return common / max(union, 1e-9) - apart


def _side(box: np.ndarray) -> float:
    """Return the longer side of a box (4,)."""
    return float((box[2:] - box[:2]).max())


def _to_box(box: np.ndarray) -> Box:
    x1, y1, x2, y2 = box.tolist()
    return x1, y1, x2, y2
