"""Test the timelines of films, from Python and by the command."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from conftest import ROOT
from matplotlib.figure import Figure

from mmdfer.apis import DFERInferencer
from mmdfer.apis.inferencer import DRAWN_FACES
from mmdfer.cli import predict
from mmdfer.errors import DFERError
from mmdfer.faces import Face
from mmdfer.inference import Timeline
from mmdfer.inference.inputs import find_films, read_boxes, read_clip_list
from mmdfer.synthetic.emotions import CLASSES, FPS
from mmdfer.synthetic.scene import Scene, draw_scene, write_scene

SECONDS = 3.0  # of each expression in a scene


@pytest.fixture(scope='module')
def inferencer() -> DFERInferencer:
    """Build the inferencer with the weights of the package."""
    return DFERInferencer(device='cpu')


@pytest.fixture(scope='module')
def scenes() -> list[Scene]:
    """Draw scenes of all expressions, each with another face and another order."""
    orders = [np.random.default_rng(seed).permutation(CLASSES).tolist() for seed in range(5)]
    return [draw_scene(order, seed, SECONDS) for seed, order in enumerate(orders)]


@pytest.fixture(scope='module')
def film(scenes: list[Scene], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the first three seconds of a scene as a video with its boxes beside it."""
    whole, count = scenes[0], 3 * FPS
    path = tmp_path_factory.mktemp('scene') / 'scene.mp4'
    write_scene(path, Scene(whole.frames[:count], whole.boxes[:count], whole.labels[:count]))
    return path


class SquareFinder:
    """Find white squares, each as a face."""

    def detect(self, image: np.ndarray) -> list[Face]:
        """Return a face for each white square."""
        mask = (image.min(2) > 250).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(mask)
        boxes = [stats[number, :4] for number in range(1, count)]
        faces = [
            Face((float(x), float(y), float(x + w), float(y + h)), 1.0) for x, y, w, h in boxes
        ]
        return sorted(faces, key=lambda face: face.box[2] - face.box[0], reverse=True)


def draw_squares(places: Sequence[Sequence[tuple[int, int, int]]]) -> np.ndarray:
    """Draw a film (T, 120, 160, 3) of white squares, given by x, y and side in each frame."""
    frames = np.full((len(places), 120, 160, 3), 60, np.uint8)
    for frame, squares in zip(frames, places, strict=True):
        for x, y, side in squares:
            frame[y : y + side, x : x + side] = 255
    return frames


def count_right_seconds(timeline: Timeline, scene: Scene) -> tuple[int, int]:
    """Count the whole seconds with the right class, and all, away from changes of expression.

    The class of a second has the highest mean probability. A second without a window is wrong.
    """
    right = judged = 0
    for begin in np.arange(1, len(scene.labels) / FPS, SECONDS):  # the middle second of each three
        rows = (timeline.times >= begin) & (timeline.times < begin + 1)
        judged += 1
        if rows.any():
            best = int(timeline.probabilities[rows].mean(0).argmax())
            right += timeline.classes[best] == scene.labels[int((begin + 0.5) * FPS)]
    return right, judged


@pytest.mark.parametrize(('faces', 'asked'), [('true boxes', 0.9), ('detector', 0.8)])
def test_a_scene_is_recognised(
    faces: str, asked: float, scenes: list[Scene], inferencer: DFERInferencer
) -> None:
    counts = []
    for scene in scenes:
        boxes, margin = (scene.boxes, 0.0) if faces == 'true boxes' else (None, 0.12)
        timeline = inferencer.analyse(scene.frames, boxes, False, margin=margin)
        counts.append(count_right_seconds(timeline, scene))
    right, judged = (sum(numbers) for numbers in zip(*counts, strict=True))
    print(f'{faces}: {right} of {judged} seconds, {100 * right / judged:.1f} %')
    assert judged == 35 and right / judged >= asked


def test_the_defaults_are_those_of_the_training_data(inferencer: DFERInferencer) -> None:
    settings = inferencer.settings
    assert (settings.margin, settings.size) == (0.12, 112)
    assert settings.fps == pytest.approx(16 / 1.92, abs=0.01)  # the longest clip has 48 frames


