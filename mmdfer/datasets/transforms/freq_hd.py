"""Provide Freq-HD, a sampler that finds the frames in which the face moves most.

Freq-HD compares the spatial and temporal frequencies of the frames of a clip. Source: Tao et al.,
"Freq-HD", ACM MM 2023.
"""

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

SIZE = 112  # height and width in pixels of the frames that are analysed
CUTOFF = 20  # standard deviation of the Gaussian low-pass filter, in cycles per frame width
SUPPRESSION = 10  # factor in the exponent that lowers the weight of windows far from the line
CHUNK = 64  # frames that are analysed at a time, so that a long video need not fit into memory
LINE_POINTS = 1000  # limit of the windows to which the line is fitted; the fit compares all pairs


@TRANSFORMS.register_module()
class SampleFreqHD(BaseTransform):
    """Sample the ``clip_len`` consecutive frames with the highest dynamics (Freq-HD).

    The transform takes the place of a sampler, between ClipInit and ClipDecode::

        dict(type='ClipInit'), dict(type='SampleFreqHD', clip_len=16), dict(type='ClipDecode')

    *Spatial-temporal frequency analysis*: a Gaussian splits each grey frame into a low and a high
    band of spatial frequencies. In each band, the power of the upper temporal frequencies is
    computed in a window that slides over the clip. *Multi-band complementary selection*: a line is
    fitted through the points (high power, low power) of all windows. The farther a window is from
    the line, as at a cut or a change of light, the less its high power counts.

    From the paper (Tao et al., ACM MM 2023): the two modules. From the authors' code: grey frames,
    the Gaussian of 20 cycles, windows of 4 frames, the upper half of the temporal frequencies, and
    the factor of 10 in the exponent. This package's own choices: frames are analysed at 112 x 112
    pixels instead of 224 x 224. The line is fitted by the method of Theil and Sen instead of
    RANSAC, because the former uses no random numbers and gives a line for every clip. The sampled
    frames are the run with the highest sum of window weights, and the first run if sums are equal.

    The sampler uses no random numbers, so the training views of a clip differ only in crop and
    flip. Every frame is decoded for the analysis, a chunk of frames at a time. A clip of at most
    ``clip_len`` frames is not analysed. Its frames are repeated as SampleSegments repeats them.

    Required keys: the keys that ClipInit adds. Added keys: ``frame_inds``, ``clip_len``,
    ``frame_interval``, ``num_clips``.

    Args:
        clip_len: Number of frames to sample.
        window: Number of frames of the sliding window.

    Raises:
        DFERError: If ``window`` is less than 2 or greater than ``clip_len``.
    """

    def __init__(self, clip_len: int, window: int = 4) -> None:
        if not 2 <= window <= clip_len:
            raise DFERError(
                f'SampleFreqHD: window must be within 2..clip_len={clip_len}, got {window}'
            )
        self.clip_len, self.window = clip_len, window
        self.short = SampleSegments(clip_len, test_mode=True)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the numbers of the sampled frames to ``results`` as ``frame_inds``.

        Args:
            results: The sample's dictionary, with the keys that ClipInit adds.

        Returns:
            The same dictionary with the added keys that the class lists.

        Raises:
            UnreadableClipError: If no picture of the folder can be read.
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
        """Compute the weight of each window, which is high where the face moves much.

        Args:
            frames: T grey frames (H, W) in order.

        Returns:
            The weights (T - window + 1,), one for each position of the window.
        """
        powers = []
        for chunk in _overlapping(frames, CHUNK, self.window - 1):
            bands = split_bands(np.stack(chunk))
            powers.append([temporal_power(b.reshape(len(b), -1), self.window) for b in bands])
        low, high = np.concatenate(powers, axis=1)
        return high * np.exp(-SUPPRESSION * line_distances(_scale_to_one(high), _scale_to_one(low)))


