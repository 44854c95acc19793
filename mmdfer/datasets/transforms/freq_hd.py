"""Freq-HD: the stretch of a clip in which the face moves most, found by its frequencies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmaction.registry import TRANSFORMS

from mmdfer.datasets.transforms.frame_reader import FolderReader
from mmdfer.datasets.transforms.samplers import SampleSegments
from mmdfer.datasets.transforms.video_reader import VideoReader
from mmdfer.errors import DFERError

SIZE = 112  # H and W in which the frames are analysed
CUTOFF = 20  # cycles per picture: the Gaussian's deviation that parts low from high
SUPPRESSION = 10  # of windows that lie off the line
CHUNK = 64  # frames analysed at a time: a long film need not fit into memory
LINE_POINTS = 1000  # windows through which the line is fitted at most: it takes all pairs of them


@TRANSFORMS.register_module()
class SampleFreqHD(BaseTransform):
    """Picks ``clip_len`` consecutive frames of high dynamics (Freq-HD; Tao et al., ACM MM 2023).

    Stands where a sampler does, between ClipInit and ClipDecode::

        dict(type='ClipInit'), dict(type='SampleFreqHD', clip_len=16), dict(type='ClipDecode')

    *Spatial-temporal frequency analysis*: a Gaussian parts each grey frame into low and high
    spatial frequencies; of each band the power of the upper temporal frequencies is taken in a
    window that slides over the clip. *Multi-band complementary selection*: a line is fitted
    through the windows' (high, low); the farther a window lies off it, as at a cut or a change of
    light, the less its high power counts.

    From the paper: the two modules. From the authors' code: grey frames, the Gaussian of 20 cycles,
    windows of 4 frames, the temporal frequencies from one half on, the factor of 10 in the
    exponent. Ours: frames are analysed at 112, not 224; the line is Theil and Sen's, where theirs
    is RANSAC's: it draws nothing at random and exists for every clip; the clip is the run of frames
    whose windows weigh most together, the first of equals.

    Nothing is drawn at random: the views of a clip in training differ in crop and flip alone. Every
    frame is decoded to be analysed, a chunk of frames at a time. A clip of at most ``clip_len``
    frames is not analysed; its frames are repeated as by SampleSegments.

    Required keys: those of ClipInit. Added keys: ``frame_inds``, ``clip_len``, ``frame_interval``,
    ``num_clips``.

    Args:
        clip_len: Frames to pick.
        window: Frames of the sliding window.

    Raises:
        DFERError: A window of fewer than 2 frames, or of more than ``clip_len``.
    """

    def __init__(self, clip_len: int, window: int = 4) -> None:
        if not 2 <= window <= clip_len:
            raise DFERError(f'SampleFreqHD: window={window}, not in 2..clip_len={clip_len}')
        self.clip_len, self.window = clip_len, window
        self.short = SampleSegments(clip_len, test_mode=True)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Picks the frames.

        Raises:
            UnreadableClipError: No picture of the folder can be read.
        """
        if results['total_frames'] <= self.clip_len:
            return self.short(results)
        weights = self.weigh(iterate_grey(results))
        runs = np.convolve(weights, np.ones(self.clip_len - self.window + 1), 'valid')
        picked = runs.argmax() + np.arange(self.clip_len) + results['start_index']
        results.update(
            frame_inds=picked.astype(np.int32),
            clip_len=self.clip_len,
            frame_interval=1,
            num_clips=1,
        )
        return results

    def weigh(self, frames: Iterable[np.ndarray]) -> np.ndarray:
        """Return the dynamicity of each window (T - window + 1,) of T grey frames (H, W)."""
        powers = []
        for chunk in _overlapping(frames, CHUNK, self.window - 1):
            bands = split_bands(np.stack(chunk))
            powers.append([temporal_power(b.reshape(len(b), -1), self.window) for b in bands])
        low, high = np.concatenate(powers, axis=1)
        return high * np.exp(-SUPPRESSION * off_the_line(_to_one(high), _to_one(low)))


