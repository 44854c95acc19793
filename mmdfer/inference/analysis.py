"""Follow the faces of a film, encode them and classify their expressions over time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import numpy as np
from tqdm import tqdm

from mmdfer.errors import DFERError
from mmdfer.faces import Box, FaceDetector, TrackedFace, crop_face, follow_faces
from mmdfer.inference.clip_model import ClipModel
from mmdfer.inference.film import Film
from mmdfer.inference.prefetch import prefetch
from mmdfer.inference.timeline import Timeline
from mmdfer.inference.windows import FaceFrame, SlidingWindow, Window

FRAMES_PER_BATCH = 16
WINDOWS_PER_BATCH = 32


@dataclass(frozen=True)
class Sampling:
    """Hold how a film is sampled and how its faces are cropped.

    Attributes:
        fps: Largest number of frames per second that are used.
        margin: Border around the detected box, as a fraction of its longer side.
        size: Side in pixels of the square crop.
    """

    fps: float = 8.0
    margin: float = 0.3
    size: int = 224

    def __post_init__(self) -> None:
        """Raise DFERError if a value makes no sense."""
        if not 0 < self.fps <= 1000:
            raise DFERError(f'--fps must be between 0 and 1000, got {self.fps:g}')
        if self.size < 1 or self.margin < -0.4:
            raise DFERError(
                f'the crop must have at least 1 pixel and a margin of -0.4 or more, got size '
                f'{self.size} and margin {self.margin:g}'
            )


@dataclass(frozen=True)
class Settings(Sampling):
    """Hold how a film is sampled, cropped and cut into windows.

    Attributes:
        stride: Number of used frames between two windows.
        all_faces: Whether all faces are followed, or the largest one only.
    """

    stride: int = 4
    all_faces: bool = False

    def __post_init__(self) -> None:
        """Raise DFERError if a value makes no sense."""
        super().__post_init__()
        if self.stride < 1:
            raise DFERError(f'--stride must be at least 1, got {self.stride}')


def analyse(
    film: Film,
    model: ClipModel,
    detector: FaceDetector | Sequence[tuple[float, Box]],
    settings: Settings,
    note: str = '',
    about: dict[str, Any] | None = None,
    show_progress: bool = True,
) -> Timeline:
    """Classify the expressions of the faces of a film over time.

    Decoding, detection and encoding run at the same time, and a few batches of frames are held in
    memory.

    Args:
        film: The film.
        model: Classifies windows of crops.
        detector: Finds the faces; or the known boxes of one face, with their times in seconds.
        settings: How to sample and crop.
        note: The note of the timeline.
        about: Further settings to record in the timeline, as JSON values.
        show_progress: Whether to show a progress bar.

    Returns:
        The timeline. It has no window if the film shows no face. A camera is read until Ctrl-C.

    Raises:
        UnreadableClipError: If the film cannot be read.
    """
    crops = prefetch(_crop_faces(film, detector, settings), 2 * FRAMES_PER_BATCH)
    bar = tqdm(desc=film.name, unit='s', disable=not show_progress, bar_format=_BAR, total=0)
    result = _Collector(model, settings)
    with bar:
        try:
            for batch in _batches(crops, FRAMES_PER_BATCH):
                result.add(batch)
                bar.total = round(max(film.seconds, batch[-1].time), 1)
                bar.update(round(batch[-1].time, 1) - bar.n)
        except KeyboardInterrupt:
            if film.repeatable:
                raise
            # A camera has no end, so this is how its user ends the film.
        finally:
            crops.close()
        result.finish()
    return result.timeline(film, {**asdict(settings), **(about or {})}, note)


_BAR = '{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total:.1f} s [{elapsed}<{remaining}]'


@dataclass(frozen=True)
class _Crop:
    """Hold one frame's face, or with ``face`` None the fact that the frame shows none."""

    time: float
    face: TrackedFace | None
    image: np.ndarray | None


def _crop_faces(
    film: Film, detector: FaceDetector | Sequence[tuple[float, Box]], settings: Settings
) -> Iterator[_Crop]:
    """Yield the crops of all faces of the sampled frames, and an empty crop without a face."""
    frames = prefetch(film.sample(settings.fps), 8)
    for time, image, faces in _find_faces(frames, detector, settings.all_faces):
        for face in faces:
            crop = crop_face(image, face.box, settings.margin, settings.size)
            yield _Crop(time, face, crop)
        if not faces:
            yield _Crop(time, None, None)


