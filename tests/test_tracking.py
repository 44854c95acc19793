"""Following faces, with detectors that return given boxes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest

from mmdfer.faces import Box, Face, TrackedFace, WholePicture, follow_faces

FPS = 25
Boxes = Callable[[int], Sequence[Box]]


class Script:
    """A detector that returns the given boxes for the frame whose number is in the first pixel."""

    def __init__(self, boxes: Boxes, score: Callable[[int], float] = lambda number: 0.9) -> None:
        self.boxes, self.score, self.seen = boxes, score, list[int]()

    def detect(self, image: np.ndarray) -> list[Face]:
        number = int(image[0, 0, 0]) + 256 * int(image[0, 0, 1])
        self.seen.append(number)
        return [Face(box, self.score(number)) for box in self.boxes(number)]


def draw(number: int, picture: np.ndarray | None = None) -> np.ndarray:
    image = np.full((48, 64, 3), 90, np.uint8) if picture is None else picture.copy()
    image[0, 0] = number % 256, number // 256, 0
    return image


def noise(seed: int) -> np.ndarray:
    return (
        np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    )


def film(pictures: Sequence[np.ndarray | None], fps: float = FPS) -> Iterator:
    for number, picture in enumerate(pictures):
        yield number / fps, draw(number, picture)


def follow(
    detector: Script, count: int, all_faces: bool = True, every: float = 0.2, fps: float = FPS
) -> list[list[TrackedFace]]:
    results = list(follow_faces(film([None] * count, fps), detector, every, all_faces))
    assert [round(time * fps) for time, *_ in results] == list(range(count))
    for number, (_, image, _) in enumerate(results):
        assert np.array_equal(image, draw(number))
    return [faces for *_, faces in results]


def square(x: float, y: float = 100.0, side: float = 80.0) -> Box:
    return x - side / 2, y - side / 2, x + side / 2, y + side / 2


def center(face: TrackedFace) -> float:
    return (face.box[0] + face.box[2]) / 2


# ---------------------------------------------------------------- between key frames


def test_boxes_are_interpolated_between_key_frames() -> None:
    # The face moves by 15 pixels between key frames, 5 frames apart, and grows. No smoothing: each
    # step is more than a tenth of the box.
    detector = Script(lambda n: [(100 + 3.0 * n, 50, 200 + 3.0 * n, 150 + 0.5 * n)])
    frames = follow(detector, 28)
    assert detector.seen == [0, 5, 10, 15, 20, 25, 27]
    for number, (face,) in enumerate(frames[:26]):
        assert face.box == pytest.approx(detector.boxes(number)[0])
        assert (face.track, face.carried, face.score) == (1, False, pytest.approx(0.9))


def test_every_is_the_time_between_key_frames() -> None:
    for fps, every, seen in (
        (30, 0.2, [0, 6, 12, 18, 19]),
        (10, 0.5, [0, 5, 10, 15, 19]),
        (2, 0.2, [*range(20)]),
        (30, 0, [*range(20)]),
    ):
        detector = Script(lambda n: [square(100)])
        assert all(len(faces) == 1 for faces in follow(detector, 20, every=every, fps=fps))
        assert detector.seen == seen


def test_films_without_frames_or_with_equal_times() -> None:
    detector = Script(lambda n: [square(100)])
    assert list(follow_faces(iter([]), detector)) == []
    assert len(follow(detector, 1)[0]) == 1
    frames = [(1.0, draw(n)) for n in range(3)]
    assert [len(faces) for *_, faces in follow_faces(iter(frames), detector)] == [1, 1, 1]


@pytest.mark.parametrize(('shape', 'limit'), [((48, 64, 3), 6), ((4320, 7680, 3), 2)])
def test_memory_is_bounded(shape: tuple[int, ...], limit: int) -> None:
    """Count the frames that were read and not yet returned."""
    read = 0
    # A view of one byte, whose size is that of a whole frame.
    image = np.broadcast_to(np.uint8(0), shape)

    def endless() -> Iterator[tuple[float, np.ndarray]]:
        nonlocal read
        while True:
            yield read / FPS, image
            read += 1

    followed = follow_faces(endless(), Script(lambda n: []))
    ahead = [read - number for number, _ in zip(range(200), followed)]
    assert max(ahead) <= limit


# ---------------------------------------------------------------- jitter


def test_boxes_do_not_jitter() -> None:
    offsets = np.random.default_rng(0).normal(0, 2, (500, 4))  # 2.5 % of the face
    detector = Script(lambda n: [tuple(np.array(square(200)) + offsets[n])])
    frames = follow(detector, 500)
    boxes = np.array([face.box for (face,) in frames])
    raw = np.array([detector.boxes(n)[0] for n in range(500)])
    steps, raw_steps = (np.abs(np.diff(values, axis=0)).mean() for values in (boxes, raw))
    assert steps < raw_steps / 10
    assert np.abs(boxes - square(200)).mean() < 0.75 * np.abs(raw - square(200)).mean()


# ---------------------------------------------------------------- gaps


def test_a_face_keeps_its_track_over_a_gap_of_less_than_a_second() -> None:
    detector = Script(lambda n: [] if 10 < n < 30 else [square(100 if n <= 10 else 130)])
    frames = follow(detector, 50)
    assert all(len(faces) == 1 and faces[0].track == 1 for faces in frames)
    carried = [number for number, (face,) in enumerate(frames) if face.carried]
    assert carried == list(range(11, 30))
    assert all(frames[number][0].box == square(100) for number in range(26))
    assert [center(frames[n][0]) for n in (25, 28, 30)] == pytest.approx([100, 118, 130])


def test_a_track_ends_after_a_second_without_the_face() -> None:
    detector = Script(lambda n: [] if 10 < n < 40 else [square(100)])
    frames = follow(detector, 60)
    assert [len(faces) for faces in frames] == [1] * 36 + [0] * 4 + [1] * 20
    assert {face.track for faces in frames[:36] for face in faces} == {1}
    assert {face.track for faces in frames[40:] for face in faces} == {2}
    assert [faces[0].carried for faces in frames[:36]] == [False] * 11 + [True] * 25
    assert not any(faces[0].carried for faces in frames[40:])


@pytest.mark.parametrize('last', [10, 15])  # the old face is missing in one key frame, or in none
def test_a_face_in_another_place_begins_a_new_track(last: int) -> None:
    detector = Script(lambda n: [square(100)] if n <= last else [square(400)] if n >= 20 else [])
    frames = follow(detector, last + 30)
    assert [[face.track for face in faces] for faces in frames] == (
        [[1]] * 20 + [[1, 2]] * (last + 6) + [[2]] * 4
    )
    assert all(center(face) in (100, 400) for faces in frames for face in faces)


def test_a_weak_detection_continues_a_track_and_begins_none() -> None:
    detector = Script(lambda n: [square(100)], lambda n: 0.9 if 20 <= n < 40 else 0.4)
    frames = follow(detector, 60)
    assert [len(faces) for faces in frames] == [0] * 20 + [1] * 40
    assert not any(face.carried for faces in frames for face in faces)
    assert frames[-1][0].score == pytest.approx(0.4)


# ---------------------------------------------------------------- several people


def crossing(number: int) -> list[Box]:
    """Two people pass each other; the detector finds one of them while they overlap by half."""
    one, other = square(100 + 4.0 * number, 100), square(400 - 4.0 * number, 110)
    return [one] if abs(one[0] - other[0]) < 40 else [one, other][:: 1 if number % 2 else -1]


def test_two_people_cross() -> None:
    frames = follow(Script(crossing), 75)
    starts = {face.track: center(face) for face in frames[0]}
    ends = {face.track: center(face) for face in frames[-1]}
    assert sorted(starts.values()) == [100, 400]
    assert ends.keys() == starts.keys() and len(ends) == 2
    for track, start in starts.items():
        assert ends[track] == pytest.approx(500 - start, abs=10)
    assert {face.track for faces in frames for face in faces} == set(starts)


def test_the_largest_face_is_followed_past_another() -> None:
    frames = follow(Script(crossing), 75, all_faces=False)
    assert {face.track for faces in frames for face in faces} == {frames[0][0].track}
    assert all(len(faces) == 1 for faces in frames)
    assert center(frames[-1][0]) == pytest.approx(500 - center(frames[0][0]), abs=10)


def test_a_missing_face_does_not_become_its_neighbour() -> None:
    detector = Script(lambda n: [square(200)] if 10 < n < 30 else [square(100), square(200)])
    frames = follow(detector, 50)
    places = {face.track: center(face) for face in frames[0]}
    for faces in frames:
        assert {face.track: center(face) for face in faces} == places


def test_the_largest_face_changes_only_for_a_much_larger_one() -> None:
    similar = Script(lambda n: [square(100), square(400, side=60 if n < 20 else 110)])
    assert all(faces[0].track == 1 for faces in follow(similar, 40, all_faces=False))
    others = Script(lambda n: [square(100), square(400, side=60 if n < 20 else 130)])
    frames = follow(others, 40, all_faces=False)
    assert [faces[0].track for faces in frames] == [1] * 20 + [2] * 20
    assert all(center(faces[0]) == (100 if n < 20 else 400) for n, faces in enumerate(frames))


# ---------------------------------------------------------------- cuts


@pytest.mark.parametrize('cut', [18, 20, 21])  # between key frames, at one, and just after one
def test_nothing_is_interpolated_over_a_cut(cut: int) -> None:
    detector = Script(lambda n: [square(100 if n < cut else 130)])
    pictures = [noise(1)] * cut + [noise(2)] * (40 - cut)
    frames = [faces for *_, faces in follow_faces(film(pictures), detector)]
    assert [faces[0].track for faces in frames] == [1] * cut + [2] * (40 - cut)
    assert [center(faces[0]) for faces in frames] == [100] * cut + [130] * (40 - cut)
    assert not any(face.carried for faces in frames for face in faces)
    assert len(detector.seen) <= 12


def test_nothing_is_carried_over_a_cut() -> None:
    detector = Script(lambda n: [square(100)] if n < 18 else [])
    frames = follow_faces(film([noise(1)] * 18 + [noise(2)] * 20), detector)
    assert [len(faces) for *_, faces in frames] == [1] * 18 + [0] * 20


def test_a_flash_a_moving_picture_and_noise_in_the_dark_are_no_cuts() -> None:
    flash = [noise(1)] * 18 + [np.full((48, 64, 3), 255, np.uint8)] + [noise(1)] * 21
    wide = noise(3).repeat(4, 1)
    moving = [np.ascontiguousarray(wide[:, 6 * n : 6 * n + 64]) for n in range(32)]
    dark = [noise(n) // 20 for n in range(40)]
    detector = Script(lambda n: [square(100)])
    for pictures in (flash, moving, dark):
        frames = [faces for *_, faces in follow_faces(film(pictures), detector)]
        assert [faces[0].track for faces in frames] == [1] * len(pictures)


def test_a_change_of_the_size_is_a_cut() -> None:
    pictures = [noise(1)] * 8 + [noise(1).repeat(2, 0)] * 8
    frames = follow_faces(film(pictures), Script(lambda n: [square(100)]))
    assert [faces[0].track for *_, faces in frames] == [1] * 8 + [2] * 8


def test_whole_pictures_are_one_track() -> None:
    pictures = [noise(seed).repeat(1 + seed % 2, 0) for seed in range(9)]
    frames = list(follow_faces(film(pictures), WholePicture()))
    for (_, image, faces), picture in zip(frames, pictures, strict=True):
        assert image.shape == picture.shape
        height = picture.shape[0]
        assert faces == [TrackedFace(1, (0, 0, 64, height), 1.0, False)]


def test_tracks_are_numbered_from_one_without_gaps() -> None:
    detector = Script(lambda n: [square(100 + 300 * k) for k in range(n // 20 + 1)])
    frames = follow(detector, 60)
    assert [max(face.track for face in faces) for faces in frames] == [1] * 20 + [2] * 20 + [3] * 20
    for before, after in pairwise(frames):
        assert {face.track for face in before} <= {face.track for face in after}
