"""Windows of frames that slide over a track, and iterators that are read ahead."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from mmdfer.inference.prefetch import prefetch
from mmdfer.inference.windows import FaceFrame, SlidingWindow


def cut(frames: int, length: int, stride: int) -> list[tuple[int, list[int]]]:
    """Return the middle and the frames of each window of a track, by their numbers."""
    sliding = SlidingWindow(length, stride)
    windows = []
    for number in range(frames):
        windows += sliding.add(FaceFrame(float(number), 1, (0, 0, 1, 1), 1.0, number))
    windows += sliding.end()
    return [(w.middle.encoded, [f.encoded for f in w.frames]) for w in windows]


@pytest.mark.parametrize('stride', [1, 3, 4, 7, 40])
@pytest.mark.parametrize('frames', [16, 17, 50, 133])
def test_windows_are_around_their_middle_and_inside_the_track(frames: int, stride: int) -> None:
    windows = cut(frames, 16, stride)
    assert [middle for middle, _ in windows] == list(range(0, frames, stride))
    for middle, numbers in windows:
        start = min(max(middle - 8, 0), frames - 16)
        assert numbers == list(range(start, start + 16))


@pytest.mark.parametrize('frames', [1, 2, 5, 15])
def test_a_short_track_repeats_its_frames_evenly(frames: int) -> None:
    windows = cut(frames, 16, 4)
    assert [middle for middle, _ in windows] == list(range(0, frames, 4))
    for _, numbers in windows:
        assert numbers == sorted(numbers) and set(numbers) == set(range(frames))
        counts = [numbers.count(number) for number in range(frames)]
        assert max(counts) - min(counts) <= 1


def test_the_frames_of_a_long_track_are_not_kept() -> None:
    sliding = SlidingWindow(16, 4)
    for number in range(10_000):
        list(sliding.add(FaceFrame(float(number), 1, (0, 0, 1, 1), 1.0, number)))
    assert len(sliding._frames) <= 2 * 16 + 4


def test_items_are_read_ahead_in_order() -> None:
    assert list(prefetch(range(100), 3)) == list(range(100))
    assert list(prefetch([], 3)) == []


def test_an_error_comes_after_the_items_before_it() -> None:
    def read() -> Iterator[int]:
        yield from (1, 2)
        raise ValueError('damaged')

    items = prefetch(read(), 8)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match='damaged'):
        next(items)


def test_the_source_is_closed_when_the_consumer_stops() -> None:
    closed = threading.Event()

    def read() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    items = prefetch(read(), 2)
    assert next(items) == 0
    items.close()
    assert closed.is_set()


def test_no_more_than_the_given_number_waits() -> None:
    read = []

    def source() -> Iterator[int]:
        for number in range(50):
            read.append(number)
            yield number

    items = prefetch(source(), 4)
    assert next(items) == 0
    threading.Event().wait(0.3)
    assert len(read) <= 1 + 4 + 1  # the yielded one, those that wait, and one that is being put
    assert list(items) == list(range(1, 50))