def _find_faces(
    frames: Iterable[tuple[float, np.ndarray]],
    detector: FaceDetector | Sequence[tuple[float, Box]],
    all_faces: bool,
) -> Iterator[tuple[float, np.ndarray, list[TrackedFace]]]:
    """Yield time, frame and faces, found by the detector or taken from the known boxes."""
    if not isinstance(detector, Sequence):
        yield from follow_faces(frames, detector, all_faces=all_faces)
        return
    times = np.array([time for time, _ in detector])
    boxes = np.array([box for _, box in detector])
    for time, image in frames:
        x1, y1, x2, y2 = (float(np.interp(time, times, edge)) for edge in boxes.T)
        yield time, image, [TrackedFace(1, (x1, y1, x2, y2), 1.0, False)]


def _batches(items: Iterable[_Crop], size: int) -> Iterator[list[_Crop]]:
    """Yield lists of ``size`` items, the last one shorter."""
    for _, group in groupby(enumerate(items), lambda pair: pair[0] // size):
        yield [item for _, item in group]


class _Collector:
    """Encode crops, cut them into windows, classify these and keep the results.

    Args:
        model: Encodes crops and classifies windows.
        settings: Gives the stride.
    """

    def __init__(self, model: ClipModel, settings: Settings) -> None:
        self._model, self._settings = model, settings
        self._tracks: dict[int, SlidingWindow] = {}
        self._waiting: list[Window] = []
        self._rows: list[tuple[FaceFrame, np.ndarray]] = []
        self._faces: list[tuple[float, int, Box]] = []
        self._last = 0.0

    def add(self, crops: Sequence[_Crop]) -> None:
        """Add the crops of further frames, in the order of time."""
        shown = [crop for crop in crops if crop.face is not None]
        images = [crop.image for crop in shown if crop.image is not None]
        encoded = self._model.encode(images) if images else []
        codes = dict(zip(map(id, shown), encoded, strict=True))
        for time, group in groupby(crops, lambda crop: crop.time):
            frames = [
                FaceFrame(time, c.face.track, c.face.box, c.face.score, codes[id(c)])
                for c in group
                if c.face is not None
            ]
            self._add_frame(time, frames)

    def _add_frame(self, time: float, frames: Sequence[FaceFrame]) -> None:
        """Add the faces of one frame. The tracks that it does not show end."""
        self._last = time
        present = {frame.track for frame in frames}
        for track in [track for track in self._tracks if track not in present]:
            self._classify(self._tracks.pop(track).end())
        for frame in frames:
            self._faces.append((time, frame.track, frame.box))
            if frame.track not in self._tracks:
                self._tracks[frame.track] = SlidingWindow(self._model.window, self._settings.stride)
            self._classify(self._tracks[frame.track].add(frame))

    def _classify(self, windows: Iterable[Window]) -> None:
        """Classify windows as soon as there is a batch of them."""
        self._waiting += windows
        while len(self._waiting) >= WINDOWS_PER_BATCH:
            self._run(WINDOWS_PER_BATCH)

    def _run(self, count: int) -> None:
        """Classify the first waiting windows. Equal windows are classified once."""
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        keys = [(w.middle.track, w.frames[0].time, w.frames[-1].time) for w in batch]
        first = {key: number for number, key in reversed(list(enumerate(keys)))}
        numbers = sorted(first.values())
        scores = self._model.classify([[f.encoded for f in batch[n].frames] for n in numbers])
        by_key = {keys[number]: score.numpy() for number, score in zip(numbers, scores)}
        self._rows += [(w.middle._replace(encoded=None), by_key[k]) for w, k in zip(batch, keys)]

    def finish(self) -> None:
        """End all tracks and classify what is left."""
        for track in list(self._tracks):
            self._classify(self._tracks.pop(track).end())
        while self._waiting:
            self._run(WINDOWS_PER_BATCH)

    def timeline(self, film: Film, settings: dict[str, Any], note: str) -> Timeline:
        """Return the results in the order of time."""
        rows = sorted(self._rows, key=lambda row: (row[0].time, row[0].track))
        count = len(self._model.classes)
        return Timeline(
            film=film.name,
            classes=tuple(self._model.classes),
            times=np.array([frame.time for frame, _ in rows]),
            tracks=np.array([frame.track for frame, _ in rows], int),
            probabilities=np.array([scores for _, scores in rows]).reshape(-1, count),
            boxes=np.array([frame.box for frame, _ in rows]).reshape(-1, 4),
            face_scores=np.array([frame.score for frame, _ in rows]),
            settings=settings,
            note=note,
            seconds=self._last,
            source=film.identity(),
            frame_times=np.array([time for time, _, _ in self._faces]),
            frame_tracks=np.array([track for _, track, _ in self._faces], int),
            frame_boxes=np.array([box for _, _, box in self._faces]).reshape(-1, 4),
        )