def iterate_grey(results: dict[str, Any]) -> Iterator[np.ndarray]:
    """Yield all frames of a clip that ClipInit opened, as grey frames (SIZE, SIZE).

    A picture that cannot be read is replaced here without a report. ClipDecode reports the picture
    if its frame is sampled.

    Args:
        results: The sample's dictionary, with the keys that ClipInit adds.

    Raises:
        DFERError: If a transform other than ClipInit opened the clip.
    """
    reader, first = results['video_reader'], results['start_index']
    if not isinstance(reader, VideoReader | FolderReader):
        raise DFERError(
            f'SampleFreqHD: {results["filename"]} was not opened by ClipInit; put '
            "dict(type='ClipInit') before SampleFreqHD and dict(type='ClipDecode') after it"
        )
    for img in islice(reader, first, first + results['total_frames']):
        img = cv2.cvtColor(img, cv2.COLOR_RGB2GRAY)
        yield cv2.resize(img, (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def _overlapping(
    frames: Iterable[np.ndarray], size: int, overlap: int
) -> Iterator[list[np.ndarray]]:
    """Split frames into overlapping chunks.

    Each chunk consists of the last ``overlap`` frames of the previous chunk and ``size`` new ones.
    """
    frames = iter(frames)
    chunk = list(islice(frames, overlap))
    while new := list(islice(frames, size)):
        yield [*chunk, *new]
        chunk = [*chunk, *new][-overlap:]


def split_bands(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split grey frames (T, H, W) into low and high spatial frequencies, each (T, H, W)."""
    height, width = frames.shape[1:]
    rows, columns = np.fft.fftfreq(height, 1 / height), np.fft.rfftfreq(width, 1 / width)
    gauss = np.exp(-0.5 * (rows[:, None] ** 2 + columns**2) / CUTOFF**2)  # (H, W // 2 + 1)
    frames = frames.astype(float)
    low = np.fft.irfft2(np.fft.rfft2(frames) * gauss, s=(height, width))
    return low, frames - low


def temporal_power(pixels: np.ndarray, window: int) -> np.ndarray:
    """Compute the mean power of the upper temporal frequencies in each sliding window.

    The upper frequencies are k = ``window // 2`` to ``window - 1``. Let X_k be the discrete Fourier
    transform of a pixel within a window. The sum of ``|X_k|^2`` over k and over all pixels equals a
    sum over all pairs of frames (n, m): their inner product times the sum over k of
    cos(2 pi k (n - m) / window). So the inner products are computed once for all windows.

    Args:
        pixels: Grey values (T, P) of P pixels in T frames.
        window: Number of frames of a window.

    Returns:
        The mean power (T - window + 1,) in each window.
    """
    # The frequency k = 0 is not used, so subtracting the mean changes only rounding errors.
    pixels = pixels - pixels.mean(0)
    products = pixels @ pixels.T  # (T, T)
    lag = np.subtract.outer(np.arange(window), np.arange(window))
    upper = np.arange(window // 2, window)[:, None, None]
    cosines = np.cos(2 * np.pi * upper * lag / window).sum(0)  # (window, window)
    power = [
        (cosines * products[first : first + window, first : first + window]).sum()
        for first in range(len(pixels) - window + 1)
    ]
    return np.maximum(power, 0) / (window * pixels.shape[1])


def line_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Fit a line by the method of Theil and Sen, and return each point's vertical distance from it.

    The slope of the line is the median of the slopes between all pairs of points, so that outliers
    do not change it much. If there are more than ``LINE_POINTS`` points, the line is fitted to
    ``LINE_POINTS`` evenly spaced points.

    Args:
        x: Abscissas (n,) of the points.
        y: Ordinates (n,) of the points.

    Returns:
        Absolute differences in y (n,) between the points and the line.
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


def _scale_to_one(power: np.ndarray) -> np.ndarray:
    """Scale the powers so that the largest is 1, and leave zeros of a static clip unchanged."""
    return power / power.max() if power.max() > 0 else power
