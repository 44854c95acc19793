"""Read films of any length from files, folders, arrays and cameras, frame by frame."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmdfer.datasets.transforms.frame_reader import FolderReader
from mmdfer.datasets.transforms.video_reader import VideoStream
from mmdfer.errors import DFERError, UnreadableClipError

#: Frames per second that a folder of frames or an array is taken to have.
ASSUMED_FPS = 25.0

#: The time in seconds of each frame, and a function that returns the frame, RGB uint8 (H, W, 3).
Frames = Iterator[tuple[float, Callable[[], np.ndarray]]]


class Film(ABC):
    """Provide the frames of a film in order.

    Attributes:
        name: Name for output files and messages.
        seconds: Estimated duration in seconds, or 0 if unknown. A video file has it after the first
            frame.
        repeatable: Whether the frames can be read a second time.
    """

    name: str
    seconds: float = 0.0
    repeatable: bool = True

    @abstractmethod
    def read(self) -> Frames:
        """Yield all frames, from the first one."""

    def identity(self) -> dict[str, Any]:
        """Return JSON values that change if the film changes, or an empty dict if unknown."""
        return {}

    def sample(self, fps: float) -> Iterator[tuple[float, np.ndarray]]:
        """Yield at most ``fps`` frames per second, each the first one after its due time.

        Yields:
            The time in seconds, and the frame, RGB uint8 (H, W, 3).
        """
        due = 0.0
        for seconds, read in self.read():
            if seconds + 1e-6 >= due:
                yield seconds, read()
                # The due times are multiples of the period, so that rounding does not add up.
                due = (int((seconds + 1e-6) * fps) + 1) / fps


def _same(picture: np.ndarray) -> np.ndarray:
    return picture


class _VideoFile(Film):
    """Read a film from a video file."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name

    def identity(self) -> dict[str, Any]:
        """Return the path, size and time of the file."""
        return _identify(self.path)

    def read(self) -> Frames:
        """Yield all frames of the file."""
        stream = VideoStream(self.path, num_threads=0)
        for frame in stream.frames():
            self.seconds = stream.duration
            yield frame


class _FrameFolder(Film):
    """Read a film from a folder of pictures."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.resolve().name
        self._reader = FolderReader(path)
        self.seconds = len(self._reader) / ASSUMED_FPS

    def identity(self) -> dict[str, Any]:
        """Return the path and the time of the folder, and its number of pictures."""
        return dict(_identify(self.path), frames=len(self._reader))

    def read(self) -> Frames:
        """Yield the pictures in the order of their numbers."""
        for number, picture in enumerate(self._reader):
            yield number / ASSUMED_FPS, partial(_same, picture)


class _FrameArray(Film):
    """Read a film from an array (T, H, W, 3) of RGB frames."""

    def __init__(self, array: np.ndarray, name: str) -> None:
        if array.ndim != 4 or array.shape[3] != 3 or array.dtype != np.uint8 or not len(array):
            raise DFERError(
                f'{name}: an array of frames must be uint8 (T, H, W, 3) in RGB order, got '
                f'{array.dtype} {array.shape}'
            )
        self._array, self.name = array, name
        self.seconds = len(array) / ASSUMED_FPS

    def read(self) -> Frames:
        """Yield the frames of the array."""
        for number, frame in enumerate(self._array):
            yield number / ASSUMED_FPS, partial(_same, frame)


class _Camera(Film):
    """Read a film from a camera until the process is interrupted."""

    repeatable = False

    def __init__(self, index: int) -> None:
        self.name, self._index = f'camera_{index}', index

    def read(self) -> Frames:
        """Yield frames as the camera delivers them."""
        capture = cv2.VideoCapture(self._index)
        try:
            if not capture.isOpened():
                raise DFERError(
                    f'camera {self._index}: cannot be opened; check that it is connected and not '
                    'in use'
                )
            begin = time.monotonic()
            while True:
                found, picture = capture.read()
                if not found:
                    return
                yield (
                    time.monotonic() - begin,
                    partial(cv2.cvtColor, picture, cv2.COLOR_BGR2RGB),
                )
        finally:
            capture.release()


def _identify(path: Path) -> dict[str, Any]:
    status = path.stat()
    return dict(path=str(path.resolve()), bytes=status.st_size, modified=status.st_mtime_ns)


def open_film(source: str | os.PathLike | int | np.ndarray, name: str = 'array') -> Film:
    """Open a film.

    Args:
        source: A video file, a folder of frames, the index of a camera, or an array of RGB frames,
            uint8 (T, H, W, 3).
        name: Name of an array in messages and output files.

    Raises:
        UnreadableClipError: If there is no such file or folder.
        DFERError: If the source is not of one of these kinds.
    """
    if isinstance(source, np.ndarray):
        return _FrameArray(source, name)
    if isinstance(source, int) or (isinstance(source, str) and source.isdecimal()):
        return _Camera(int(source))
    text = os.fspath(source)
    if '://' in text:
        raise DFERError(f'{text}: an address cannot be read; download the file first')
    path = Path(text)
    try:
        path.stat()
    except OSError as error:
        raise UnreadableClipError(
            f'{text}: cannot be read ({error.strerror}); correct the path'
        ) from None
    if path.is_dir() and text:
        return _FrameFolder(path)
    if not path.is_file():
        raise UnreadableClipError(f'{text!r}: is neither a file nor a folder; correct the path')
    return _VideoFile(path)