def iterate_grey(results: dict[str, Any]) -> Iterator[np.ndarray]:
    """Yield all frames of a clip that ClipInit opened, grey and small: (SIZE, SIZE).

    A picture that cannot be read is noted later, when it is picked.

    Raises:
        DFERError: Another transform opened the clip.
    """
    reader, first = results['video_reader'], results['start_index']
    if not isinstance(reader, VideoReader | FolderReader):
        raise DFERError(
            f'SampleFreqHD: {results["filename"]} was opened by another transform; '
            "put dict(type='ClipInit') and dict(type='ClipDecode') around it"
        )
    for img in islice(reader, first, first + results['total_frames']):
        img = cv2.cvtColor(img, cv2.COLOR_RGB2GRAY)
        yield cv2.resize(img, (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def _overlapping(
    frames: Iterable[np.ndarray], size: int, overlap: int
) -> Iterator[list[np.ndarray]]:
    """Yield chunks of ``size`` new frames, each begun by the last ``overlap`` of the one before."""
    frames = iter(frames)
    chunk = list(islice(frames, overlap))
    while new := list(islice(frames, size)):
        yield [*chunk, *new]
        chunk = [*chunk, *new][-overlap:]


def split_bands(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parts grey frames (T, H, W) into low and high spatial frequencies, each (T, H, W)."""
    height, width = frames.shape[1:]
    rows, columns = np.fft.fftfreq(height, 1 / height), np.fft.rfftfreq(width, 1 / width)
    gauss = np.exp(-0.5 * (rows[:, None] ** 2 + columns**2) / CUTOFF**2)  # (H, W // 2 + 1)
    frames = frames.astype(float)
    low = np.fft.irfft2(np.fft.rfft2(frames) * gauss, s=(height, width))
    return low, frames - low


def temporal_power(pixels: np.ndarray, window: int) -> np.ndarray:
    """The mean power of the frequencies from ``window // 2`` on, in each sliding window.

    With X_k the discrete Fourier transform of a pixel in a window, the sum of ``|X_k|^2`` over k and
    over all pixels is a sum of the frames' inner products, each times the sum of
    cos(2 pi k (n - m) / window): so the inner products are formed once for all windows.

    Args:
        pixels: (T, P).
        window: Frames of a window.

    Returns:
        (T - window + 1,).
    """
    pixels = pixels - pixels.mean(0)  # k = 0 is left out, so this changes only the rounding
    products = pixels @ pixels.T  # (T, T)
    lag = np.subtract.outer(np.arange(window), np.arange(window))
    upper = np.arange(window // 2, window)[:, None, None]
    cosines = np.cos(2 * np.pi * upper * lag / window).sum(0)  # (window, window)
    power = [
        (cosines * products[first : first + window, first : first + window]).sum()
        for first in range(len(pixels) - window + 1)
    ]
    return np.maximum(power, 0) / (window * pixels.shape[1])


def off_the_line(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The distance in y of each point (n,) from the line of Theil and Sen, (n,).

    Its slope is the median over all pairs of points, so that outliers do not move it. Of more than
    ``LINE_POINTS`` points it is fitted through as many, evenly spaced.
    """
    all_x, all_y = x, y
    if len(x) > LINE_POINTS:
        some = np.linspace(0, len(x) - 1, LINE_POINTS).round().astype(int)
        x, y = x[some], y[some]
    first, second = np.triu_indices(len(x), 1)
    run, rise = x[second] - x[first], y[second] - y[first]
    slopes = rise[run != 0] / run[run != 0]
    slope = np.median(slopes) if len(slopes) else 0.0
    return np.abs(all_y - slope * all_x - np.median(y - slope * x))


def _to_one(power: np.ndarray) -> np.ndarray:
    """Scaled so that the largest is 1; of a clip without change, zeros."""
    return power / power.max() if power.max() > 0 else power
