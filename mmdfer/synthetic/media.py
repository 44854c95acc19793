"""Write pictures and videos, and raise an error if a file is incomplete.

OpenCV itself reports no error when the disk is full.
"""

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
    """Raise DFERError if OpenCV cannot write pictures with the suffix of this file name."""
    if not cv2.haveImageWriter(str(path)):
        raise DFERError(
            f'{path}: OpenCV cannot write pictures with this suffix; give a name that ends in .png'
        )


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a picture in the format that the file's suffix names.

    Args:
        path: Path of the file to write.
        picture: The picture, RGB uint8 (H, W, 3).

    Raises:
        OSError: If the file cannot be written.
    """
    # cv2.imwrite would only return False on a failure, and leave an incomplete file.
    _, content = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    path.write_bytes(content.tobytes())


def write_video(path: Path, frames: Iterable[np.ndarray], size: tuple[int, int]) -> None:
    """Write an MPEG-4 video, and check that the file is complete.

    Args:
        path: Path of the file to write. The name must end in ``.mp4``.
        frames: The frames in order, each RGB uint8 (height, width, 3).
        size: Width and height of the frames in pixels.

    Raises:
        OSError: If the file cannot be written completely, or if there are no frames.
    """
    count = 0
    writer = cv2.VideoWriter(str(path), _CODEC, FPS, size)
    if writer.isOpened():
        for frame in frames:
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
            count += 1
    writer.release()
    if not (count and _is_complete(path, count)):
        raise OSError(errno.EIO, 'OpenCV did not write the whole video', str(path))


def _is_complete(path: Path, count: int) -> bool:
    """Return whether an MP4 file ends with its last box and has the given number of frames.

    OpenCV writes the list of frames last. So a file with a complete list contains all frames.
    """
    with path.open('rb') as file:
        end, position = file.seek(0, 2), 0
        while position < end:
            file.seek(position)
            length = int.from_bytes(file.read(4), 'big')
            if length < 8:  # invalid; 0 and 1 announce boxes over 4 GB, which no video here has
                return False
            position += length
    if position != end:
        return False
    capture = cv2.VideoCapture(str(path))
    frames = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    capture.release()
    return frames == count
