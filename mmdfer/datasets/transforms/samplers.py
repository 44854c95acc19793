"""Provide the samplers, which are transforms that choose the frames of a clip to decode."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from mmaction.datasets.transforms import UniformSample
from mmaction.registry import TRANSFORMS

from mmdfer.errors import DFERError

SHORT = ('last', 'first')


@TRANSFORMS.register_module()
class SampleTSN(BaseTransform):
    """Sample ``duration`` consecutive frames from each of ``num_segments`` segments.

    In a clip of N frames, a run of ``duration`` frames can start at P = N - duration + 1 places. In
    training, the run of segment i starts at ``i * a`` plus a random integer below ``a``, with
    ``a = P // num_segments``. So the last ``P % num_segments`` places are never used. In testing,
    the run starts at ``(i + 1/2) * P / num_segments``, rounded down.

    The sampling follows the authors' code of DFER-CLIP (16 segments, short='last'), IAL (16
    segments) and Former-DFER (8 segments of 2 frames, short='first').

    Required keys: ``total_frames``, ``start_index``. Added keys: ``frame_inds``, ``clip_len``,
    ``frame_interval``, ``num_clips``.

    Args:
        num_segments: Number of segments of a clip.
        duration: Number of consecutive frames from each segment. If a run exceeds the end of the
            clip, the last frame is repeated.
        short: How to sample a clip with fewer places than segments. ``'last'`` takes the frames in
            order and repeats the last frame. ``'first'`` starts every segment at the first frame.
        test_mode: Whether to start at the centres of the segments instead of at random places.
    """

    def __init__(
        self,
        num_segments: int = 16,
        duration: int = 1,
        short: str = 'last',
        test_mode: bool = False,
    ) -> None:
        if short not in SHORT:
            raise DFERError(f"SampleTSN: short must be 'last' or 'first', got {short!r}")
        self.num_segments, self.duration = num_segments, duration
        self.short, self.test_mode = short, test_mode

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the numbers of the sampled frames to ``results`` as ``frame_inds``."""
        frames = results['total_frames']
        runs = self._starts(frames)[:, None] + np.arange(self.duration)
        places = np.minimum(runs, frames - 1).reshape(-1) + results['start_index']
        results.update(
            frame_inds=places.astype(np.int32),
            clip_len=len(places),
            frame_interval=1,
            num_clips=1,
        )
        return results

    def _starts(self, frames: int) -> np.ndarray:
        """Return the first frame (num_segments,) of each segment's run in a clip."""
        segments = np.arange(self.num_segments)
        places = frames - self.duration + 1
        step = places // self.num_segments
        if self.test_mode and places > self.num_segments:
            width = places / self.num_segments
            return (width / 2 + width * segments).astype(int)
        if not self.test_mode and step > 0:
            return segments * step + np.random.randint(step, size=self.num_segments)
        if self.short == 'last':
            return np.minimum(segments, frames - 1)
        return np.zeros_like(segments)


@TRANSFORMS.register_module()
class SampleSegments(UniformSample):
    """Sample one frame from each of ``clip_len`` equal segments of a clip.

    The frame is a random frame of the segment in training and the central frame in testing. The
    segments divide all N frames of the clip. So if N = ``clip_len`` = 16, each frame is sampled
    once, whereas MMAction2's UniformSample repeats one frame and drops the last. If N <
    ``clip_len``, the frames are repeated evenly in training and in testing: sample i is frame
    ``i * N // clip_len``.

    Args:
        clip_len: Number of frames to sample.
        num_clips: Number of samples of ``clip_len`` frames from each clip. In testing with more
            than one, their frames are spread evenly over each segment.
        test_mode: Whether to take the central frame of each segment instead of a random frame.
    """

    def _get_sample_clips(self, num_frames: int) -> np.ndarray:
        """Return the sampled frames (num_clips * clip_len,), each in 0..num_frames - 1."""
        edges = np.arange(self.clip_len + 1) * num_frames // self.clip_len
        first, length = edges[:-1], np.diff(edges)
        if num_frames <= self.clip_len:
            return np.tile(first, self.num_clips)
        if self.test_mode:
            share = (np.arange(self.num_clips)[:, None] + 0.5) / self.num_clips  # 1/2 for one clip
        else:
            share = np.random.random_sample((self.num_clips, self.clip_len))
        return (first + np.floor(share * length).astype(int)).reshape(-1)
