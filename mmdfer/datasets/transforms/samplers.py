"""Transforms that choose which frames of a clip are read."""

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

    A clip of N frames has P = N - duration + 1 places where a run of frames can start. In training
    segment i starts at ``i * a`` plus a random number below ``a``, where ``a = P // num_segments``:
    the last frames of a clip are never seen. In testing it starts at ``(i + 1/2) * P /
    num_segments``, rounded down.

    From the authors' code of DFER-CLIP (16 segments, short='last'), IAL (16 segments) and
    Former-DFER (8 segments of 2 frames, short='first').

    Required keys: ``total_frames``, ``start_index``. Added keys: ``frame_inds``, ``clip_len``,
    ``frame_interval``, ``num_clips``.

    Args:
        num_segments: Segments of a clip.
        duration: Consecutive frames of each; the last frame is repeated where a clip ends.
        short: How a clip with fewer places than segments is filled: ``'last'`` takes its frames in
            order and repeats the last; ``'first'`` starts every segment at the first.
        test_mode: Whether to take the centres.
    """

    def __init__(
        self,
        num_segments: int = 16,
        duration: int = 1,
        short: str = 'last',
        test_mode: bool = False,
    ) -> None:
        if short not in SHORT:
            raise DFERError(f'SampleTSN: short must be one of {", ".join(SHORT)}, got {short!r}')
        self.num_segments, self.duration = num_segments, duration
        self.short, self.test_mode = short, test_mode

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Sample the frames."""
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
        """Return where each segment starts, (num_segments,)."""
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
    """One frame of each of ``clip_len`` equal segments: random in training, central in testing.

    The segments divide all N frames, so that 16 frames of 16 are each shown once (MMAction2's
    UniformSample then repeats one and drops the last). A clip of N < ``clip_len`` frames repeats
    them evenly, in training as in testing: place i shows frame ``i * N // clip_len``.

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
