"""Clips that lie as folders of pictures: listing, sampling and decoding them in a pipeline.

MMAction2's RawframeDataset names frames by a template and so cannot read numbers with gaps, which
DFEW's have (its frames without a face are gone), nor count frames that a list counts wrongly.
"""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image

from mmaction.datasets.transforms import DecordDecode, DecordInit, UniformSample
from mmaction.registry import TRANSFORMS

from mmdfer.errors import DFERError

# The trailing number of a name is the frame's: 00001_00007.jpg, 16.jpg, frame-0003.png.
_PICTURE = re.compile(r'(?!\.).*?(\d+)\.(?:jpe?g|png|bmp)', re.IGNORECASE)

# What Pillow raises on a file that is no whole picture.
NO_PICTURE = (
    OSError,
    SyntaxError,
    ValueError,
    IndexError,
    struct.error,
    Image.DecompressionBombError,
)


class UnreadableClipError(DFERError):
    """Nothing of a clip can be read: its video is damaged, or each of its pictures."""


def list_frames(folder: str | os.PathLike) -> list[str]:
    """The pictures of a folder by the number at the end of their names: 2.jpg before 10.jpg.

    Left out are hidden files, other files (Thumbs.db, ``._1.jpg``) and pictures whose name does not
    end in a number.

    Raises:
        OSError: The folder cannot be listed.
    """
    found = [(int(m[1]), m[0]) for name in os.listdir(folder) if (m := _PICTURE.fullmatch(name))]
    return [name for _, name in sorted(found)]


def folder_of_frames(path: str) -> str | None:
    """The folder that holds a clip's pictures: ``path``, or the one of the same name inside.

    Returns:
        None where there is no picture that has a byte: not the clip's size but its entries count.
    """
    for folder in (path, os.path.join(path, os.path.basename(path))):
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if _PICTURE.fullmatch(entry.name) and entry.stat().st_size > 0:
                        return folder
        except (FileNotFoundError, NotADirectoryError):
            continue
    return None


def read_picture(path: str | os.PathLike) -> np.ndarray:
    """Decodes a picture to RGB, uint8 (H, W, 3).

    By Pillow: where a file is cut short, OpenCV fills the rest with grey in most releases.

    Raises:
        OSError, ValueError: Or another of ``NO_PICTURE``, if it is no whole picture.
    """
    content = Path(path).read_bytes()
    return mmcv.imfrombytes(content, channel_order='rgb', backend='pillow')


@TRANSFORMS.register_module()
class ClipInit(BaseTransform):
    """Opens a clip: a folder of pictures, which are listed, or a video, as DecordInit does.

    Required keys: ``filename``. Added keys: ``total_frames``; of a folder ``frames``, the names in
    natural order, and ``start_index``, 0; of a video ``video_reader``.

    Args:
        num_threads: Of the video decoder.
    """

    def __init__(self, num_threads: int = 1) -> None:
        self.video = DecordInit(num_threads=num_threads)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Opens the clip.

        Raises:
            UnreadableClipError: There is no picture in the folder.
        """
        folder = results['filename']
        if not os.path.isdir(folder):
            return self.video.transform(results)
        frames = list_frames(folder)
        if not frames:
            raise UnreadableClipError(
                f'{folder}: holds no picture whose name ends in a number; unpack it again'
            )
        results.update(frames=frames, total_frames=len(frames), start_index=0)
        return results


@TRANSFORMS.register_module()
class SampleSegments(UniformSample):
    """One frame of each of ``clip_len`` equal segments: random in training, central in testing.

    The segments divide all N frames, so that 16 frames of 16 are each shown once (MMAction2's
    UniformSample then repeats one and drops the last). A clip of N < ``clip_len`` frames repeats
    them evenly, in training as in testing: frame ``i * N // clip_len`` stands in place i.

    Args:
        clip_len: Frames to sample.
        num_clips: In testing, clips from one video, their frames spread over each segment.
        test_mode: Whether to take the central frames.
    """

    def _get_sample_clips(self, num_frames: int) -> np.ndarray:
        """The frames' places (num_clips * clip_len,), each in 0..num_frames - 1."""
        edges = np.arange(self.clip_len + 1) * num_frames // self.clip_len
        first, length = edges[:-1], np.diff(edges)
        if num_frames <= self.clip_len:
            return np.tile(first, self.num_clips)
        if self.test_mode:
            share = (np.arange(self.num_clips)[:, None] + 0.5) / self.num_clips  # 1/2 for one clip
        else:
            share = np.random.random_sample((self.num_clips, self.clip_len))
        return (first + np.floor(share * length).astype(int)).reshape(-1)


@TRANSFORMS.register_module()
class ClipDecode(BaseTransform):
    """Decodes the sampled frames of what ClipInit opened.

    Of a folder, the nearest readable picture takes the place of one that is not, of two equally
    near the earlier. A dataset that wants to know gives a list as ``unreadable``, to which the
    names are added.

    Required keys: those of ClipInit, and ``frame_inds``. Added keys: ``imgs``, RGB uint8 (H, W, 3)
    for each; ``original_shape``; ``img_shape``.
    """

    def __init__(self) -> None:
        self.video = DecordDecode()

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Decodes.

        Raises:
            UnreadableClipError: No picture of the folder can be read.
        """
        if 'frames' not in results:
            return self.video.transform(results)
        results['frame_inds'] = np.asarray(results['frame_inds']).reshape(-1)
        reader = _FolderReader(results['filename'], results['frames'])
        imgs = [reader.nearest(int(index)) for index in results['frame_inds']]
        results.get('unreadable', []).extend(reader.unreadable)
        results.update(imgs=imgs, original_shape=imgs[0].shape[:2], img_shape=imgs[0].shape[:2])
        return results


class _FolderReader:
    """Reads each picture of a folder at most once."""

    def __init__(self, folder: str, names: list[str]) -> None:
        self.folder, self.names = folder, names
        self.pictures: dict[int, np.ndarray | None] = {}

    def nearest(self, index: int) -> np.ndarray:
        """The picture at ``index``, or the nearest that can be read."""
        last = len(self.names) - 1
        for distance in range(len(self.names)):
            for i in dict.fromkeys((index - distance, index + distance)):
                if 0 <= i <= last and (picture := self._read(i)) is not None:
                    return picture
        raise UnreadableClipError(
            f'{self.folder}: none of its {len(self.names)} pictures can be read; unpack it again'
        )

    def _read(self, index: int) -> np.ndarray | None:
        if index not in self.pictures:
            try:
                self.pictures[index] = read_picture(Path(self.folder, self.names[index]))
            except NO_PICTURE:
                self.pictures[index] = None
        return self.pictures[index]

    @property
    def unreadable(self) -> list[str]:
        """Names of the pictures that were tried in vain."""
        return [self.names[i] for i, picture in self.pictures.items() if picture is None]
