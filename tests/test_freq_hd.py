"""Test Freq-HD: its two modules against loops and scipy, and its choice in known clips."""

from __future__ import annotations

import cmath
import tracemalloc
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.stats import theilslopes

from mmaction.registry import DATASETS

from mmdfer.datasets import ClipDecode, ClipInit, SampleFreqHD, SampleSegments
from mmdfer.datasets.transforms.freq_hd import line_distances, split_bands, temporal_power
from mmdfer.errors import DFERError, UnreadableClipError

FRAMES, SIDE = 60, 112


def clip(moves: range, seed: int = 0) -> np.ndarray:
    """Draw a still picture, uint8 (T, H, W, 3), with changing texture in the frames ``moves``."""
    rng = np.random.default_rng(seed)
    still = cv2.resize(rng.uniform(60, 190, (7, 7)), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    frames = np.repeat(still[None], FRAMES, axis=0) + rng.normal(0, 1, (FRAMES, SIDE, SIDE))
    for number in moves:
        texture = rng.normal(0, 20, (SIDE // 2, SIDE // 2)).repeat(2, 0).repeat(2, 1)
        frames[number] += texture
    return np.clip(frames, 0, 255).astype(np.uint8)[..., None].repeat(3, axis=3)


def as_folder(path: Path, frames: np.ndarray, suffix: str = 'png') -> Path:
    path.mkdir(parents=True)
    for number, frame in enumerate(frames, 1):
        Image.fromarray(frame).save(path / f'{number}.{suffix}')
    return path


def as_video(path: Path, frames: np.ndarray) -> Path:
    size = frames.shape[2], frames.shape[1]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 25, size)
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


def pick(path: Path, clip_len: int = 16, **options: Any) -> dict[str, Any]:
    opened = ClipInit()(dict(filename=str(path), start_index=0))
    return SampleFreqHD(clip_len, **options)(opened)


# ------------------------------------------------------- spatial-temporal frequency analysis


@pytest.mark.parametrize('window', [2, 3, 4, 7, 16])
def test_temporal_power_equals_the_fourier_sums_written_out(window: int) -> None:
    pixels = np.random.default_rng(0).uniform(0, 255, (19, 3))
    by_hand = []
    for first in range(19 - window + 1):
        power = 0.0
        for pixel in pixels[first : first + window].T:
            for k in range(window // 2, window):
                terms = (
                    x * cmath.exp(-2j * cmath.pi * k * n / window) for n, x in enumerate(pixel)
                )
                power += abs(sum(terms)) ** 2
        by_hand.append(power / (window * 3))
    np.testing.assert_allclose(temporal_power(pixels, window), by_hand, rtol=1e-9)


def test_bands_part_at_20_cycles_a_picture() -> None:
    columns = np.arange(SIDE) / SIDE
    for cycles in (0, 5, 20, 40):
        grating = np.tile(
            np.cos(2 * np.pi * cycles * columns), (1, SIDE, 1)
        )  # varies along the width
        for frames in (grating, grating.transpose(0, 2, 1)):  # and then along the height
            low, high = split_bands(frames)
            share = np.exp(-0.5 * (cycles / 20) ** 2)
            np.testing.assert_allclose(low, share * frames, atol=1e-9)
            np.testing.assert_allclose(high, (1 - share) * frames, atol=1e-9)


# ------------------------------------------------------- multi-band complementary selection


def test_the_line_is_scipys_of_theil_and_sen() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, 31)
    y = 0.3 + 0.6 * x + rng.normal(0, 0.02, 31)
    y[[3, 17, 20]] += 2  # outliers, which would change a least-squares fit
    slope, intercept, *_ = theilslopes(y, x, method='joint')
    np.testing.assert_allclose(line_distances(x, y), np.abs(y - slope * x - intercept))
    assert set(np.argsort(line_distances(x, y))[-3:]) == {3, 17, 20}
    np.testing.assert_allclose(line_distances(np.ones(4), np.arange(4.0)), [1.5, 0.5, 0.5, 1.5])


def test_a_cut_is_not_mistaken_for_a_moving_face() -> None:
    """Change the scene once, which changes low frequencies far more than high frequencies."""
    grey = clip(range(20, 36))[..., 0].astype(float)
    grey[45:] = 255 - clip(range(0), seed=1)[45:, ..., 0]
    grey[45:] += np.random.default_rng(2).normal(
        0, 45, (SIDE, SIDE)
    )  # the second scene has another texture
    low, high = (temporal_power(b.reshape(FRAMES, -1), 4) for b in split_bands(grey))
    assert high[42:45].max() > high[:42].max()  # the power without the line would pick the cut
    weights = SampleFreqHD(16).weigh(grey)
    assert weights[42:45].max() < 0.1 * weights[20:33].min()
    # The formula, with the line fitted by scipy.
    x, y = high / high.max(), low / low.max()
    slope, intercept, *_ = theilslopes(y, x, method='joint')
    expected = high * np.exp(-10 * np.abs(y - slope * x - intercept))
    np.testing.assert_allclose(weights, expected, rtol=1e-9)


def test_a_long_clip_is_weighed_in_chunks_of_bounded_memory() -> None:
    """Limit the memory: 1,500 frames take 600 MB in one piece, and a chunk has 64 frames."""
    frames = clip(range(20, 36))[..., 0]
    long = (frames[i % FRAMES] for i in range(1500))
    tracemalloc.start()
    weights = SampleFreqHD(16).weigh(long)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert weights.shape == (1497,) and peak < 150e6
    noise = np.random.default_rng(1).normal(0, 3, (200, SIDE, SIDE))
    whole = np.stack([frames[i % FRAMES] for i in range(200)]) + noise
    low, high = (temporal_power(b.reshape(200, -1), 4) for b in split_bands(whole))
    x, y = high / high.max(), low / low.max()
    expected = high * np.exp(-10 * line_distances(x, y))
    # Each chunk subtracts a mean of its own, which changes the rounding.
    np.testing.assert_allclose(SampleFreqHD(16).weigh(whole), expected, rtol=1e-6)


def test_the_line_of_many_points_is_fitted_through_some() -> None:
    x = np.linspace(0, 1, 5000)
    y = 0.2 + 0.5 * x
    y[::50] += 3
    expected = np.zeros(5000)
    expected[::50] = 3
    np.testing.assert_allclose(line_distances(x, y), expected, atol=1e-9)


# ------------------------------------------------------------------------ what is picked


@pytest.mark.parametrize('first', [0, 7, 30, 44])
def test_it_picks_the_stretch_that_moves(first: int, tmp_path: Path) -> None:
    frames = clip(range(first, first + 16))
    folder = pick(as_folder(tmp_path / 'frames', frames))
    video = pick(as_video(tmp_path / 'clip.mp4', frames))
    for results in (folder, video):
        found = results['frame_inds']
        assert np.array_equal(found, found[0] + np.arange(16)) and found.dtype == np.int32
        # A window that begins a little earlier or later may have as much motion.
        assert abs(found[0] - first) <= 3
        keys = ('clip_len', 'num_clips', 'frame_interval')
        assert [results[key] for key in keys] == [16, 1, 1]
    weights = SampleFreqHD(16).weigh(frames[..., 0])  # windows of 4 frames; 16 frames have 13
    runs = [weights[start : start + 13].sum() for start in range(FRAMES - 16 + 1)]
    assert folder['frame_inds'][0] == np.argmax(runs)
    shown = np.stack(ClipDecode()(folder)['imgs'])
    np.testing.assert_array_equal(shown, frames[folder['frame_inds']])
    assert np.stack(ClipDecode()(video)['imgs']).shape == shown.shape  # the reader is still open


def test_freq_hd_draws_no_random_number(tmp_path: Path) -> None:
    path = as_folder(tmp_path / 'frames', clip(range(0), seed=3))  # only noise
    picks = []
    for seed in range(3):
        np.random.seed(seed)
        state = np.random.get_state()[1].copy()
        picks.append(pick(path)['frame_inds'].tolist())
        assert np.array_equal(np.random.get_state()[1], state)
    assert picks[0] == picks[1] == picks[2]


def test_start_index_is_added(tmp_path: Path) -> None:
    opened = ClipInit()(dict(filename=str(as_folder(tmp_path / 'frames', clip(range(30, 46))))))
    zero = SampleFreqHD(16)(dict(opened))['frame_inds']
    # A folder whose first two pictures are before the clip, which is pictures 2 to 59.
    later = SampleFreqHD(16)(dict(opened, start_index=2, total_frames=FRAMES - 2))['frame_inds']
    assert np.array_equal(zero, later)


def test_a_window_as_long_as_the_clip_picks_the_heaviest_window(tmp_path: Path) -> None:
    frames = clip(range(25, 41))
    results = pick(as_folder(tmp_path / 'frames', frames), window=16)
    weights = SampleFreqHD(16, window=16).weigh(frames[..., 0])
    assert results['frame_inds'][0] == weights.argmax()


@pytest.mark.parametrize('count', [1, 5, 15, 16])
def test_a_short_clip_repeats_its_frames(count: int, tmp_path: Path) -> None:
    path = as_folder(tmp_path / 'frames', clip(range(8))[:count])
    sampled = SampleSegments(16, test_mode=True)(dict(total_frames=count, start_index=0))
    assert np.array_equal(pick(path)['frame_inds'], sampled['frame_inds'])


def test_of_a_still_clip_the_first_frames_are_picked(tmp_path: Path) -> None:
    path = as_folder(tmp_path / 'frames', np.full((20, 24, 24, 3), 90, np.uint8))
    assert pick(path)['frame_inds'].tolist() == list(range(16))


# ------------------------------------------------------------------------ in a pipeline


def test_freq_hd_replaces_a_sampler_in_a_pipeline(data_root: Path) -> None:
    pipeline = [
        dict(type='ClipInit'),
        dict(type='SampleFreqHD', clip_len=16),
        dict(type='ClipDecode'),
        dict(type='FormatShape', input_format='NCTHW'),
        dict(type='PackActionInputs'),
    ]
    views = []
    for sampler in ([], [dict(type='ShuffleFrames')]):
        dataset = DATASETS.build(
            dict(
                type='SynthDFER',
                data_root=str(data_root / 'synth'),
                split='test',
                num_train=32,
                num_test=14,
                pipeline=pipeline[:2] + sampler + pipeline[2:],
                test_mode=True,
            )
        )
        views.append(dataset[0]['inputs'])
        assert views[-1].shape[:3] == (1, 3, 16)
    assert not views[0].equal(views[1])
    assert views[0].sum() == views[1].sum()  # the same frames in another order


def test_damaged_pictures_are_passed_over(tmp_path: Path) -> None:
    path = as_folder(tmp_path / 'frames', clip(range(30, 46)))
    whole = pick(path)['frame_inds']
    noted: list[str] = []
    (path / '3.png').write_bytes(b'')
    opened = ClipInit()(dict(filename=str(path), unreadable=noted))
    results = SampleFreqHD(16)(opened)
    assert np.array_equal(results['frame_inds'], whole) and noted == []
    for picture in path.iterdir():
        picture.write_bytes(b'')
    with pytest.raises(UnreadableClipError, match='none of its 60 pictures'):
        SampleFreqHD(16)(opened)


@pytest.mark.parametrize('window', [1, 17])
def test_a_window_that_fits_no_clip_is_refused(window: int) -> None:
    with pytest.raises(DFERError, match=f'window must be within 2..clip_len=16, got {window}'):
        SampleFreqHD(16, window=window)