def test_arrays_files_and_folders_give_the_same(
    film: Path, inferencer: DFERInferencer, tmp_path: Path
) -> None:
    with av.open(str(film)) as container:
        frames = np.stack([f.to_ndarray(format='rgb24') for f in container.decode(video=0)])
    for number, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / f'{number:05d}.png'), frame[:, :, ::-1])
    boxes = read_boxes(film.with_suffix('.csv'))
    found = inferencer([frames, str(film), tmp_path], boxes, show_progress=False)['predictions']
    assert [timeline.film for timeline in found] == ['array', 'scene.mp4', tmp_path.name]
    for timeline in found[1:]:
        np.testing.assert_allclose(timeline.times, found[0].times, atol=1e-3)
        np.testing.assert_allclose(timeline.probabilities, found[0].probabilities, atol=1e-3)


def test_the_stride_changes_the_number_of_windows_only(
    scenes: list[Scene], inferencer: DFERInferencer
) -> None:
    frames, boxes = scenes[1].frames[:150], scenes[1].boxes
    dense = inferencer.analyse(frames, boxes, False, stride=1)
    sparse = inferencer.analyse(frames, boxes, False, stride=5)
    np.testing.assert_allclose(dense.times[::5], sparse.times)
    np.testing.assert_allclose(dense.probabilities[::5], sparse.probabilities, atol=1e-5)


def test_a_time_without_a_face_has_no_label(inferencer: DFERInferencer) -> None:
    places = [[(40, 30, 50)] if not 75 <= t < 175 else [] for t in range(250)]  # gone for 4 s
    finder = DFERInferencer(device='cpu', detector=SquareFinder())
    timeline = finder.analyse(draw_squares(places), show_progress=False)
    assert timeline.times[0] < 0.5 and timeline.times[-1] > 9
    # The last box may be kept for a second.
    assert not ((timeline.times > 4.2) & (timeline.times < 6.9)).any()
    spans = timeline.spans()
    assert not any(begin < 5.5 < end for _, begin, end, _, _ in spans)
    empty = finder.analyse(draw_squares([[]] * 30), show_progress=False)
    assert len(empty) == 0 and 'no face' in str(empty) and empty.spans() == []
    assert isinstance(empty.plot(), Figure) and len(empty.to_dataframe()) == 0


