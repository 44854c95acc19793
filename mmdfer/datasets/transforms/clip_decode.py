"""Transforms that open a clip, whether pictures or a video, and decode its sampled frames."""

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
    """What ClipInit opens: a VideoReader or a FolderReader."""

    def __len__(self) -> int:
        """Return the number of frames."""

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield all frames in order, RGB uint8 (H, W, 3)."""

    def read(self, numbers: Sequence[int]) -> list[np.ndarray]:
        """Return some frames."""


# ---------------------------------------------------------------- transforms


@TRANSFORMS.register_module()
class ClipInit(BaseTransform):
    """Open a clip: a folder of pictures, or a video.

    Required keys: ``filename``. Added keys: ``video_reader``, ``total_frames``, ``start_index``,
    which is 0; of a video ``avg_fps``, as DecordInit does.

    Args:
        num_threads: Of the video decoder.
    """

    def __init__(self, num_threads: int = 1) -> None:
        self.num_threads = num_threads

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Open the clip.

        Raises:
            UnreadableClipError: The video cannot be read, or there is no picture in the folder.
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
    """Decode the sampled frames of what ClipInit opened.

    Of a folder, the nearest readable picture takes the place of one that is not. A dataset that
    asks for it gives a list as ``unreadable``, to which the names are added. Where the frames
    differ in size, as face croppers write them, all are resized to the largest, so that the crops
    and flips that follow show the same part of each.

    Required keys: those of ClipInit, and ``frame_inds``. Added keys: ``imgs``, RGB uint8 (H, W, 3)
    for each; ``original_shape``; ``img_shape``.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Decode.

        Raises:
            UnreadableClipError: No picture of the folder can be read, or the video is damaged.
        """
        reader = results.pop('video_reader')
        results['frame_inds'] = np.asarray(results['frame_inds']).reshape(-1)
        imgs = _of_one_size(reader.read(results['frame_inds']))
        if isinstance(reader, FolderReader):
            results.get('unreadable', []).extend(reader.unreadable)
        results.update(imgs=imgs, original_shape=imgs[0].shape[:2], img_shape=imgs[0].shape[:2])
        return results


def _of_one_size(imgs: list[np.ndarray]) -> list[np.ndarray]:
    """Resize pictures to the one of them with the largest area, where they differ in size."""
    height, width = max((img.shape[:2] for img in imgs), key=lambda shape: shape[0] * shape[1])
    return [
        img if img.shape[:2] == (height, width) else cv2.resize(img, (width, height))
        for img in imgs
    ]
