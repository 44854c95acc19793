"""Draw boxes and labels into films."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from tqdm import tqdm

from mmdfer.files import write_aside
from mmdfer.inference.film import ASSUMED_FPS, Film
from mmdfer.inference.timeline import Timeline, class_color

_LONGEST = 1280  # the longer side in pixels of an annotated film
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def write_annotated_film(
    film: Film, timeline: Timeline, path: Path, show_progress: bool = True
) -> None:
    """Write the film as an mp4 with a box around each face and the most probable class.

    The film is read a second time, so that memory does not grow with its length. Films with more
    than 1280 pixels on the longer side are reduced.

    Args:
        film: The film that the timeline belongs to.
        timeline: The expressions and boxes.
        path: The file to write.
        show_progress: Whether to show a progress bar.
    """
    faces = _FaceFinder(timeline)
    bar = tqdm(desc=f'drawing {film.name}', unit='frame', disable=not show_progress)
    with bar, write_aside(path) as aside, av.open(str(aside), 'w', format='mp4') as container:
        stream = None
        for time, read in film.read():
            picture, factor = _shrink(read())
            for track, box in faces.at(time):
                _draw_face(picture, [factor * edge for edge in box], *faces.label(track, time))
            if timeline.note:
                _write_text(picture, timeline.note, 0, picture.shape[0], (255, 255, 255))
            if stream is None:
                stream = container.add_stream('libx264', rate=round(ASSUMED_FPS))
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = 'yuv420p'
                stream.codec_context.time_base = Fraction(1, 90000)
                stream.options = dict(crf='23', preset='veryfast')
            if picture.shape[:2] != (stream.height, stream.width):
                picture = cv2.resize(picture, (stream.width, stream.height))
            frame = av.VideoFrame.from_ndarray(picture, format='rgb24')
            frame.pts, frame.time_base = round(90000 * time), Fraction(1, 90000)
            container.mux(stream.encode(frame))
            bar.update()
        if stream is not None:
            container.mux(stream.encode())


def _shrink(picture: np.ndarray) -> tuple[np.ndarray, float]:
    """Return a copy of a picture with even sides, reduced if it is large, and the factor."""
    height, width = picture.shape[:2]
    factor = min(1.0, _LONGEST / max(height, width))
    size = max(2, round(factor * width) // 2 * 2), max(2, round(factor * height) // 2 * 2)
    if size == (width, height):
        return picture.copy(), 1.0
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA), factor


class _FaceFinder:
    """Find the boxes and labels of a timeline by time.

    Args:
        timeline: The timeline.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._rows = {
            track: np.flatnonzero(timeline.frame_tracks == track)
            for track in dict.fromkeys(timeline.frame_tracks.tolist())
        }
        self._windows = {track: np.flatnonzero(timeline.tracks == track) for track in self._rows}
        self._step = 1 / timeline.settings['fps']

    def at(self, time: float) -> list[tuple[int, np.ndarray]]:
        """Return the track and the box (4,) of each face at a time, interpolated between frames."""
        found = []
        for track, rows in self._rows.items():
            times = self._timeline.frame_times[rows]
            after = int(np.searchsorted(times, time))
            before = max(after - 1, 0)
            after = min(after, len(times) - 1)
            near = min(abs(times[before] - time), abs(times[after] - time))
            if near > self._step or times[after] - times[before] > 2.5 * self._step:
                continue
            boxes, span = self._timeline.frame_boxes[rows], times[after] - times[before]
            weight = (time - times[before]) / span if span > 0 else 0.0
            weight = min(1.0, max(0.0, weight))
            found.append((track, (1 - weight) * boxes[before] + weight * boxes[after]))
        return found

    def label(self, track: int, time: float) -> tuple[str, float, tuple[int, int, int]]:
        """Return class, probability and color of the window of a face that is nearest in time."""
        rows = self._windows[track]
        times = self._timeline.times[rows]
        after = min(int(np.searchsorted(times, time)), len(times) - 1)
        before = max(after - 1, 0)
        row = rows[min(before, after, key=lambda i: abs(times[i] - time))]
        values = self._timeline.probabilities[row]
        best = int(values.argmax())
        return self._timeline.classes[best], float(values[best]), class_color(best)


def _draw_face(
    picture: np.ndarray, box: list[float], label: str, score: float, color: tuple[int, int, int]
) -> None:
    """Draw a box with its label above, or inside if there is no room above."""
    x1, y1, x2, y2 = (round(edge) for edge in box)
    thickness = max(1, round(min(picture.shape[:2]) / 240))
    cv2.rectangle(picture, (x1, y1), (x2, y2), color, thickness)
    _write_text(picture, f'{label} {100 * score:.0f} %', x1, y1, color)


def _write_text(
    picture: np.ndarray, text: str, left: int, bottom: int, color: tuple[int, int, int]
) -> None:
    """Write text on a filled bar that ends at ``bottom``, moved so that all of it is visible."""
    scale = max(0.4, min(picture.shape[:2]) / 700)
    (width, height), base = cv2.getTextSize(text, _FONT, scale, 1)
    left = max(0, min(left, picture.shape[1] - width - 8))
    bottom = max(height + base + 6, min(bottom, picture.shape[0]))
    top = bottom - height - base - 6
    cv2.rectangle(picture, (left, top), (left + width + 8, bottom), color, cv2.FILLED)
    ink = (0, 0, 0) if np.dot(color, (0.3, 0.6, 0.1)) > 128 else (255, 255, 255)
    place = left + 4, bottom - base - 3
    cv2.putText(picture, text, place, _FONT, scale, ink, 1, cv2.LINE_AA)
