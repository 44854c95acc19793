"""Pictures and videos that are written completely, or raise: OpenCV reports no full disk."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from ..errors import DFERError
from .emotions import FPS

_CODEC = cv2.VideoWriter.fourcc(*'mp4v')


def check_picture_name(path: str | Path) -> None:
    """Raise DFERError where OpenCV writes no pictures of this suffix."""
    if not cv2.haveImageWriter(str(path)):
        raise DFERError(f'{path}: OpenCV writes no pictures of this kind; name it *.png')


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a picture in the format that the suffix names.

    Args:
        path: The file.
        picture: (H, W, 3) in RGB, uint8.

    Raises:
        OSError: The file cannot be written.
    """
    # cv2.imwrite returns whether it could write, and leaves a part of a file where it could not.
    _, content = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    path.write_bytes(content.tobytes())


def write_video(path: Path, frames: Iterable[np.ndarray], size: int) -> None:
    """Write an MPEG-4 video and check that all of it is in the file.

    Args:
        path: The file, named ``*.mp4``.
        frames: (size, size, 3) each, in RGB, uint8.
        size: Side of the frames in pixels.

    Raises:
        OSError: The file cannot be written.
    """
    count = 0
    writer = cv2.VideoWriter(str(path), _CODEC, FPS, (size, size))
    if writer.isOpened():
        for frame in frames:
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
            count += 1
    writer.release()
    if not (count and _is_complete(path, count)):
        raise OSError(errno.EIO, 'OpenCV did not write the whole video', str(path))


def _is_complete(path: Path, count: int) -> bool:
    """Return whether an MP4 file ends where its last box does, and has this many frames.

    The list of frames is written last, so that a file with a whole one has all frames, too.
    """
    with path.open('rb') as file:
        end, position = file.seek(0, 2), 0
        while position < end:
            file.seek(position)
            length = int.from_bytes(file.read(4), 'big')
            if length < 8:  # 0 and 1 stand for lengths over 4 GB; less than 8 is no box
                return False
            position += length
    if position != end:
        return False
    capture = cv2.VideoCapture(str(path))
    frames = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    capture.release()
    return frames == count
