"""Provide the transforms that open a clip (a folder or a video) and decode its sampled frames."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmaction.registry import TRANSFORMS

from mmdfer.datasets.transforms.frame_reader import FolderReader
from mmdfer.datasets.transforms.video_reader import VideoReader


class ClipReader(Protocol):
    """Define the methods that both readers of a clip have, VideoReader and FolderReader."""

    def __len__(self) -> int:
        """Return the number of frames in the clip."""

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield all frames of the clip in order, each RGB uint8 (H, W, 3)."""

    def read(self, numbers: Sequence[int]) -> list[np.ndarray]:
        """Return the frames with the given numbers, each RGB uint8 (H, W, 3)."""


# ---------------------------------------------------------------- transforms


@TRANSFORMS.register_module()
class ClipInit(BaseTransform):
    """Open a clip for sampling and decoding, whether the clip is a folder of pictures or a video.

    Required keys: ``filename``. Added keys: ``video_reader``, ``total_frames`` and ``start_index``,
    which is 0. For a video, ``avg_fps`` is added too, as MMAction2's DecordInit does.

    Args:
        num_threads: Number of threads of the video decoder. The default is 1.
    """

    def __init__(self, num_threads: int = 1) -> None:
        self.num_threads = num_threads

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Open the clip at ``results['filename']`` and add the reader and the number of frames.

        Args:
            results: The sample's dictionary, with ``filename``.

        Returns:
            The same dictionary with the added keys that the class lists.

        Raises:
            UnreadableClipError: If the video cannot be read or the folder contains no picture.
        """
        path = results['filename']
        if os.path.isdir(path):
            reader: ClipReader = FolderReader(path)
        else:
            reader = VideoReader(path, self.num_threads)
            results['avg_fps'] = reader.fps
        results.update(video_reader=reader, total_frames=len(reader), start_index=0)
        return results


@TRANSFORMS.register_module()
class ClipDecode(BaseTransform):
    """Decode the sampled frames of a clip that ClipInit opened.

    In a folder, a picture that cannot be read is replaced by the nearest readable picture. If the
    dataset has put a list into the results as ``unreadable``, the names of the unreadable pictures
    are appended to the list. Face croppers may write frames of different sizes. Then all frames of
    the clip are resized to the size of the largest frame, so that a later crop or flip shows the
    same part of each frame.

    Required keys: the keys that ClipInit adds, and ``frame_inds``. Added keys: ``imgs`` (a list of
    RGB uint8 arrays (H, W, 3)), ``original_shape`` and ``img_shape``, both (H, W).
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Decode the frames with the numbers in ``results['frame_inds']``.

        Args:
            results: The sample's dictionary, with the keys of ClipInit and ``frame_inds``.

        Returns:
            The same dictionary without ``video_reader`` and with the keys that the class adds.

        Raises:
            UnreadableClipError: If no picture of the folder can be read or the video is damaged.
        """
        reader = results.pop('video_reader')
        results['frame_inds'] = np.asarray(results['frame_inds']).reshape(-1)
        imgs = _resize_to_largest(_separate(reader.read(results['frame_inds'])))
        if isinstance(reader, FolderReader):
            results.get('unreadable', []).extend(reader.unreadable)
        results.update(imgs=imgs, original_shape=imgs[0].shape[:2], img_shape=imgs[0].shape[:2])
        return results


def _separate(imgs: list[np.ndarray]) -> list[np.ndarray]:
    """Copy frames that are listed more than once, because Flip changes each frame in place."""
    seen: set[int] = set()
    separate = []
    for img in imgs:
        separate.append(img.copy() if id(img) in seen else img)
        seen.add(id(img))
    return separate


def _resize_to_largest(imgs: list[np.ndarray]) -> list[np.ndarray]:
    """Resize frames of different sizes to the size of the frame with the largest area."""
    height, width = max((img.shape[:2] for img in imgs), key=lambda shape: shape[0] * shape[1])
    return [
        img if img.shape[:2] == (height, width) else cv2.resize(img, (width, height))
        for img in imgs
    ]