def test_all_faces_or_the_largest() -> None:
    finder = DFERInferencer(device='cpu', detector=SquareFinder())
    film = draw_squares([[(5, 30, 30), (90 + t // 10, 20, 60)] for t in range(60)])
    one = finder.analyse(film, show_progress=False)
    assert set(one.tracks) == {1} and (one.boxes[:, 2] > 140).all()
    both = finder.analyse(film, show_progress=False, all_faces=True)
    assert len(set(both.tracks)) == 2 and len(both) == 2 * len(one)
    assert 'face 1' in str(both) and 'face 2' in str(both)


def test_a_timeline_in_other_forms(film: Path, inferencer: DFERInferencer) -> None:
    timeline = inferencer.analyse(film, read_boxes(film.with_suffix('.csv')), False)
    table = timeline.to_dataframe()
    assert list(table.columns[-7:]) == list(CLASSES) and len(table) == len(timeline)
    np.testing.assert_allclose(table[list(CLASSES)].sum(axis=1), 1, atol=1e-3)
    assert list(table['label']) == timeline.labels
    again = Timeline.from_json(timeline.to_json())
    first, second = (json.loads(kept.to_json()) for kept in (timeline, again))
    assert first['windows'] == second['windows'] and first['settings'] == second['settings']
    for one, other in zip(timeline.spans(), again.spans(), strict=True):
        assert one[3] == other[3] and one[:3] == pytest.approx(other[:3], abs=1e-3)
    figure = timeline.plot()
    assert DRAWN_FACES in figure.get_suptitle() and DRAWN_FACES in str(timeline)
    mean = timeline.mean()
    np.testing.assert_allclose(mean, table[list(CLASSES)].mean(), atol=1e-3)


def test_an_untrained_recognizer_is_refused() -> None:
    with pytest.raises(DFERError, match='coop_synth: the recognizer is not trained; give a check'):
        DFERInferencer('coop_synth', device='cpu', detector='none')


def test_a_checkpoint_of_another_recognizer_is_refused() -> None:
    with pytest.raises(DFERError, match='does not fit the config coop_synth'):
        DFERInferencer('coop_synth', 'mmdfer::align_dfer_synth', 'cpu', detector='none')


def test_a_recognizer_that_needs_no_training() -> None:
    zero_shot = DFERInferencer('clip_zero_shot_synth', device='cpu', detector='none')
    assert zero_shot.clip_model.classes == CLASSES and zero_shot.note == DRAWN_FACES


@pytest.mark.parametrize(
    ('settings', 'said'),
    [
        (dict(fps=0), '--fps must be'),
        (dict(stride=0), '--stride must be'),
        (dict(size=0), 'at least 1 pixel'),
        (dict(margin=-0.5), 'margin of -0.4 or more'),
    ],
)
def test_wrong_settings_are_one_line(
    settings: dict[str, Any], said: str, inferencer: DFERInferencer
) -> None:
    with pytest.raises(DFERError, match=said):
        inferencer.choose_settings(**settings)


# ---------------------------------------------------------------- the command

Run = Callable[..., int]


@pytest.fixture
def run(capsys: pytest.CaptureFixture) -> Run:
    """Return a function that runs the command in this process and returns its exit status."""

    def call(*arguments: object) -> int:
        try:
            predict.main([str(argument) for argument in arguments])
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code)
                return 1
            return int(end.code or 0)
        return 0

    return call


def test_the_command_writes_every_file(
    film: Path, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out, boxes = tmp_path / 'out', film.with_suffix('.csv')
    assert run(film, '--boxes', boxes, '--out', out) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f'Note: {DRAWN_FACES}.')
    names = {'scene.json', 'scene.csv', 'scene.png', 'scene.mp4', 'report.html', 'predictions.csv'}
    assert {path.name for path in out.iterdir()} == names
    content = json.loads((out / 'scene.json').read_text())
    rows = list(csv.DictReader((out / 'scene.csv').open()))
    assert len(rows) == len(content['windows']) > 5
    for name in ('scene.json', 'scene.csv', 'report.html', 'predictions.csv'):
        assert DRAWN_FACES in (out / name).read_text()
    (row,) = csv.DictReader((out / 'predictions.csv').open())
    assert row['film'] == str(film) and row['label'] in CLASSES and row['error'] == ''
    with av.open(str(out / 'scene.mp4')) as drawn, av.open(str(film)) as source:
        shown = [f.to_ndarray(format='rgb24') for f in drawn.decode(video=0)]
        before = [f.to_ndarray(format='rgb24') for f in source.decode(video=0)]
    assert len(shown) == len(before)
    x1, y1, x2, _ = (round(float(rows[1][key])) for key in ('x1', 'y1', 'x2', 'y2'))
    number = round(float(rows[1]['time']) * FPS)
    edge = np.abs(shown[number][y1, x1:x2].astype(int) - before[number][y1, x1:x2])
    assert np.median(edge.max(1)) > 40  # the box is drawn here

    # A second run finds the results; with another setting it computes them again.
    stamp = (out / 'scene.json').stat().st_mtime_ns
    assert run(film, '--boxes', boxes, '--out', out) == 0
    assert 'scene.mp4: already done' in capsys.readouterr().out
    assert (out / 'scene.json').stat().st_mtime_ns == stamp
    assert run(film, '--boxes', boxes, '--out', out, '--stride', 8, '--no-video') == 0
    assert len(json.loads((out / 'scene.json').read_text())['windows']) < len(rows)


def test_failed_inputs_do_not_stop_the_others(
    film: Path, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / 'odd'
    folder.mkdir()
    content = film.read_bytes()
    good = ['it\'s "a" film.mp4', 'Gesicht_für_表情.mp4', '-dash.mp4', '100%d.mp4', '<b>&.mp4']
    for name in good:
        (folder / name).write_bytes(content)
    (folder / 'cut.mp4').write_bytes(content[: len(content) // 2])
    (folder / 'empty.mp4').write_bytes(b'')
    (folder / 'text.mp4').write_text('This is no film.')
    (folder / 'none').mkdir()
    (folder / 'loop.mp4').symlink_to('loop.mp4')
    bad = ['cut.mp4', 'empty.mp4', 'text.mp4', 'none', 'loop.mp4', 'gone.mp4']
    inputs = [folder / name for name in [*bad, *good]]
    more = ['https://example.org/film.mp4', 'rtsp://camera/1', '99']
    out = tmp_path / 'out'
    flags = ['--out', out, '--detector', 'none', '--no-video', '--fps', 5]
    assert run(*inputs, *more, *flags) == 1
    printed = capsys.readouterr().err
    errors = [line for line in printed.splitlines() if line.startswith('error: ')]
    failed = [str(folder / name) for name in bad] + more
    assert len(errors) == len(failed) and '9 of 14 inputs failed' in printed
    rows = list(csv.DictReader((out / 'predictions.csv').open(encoding='utf-8')))
    assert [row['film'] for row in rows if row['error']] == failed
    assert [row['film'] for row in rows if row['label']] == [str(folder / n) for n in good]
    report = (out / 'report.html').read_text(encoding='utf-8')
    assert '&lt;b&gt;&amp;.mp4' in report and '<b>&' not in report


def test_a_backbone_of_windows_says_how_long_it_takes(
    film: Path, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    from mmengine.runner import save_checkpoint

    from mmaction.apis import init_recognizer

    config = ROOT / 'configs' / 'r3d18' / 'r3d18_synth.py'
    model = init_recognizer(str(config), None, 'cpu')
    save_checkpoint(dict(state_dict=model.state_dict(), meta={}), str(tmp_path / 'random.pth'))
    flags = ['--config', config, '--checkpoint', tmp_path / 'random.pth', '--detector', 'none']
    flags += ['--no-video', '--fps', 8, '--stride', 16, '--size', 112]
    assert run(film, '--out', tmp_path / 'out', *flags) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith('The backbone reads whole windows of 16 frames, ')


def test_fine_cliper_reads_frames_alone_and_says_so(
    film: Path, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    from mmengine.runner import save_checkpoint

    from mmaction.apis import init_recognizer

    config = ROOT / 'configs' / 'fine_cliper' / 'fine_cliper_synth.py'
    checkpoint = tmp_path / 'untrained.pth'
    model = init_recognizer(str(config), None, 'cpu')
    save_checkpoint(dict(state_dict=model.state_dict(), meta={}), str(checkpoint))
    flags = ['--config', config, '--checkpoint', checkpoint, '--detector', 'none', '--no-video']
    assert run(film, '--out', tmp_path / 'out', *flags, '--fps', 8, '--stride', 8) == 0
    note = f'{DRAWN_FACES}; from the frames alone, because a film has no parts and no caption'
    assert f'Note: {note}.' in capsys.readouterr().out.splitlines()
    result = json.loads((tmp_path / 'out' / 'scene.json').read_text(encoding='utf-8'))
    assert result['note'] == note and result['settings']['without'] == ['parts', 'caption']
    assert note in (tmp_path / 'out' / 'report.html').read_text(encoding='utf-8')

    def build(*levels: str) -> DFERInferencer:
        options = {'model.levels': list(levels)}
        return DFERInferencer(str(config), checkpoint, detector='none', cfg_options=options)

    with pytest.raises(DFERError, match='reads parts and caption only, but a film has frames only'):
        build('parts', 'caption')
    of_frames = build('frames')
    assert of_frames.note == DRAWN_FACES
    whole, alone = (
        i.analyse(str(film), show_progress=False, fps=8, stride=8).probabilities
        for i in (build('frames', 'parts', 'caption'), of_frames)
    )
    np.testing.assert_allclose(whole, alone, rtol=0, atol=1e-5)


# ---------------------------------------------------------------- inputs


def test_inputs_are_films_patterns_folders_and_lists(tmp_path: Path) -> None:
    films = tmp_path / 'films'
    (films / 'frames').mkdir(parents=True)
    for name in ('b.mp4', 'a.MOV', 'notes.txt', 'frames/1.jpg', 'x[1].mp4'):
        (films / name).write_bytes(b'1')
    listed = [str(films / name) for name in ('a.MOV', 'b.mp4', 'x[1].mp4')]
    assert find_films([str(films)]) == listed
    assert find_films([str(films / '*.mp4')]) == listed[1:]
    assert find_films([listed[2], str(films / 'frames'), '0', 'gone.mp4']) == [
        listed[2], str(films / 'frames'), '0', 'gone.mp4'
    ]  # fmt: skip
    with pytest.raises(DFERError, match=r'\*\.avi: no file matches'):
        find_films([str(films / '*.avi')])
    (films / 'list.csv').write_text('clip,comment\na.MOV,x\n/else/b.mp4,y\n')
    assert read_clip_list(films / 'list.csv') == [listed[0], '/else/b.mp4']
    for text, said in (('clip\n', 'lists no clip'), ('film\na\n', "line 1: the header is 'film'")):
        (films / 'wrong.csv').write_text(text)
        with pytest.raises(DFERError, match=said):
            read_clip_list(films / 'wrong.csv')


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('time,x1,y1,x2,y2\n', 'has no boxes'),
        ('time,x1,y1,x2\n0,1,2,3\n', 'line 2: needs a number'),
        ('time,x1,y1,x2,y2\n0,1,2,3,4\n1,1,b,3,4\n', 'line 3: needs a number'),
    ],
)
def test_wrong_boxes_are_one_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / 'boxes.csv').write_text(text)
    with pytest.raises(DFERError, match=said):
        read_boxes(tmp_path / 'boxes.csv')
