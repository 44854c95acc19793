"""Test masks, landmarks and captions: their files, damage, noise, and the way to the model."""

from __future__ import annotations

import io
import json
import logging
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import NUM_TEST, NUM_TRAIN
from mmengine.dataset import Compose, pseudo_collate
from PIL import Image

from mmdfer.cli import make_synthetic
from mmdfer.datasets import LoadLevels, PackLevels, SynthDFER
from mmdfer.datasets.transforms.load_levels import DOT, PALETTE, draw_levels
from mmdfer.engine import LevelsHook
from mmdfer.errors import DFERError
from mmdfer.levels import (
    PARTS,
    ClipLevels,
    levels_path,
    read_captions,
    read_levels,
    write_captions,
    write_levels,
)
from mmdfer.synthetic import AU_NAMES, CLASSES, ClipSpec, make_identities, make_specs
from mmdfer.synthetic import PARTS as TRUE_PARTS
from mmdfer.synthetic.describer import CALM, DescriberNoise
from mmdfer.synthetic.detector import CONFUSIONS, DetectorNoise, detect
from mmdfer.synthetic.levels import (
    clip_name,
    describe_clips,
    detect_levels,
    make_levels,
    true_levels,
)
from mmdfer.synthetic.small_clip.captions import ADJECTIVE, PLAIN
from mmdfer.synthetic.small_clip.merges import caption_words

CLIP, FRAMES, SIZE = 'train/00001', 8, (24, 32)
CAPTION = 'a face with lips part'
SAMPLED = [0, 2, 4, 6]


@pytest.fixture(scope='module')
def specs() -> list[ClipSpec]:
    return make_specs(1400, 700, 140, 70, 0)


@pytest.fixture(scope='module')
def levels_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the levels of the small benchmark of ``data_root``."""
    root = tmp_path_factory.mktemp('levels') / 'levels'
    return make_levels(root, num_train=NUM_TRAIN, num_test=NUM_TEST, workers=1)


def draw_clip_levels() -> ClipLevels:
    """Return levels in which each frame has a face of other parts and landmarks."""
    rng = np.random.default_rng(0)
    masks = rng.integers(1, len(PARTS), (FRAMES, *SIZE)).astype(np.uint8)
    return ClipLevels(SIZE, masks, rng.uniform(0, 20, (FRAMES, 68, 2)).astype(np.float32))


def write_folder(root: Path) -> Path:
    """Write a folder with the levels of one clip."""
    write_levels(levels_path(root, CLIP), draw_clip_levels())
    write_captions(root / 'captions.jsonl', {CLIP: CAPTION, 'train/00002': 'closed eyes'})
    return root


def sample(clip: str | None = CLIP, shape: tuple[int, int] = SIZE) -> dict[str, Any]:
    """Return the results of a pipeline that has decoded four of the eight frames of a clip."""
    named = {} if clip is None else dict(clip=clip)
    return dict(
        filename='clip.mp4',
        imgs=[np.full((*shape, 3), 10 * i, np.uint8) for i in range(len(SAMPLED))],
        frame_inds=np.array(SAMPLED),
        total_frames=FRAMES,
        start_index=0,
        num_clips=1,
        clip_len=len(SAMPLED),
        img_shape=shape,
        modality='RGB',
        label=3,
        **named,
    )


def run(results: dict[str, Any], root: Path | str, *between: Any, **options: Any) -> Any:
    """Run a pipeline on decoded frames: LoadLevels, further transforms, and PackLevels."""
    form = dict(type='FormatShape', input_format='NCTHW')
    load = dict(type='LoadLevels', folder=str(root), **options)
    return Compose([load, *between, form, dict(type='PackLevels')])(results)


# Files --------------------------------------------------------------------------------------------


def test_parts_are_those_of_the_benchmark() -> None:
    assert PARTS == TRUE_PARTS


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = draw_clip_levels()
    written.landmarks[3] = np.nan
    write_levels(tmp_path / 'a.npz', written)
    read = read_levels(tmp_path / 'a.npz')
    assert read is not None and read.size == SIZE and len(read) == FRAMES
    np.testing.assert_array_equal(read.masks, written.masks)
    np.testing.assert_array_equal(read.landmarks, written.landmarks)
    captions = {'a/b.mp4': '她惊讶地张开嘴', 'c': 'lips "part"'}
    write_captions(tmp_path / 'captions.jsonl', captions)
    assert read_captions(tmp_path / 'captions.jsonl') == captions
    assert sorted(p.name for p in tmp_path.iterdir()) == ['a.npz', 'captions.jsonl']


@pytest.mark.parametrize('save', [np.savez, np.savez_compressed])
def test_files_of_other_tools_are_read(save: Callable, tmp_path: Path) -> None:
    levels = draw_clip_levels()
    arrays = dict(size=np.array(SIZE, np.uint16), confidence=np.ones(FRAMES))
    save(tmp_path / 'a.npz', landmarks=levels.landmarks, **arrays)
    read = read_levels(tmp_path / 'a.npz')
    assert read is not None and read.masks is None
    np.testing.assert_array_equal(read.landmarks, levels.landmarks)
    (tmp_path / 'c.jsonl').write_bytes(
        b'\xef\xbb\xbf{"caption": " a\\n b ", "id": 1, "clip": "x"}\r\n\r\n'
    )
    assert read_captions(tmp_path / 'c.jsonl') == {'x': 'a b'}


# Damage -------------------------------------------------------------------------------------------


def arrays_with(**changes: Any) -> bytes:
    """Return the content of the file of the clip with changed arrays; None removes an array."""
    levels = draw_clip_levels()
    arrays = dict(size=np.array(SIZE), masks=levels.masks, landmarks=levels.landmarks) | changes
    content = io.BytesIO()
    np.savez_compressed(content, **{k: v for k, v in arrays.items() if v is not None})
    return content.getvalue()


def flip_bit(content: bytes, rng: np.random.Generator) -> bytes:
    place = int(rng.integers(len(content)))
    changed = content[place] ^ 1 << int(rng.integers(8))
    return content[:place] + bytes([changed]) + content[place + 1 :]


def name_other_compression(content: bytes, rng: np.random.Generator) -> bytes:
    """Say that an array is compressed by bz2 or lzma, as one flipped bit of the file can do."""
    entry, changed = content.index(b'PK\x01\x02'), bytearray(content)
    changed[entry + 10] = rng.choice([zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    return bytes(changed)


def with_nan(rng: np.random.Generator, frames: list[int]) -> bytes:
    landmarks = draw_clip_levels().landmarks
    landmarks[frames] = np.nan
    return arrays_with(landmarks=landmarks)


def with_part(rng: np.random.Generator) -> bytes:
    masks = draw_clip_levels().masks
    masks[tuple(rng.integers(masks.shape))] = rng.integers(len(PARTS), 256)
    return arrays_with(masks=masks)


ERROR, EITHER = 'error', 'either'
PICKLED = np.array([{'a': 1}] * FRAMES, object)
# The content of the clip's npz file (None: no file), and what the damage leads to: an error, or a
# count of what the clip lacks.
NPZ_DAMAGES: dict[str, tuple[Callable[[bytes, np.random.Generator], bytes | None], Any]] = {
    'missing': (lambda c, rng: None, dict(lacks=('masks', 'landmarks'))),
    'empty': (lambda c, rng: b'', ERROR),
    'cut': (lambda c, rng: c[: rng.integers(1, len(c))], ERROR),
    'one bit': (flip_bit, EITHER),
    'other compression': (name_other_compression, ERROR),
    'zeros': (lambda c, rng: bytes(int(rng.integers(1, 9999))), ERROR),
    'random bytes': (lambda c, rng: rng.bytes(int(rng.integers(1, 9999))), ERROR),
    'pickled': (lambda c, rng: arrays_with(masks=PICKLED), ERROR),
    'other frame count': (
        lambda c, rng: arrays_with(
            masks=draw_clip_levels().masks[: (k := int(rng.integers(1, FRAMES)))],
            landmarks=draw_clip_levels().landmarks[:k],
        ),
        ERROR,
    ),
    'frame counts differ': (
        lambda c, rng: arrays_with(masks=draw_clip_levels().masks[rng.integers(1, 7) :]),
        ERROR,
    ),
    'other aspect ratio': (
        lambda c, rng: arrays_with(masks=None, size=np.array((24, int(rng.integers(33, 99))))),
        ERROR,
    ),
    'other aspect ratio of mixed frames': (
        lambda c, rng: arrays_with(masks=None, size=np.array((24, 66)), mixed=np.array(True)),
        dict(lacks=('masks',)),
    ),
    'mixed is a number': (lambda c, rng: arrays_with(mixed=np.array(3)), ERROR),
    'size is not that of the masks': (lambda c, rng: arrays_with(size=np.array((48, 64))), ERROR),
    'no size': (lambda c, rng: arrays_with(size=None), ERROR),
    'negative size': (lambda c, rng: arrays_with(masks=None, size=np.array((-24, -32))), ERROR),
    'no array': (lambda c, rng: arrays_with(masks=None, landmarks=None), ERROR),
    'float masks': (lambda c, rng: arrays_with(masks=np.zeros((FRAMES, *SIZE))), ERROR),
    'unknown part': (lambda c, rng: with_part(rng), ERROR),
    '98 landmarks': (
        lambda c, rng: arrays_with(landmarks=np.zeros((FRAMES, 98, 2), np.float32)),
        ERROR,
    ),
    'infinite landmarks': (
        lambda c, rng: arrays_with(landmarks=np.full((FRAMES, 68, 2), np.inf, np.float32)),
        ERROR,
    ),
    'NaN in a frame': (lambda c, rng: with_nan(rng, [2]), dict(frames_without_landmarks=1)),
    'NaN in all frames': (lambda c, rng: with_nan(rng, SAMPLED), dict(lacks=('landmarks',))),
    'no masks': (lambda c, rng: arrays_with(masks=None), dict(lacks=('masks',))),
    'no face in any mask': (
        lambda c, rng: arrays_with(masks=np.zeros((FRAMES, *SIZE), np.uint8)),
        dict(lacks=('masks',)),
    ),
}
LINE = json.dumps(dict(clip=CLIP, caption=CAPTION))
# The content of captions.jsonl, and what the damage leads to.
CAPTION_DAMAGES: dict[str, tuple[Callable[[np.random.Generator], bytes | None], Any]] = {
    'missing': (lambda rng: None, ERROR),
    'empty': (lambda rng: b'', ERROR),
    'GB18030': (
        lambda rng: LINE.replace(CAPTION, '她惊讶地张开嘴').encode('gb18030'),
        ERROR,
    ),
    'UTF-16': (lambda rng: LINE.encode('utf-16'), ERROR),
    'cut': (lambda rng: LINE[: rng.integers(1, len(LINE))].encode(), ERROR),
    'no JSON': (lambda rng: f'{CLIP},{CAPTION}'.encode(), ERROR),
    'a list': (lambda rng: b'["train/00001", "a"]', ERROR),
    'nested': (lambda rng: b'[' * 100_000, ERROR),
    'a number': (lambda rng: LINE.replace(f'"{CAPTION}"', '5').encode(), ERROR),
    'half a surrogate pair': (lambda rng: LINE.replace(CAPTION, '\\ud800').encode(), ERROR),
    'an empty caption': (lambda rng: LINE.replace(CAPTION, ' ').encode(), ERROR),
    'a clip twice': (lambda rng: f'{LINE}\n{LINE}'.encode(), ERROR),
    'a clip outside': (lambda rng: LINE.replace(CLIP, '../train/00001').encode(), ERROR),
    'no line of the clip': (
        lambda rng: LINE.replace(CLIP, 'train/00002').encode(),
        dict(lacks=('caption',)),
    ),
}
OUTSIDE = ('../train/00001', '/etc/passwd', 'a/../../b', 'C:/a', 'a\\b', '', '.', 'a\0b')
CASES = [
    *(('npz', name, seed) for seed in range(2) for name in NPZ_DAMAGES),
    *(('npz', 'one bit', seed) for seed in range(2, 12)),
    *(('captions', name, 0) for name in CAPTION_DAMAGES),
]


def test_there_are_60_damages() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize('clip', OUTSIDE)
def test_a_path_that_leaves_the_folder_is_refused(clip: str, tmp_path: Path) -> None:
    with pytest.raises(DFERError, match='leads out of the folder'):
        run(sample(clip), write_folder(tmp_path))


@pytest.mark.parametrize(('file', 'name', 'seed'), CASES)
def test_damage_is_an_error_or_a_count(file: str, name: str, seed: int, tmp_path: Path) -> None:
    root, rng = write_folder(tmp_path), np.random.default_rng(seed)
    whole = run(sample(), root)
    if file == 'npz':
        path, (damage, outcome) = levels_path(root, CLIP), NPZ_DAMAGES[name]
        content = damage(path.read_bytes(), rng)
    else:
        path = root / 'captions.jsonl'
        make, outcome = CAPTION_DAMAGES[name]
        content = make(rng)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    try:
        packed = run(sample(), root)
    except DFERError as error:
        assert outcome in (ERROR, EITHER), error
        assert str(path) in str(error) and '\n' not in str(error)
        return
    found, expected = packed['data_samples'], whole['data_samples']
    if outcome == EITHER:  # the bit is in a part of the file that is not read, or in a name
        outcome = dict(lacks=found.lacks)
        assert set(found.lacks) <= {'masks', 'landmarks'}
        if not found.lacks:
            torch.testing.assert_close(found.parts, expected.parts, rtol=0, atol=0)
    assert outcome != ERROR
    counts = dict(lacks=(), frames_without_landmarks=0) | outcome
    assert {key: getattr(found, key) for key in counts} == counts
    assert (found.parts is None) == ({'masks', 'landmarks'} <= set(found.lacks))
    assert torch.equal(packed['inputs'], whole['inputs'])


class Touch:
    """An object that makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    root, trap = write_folder(tmp_path), tmp_path / 'executed'
    content = arrays_with(masks=np.array([Touch(trap)], object))
    assert np.load(io.BytesIO(content), allow_pickle=True)['masks'].shape == (1,)
    assert trap.exists()  # so the file is a trap for a reader that allows pickle
    trap.unlink()
    levels_path(root, CLIP).write_bytes(content)
    with pytest.raises(DFERError, match='is not a file of levels'):
        run(sample(), root)
    assert not trap.exists()


def test_a_lack_of_memory_is_not_called_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError('Unable to allocate 469. MiB')

    path = levels_path(write_folder(tmp_path), CLIP)
    monkeypatch.setattr(np.lib.format, 'read_array', fail)
    with pytest.raises(DFERError, match='not enough memory .*469. MiB.*use fewer workers'):
        read_levels(path)


@pytest.mark.parametrize('encoding', ['utf-16', 'gb18030'])
def test_the_remedy_for_another_encoding_works(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / 'captions.jsonl'
    path.write_bytes('{"clip": "a", "caption": "她笑"}\n'.encode(encoding))
    with pytest.raises(DFERError, match='is not UTF-8 text') as error:
        read_captions(path)
    named = re.search(r'iconv -f (\S+) -t UTF-8', str(error.value))
    assert named is not None
    path.write_text(path.read_bytes().decode(named[1]), encoding='utf-8')
    assert read_captions(path) == {'a': '她笑'}


def test_a_folder_in_place_of_a_file_is_an_error(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    levels_path(root, CLIP).unlink()
    levels_path(root, CLIP).mkdir()
    with pytest.raises(DFERError, match=r'00001\.npz: cannot be read'):
        run(sample(), root)


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DFERError, match='nowhere: the folder of levels does not exist'):
        run(sample(), tmp_path / 'nowhere')


# Pictures -----------------------------------------------------------------------------------------


def test_the_colour_of_a_pixel_is_that_of_its_part() -> None:
    levels = draw_clip_levels()
    pictures = draw_levels(ClipLevels(SIZE, levels.masks), SIZE)
    assert len(np.unique(PALETTE, axis=0)) == len(PARTS)
    np.testing.assert_array_equal(np.stack(pictures), PALETTE[levels.masks])
    twice = draw_levels(ClipLevels(SIZE, levels.masks), (48, 64))
    np.testing.assert_array_equal(twice[0][::2, ::2], pictures[0])
    np.testing.assert_array_equal(twice[0][1::2, 1::2], pictures[0])


@pytest.mark.parametrize(('down', 'right'), [(1, 1), (2, 2), (7, 7), (2, 3)])
def test_a_dot_is_at_its_landmark(down: int, right: int) -> None:
    landmarks = np.full((1, 68, 2), np.nan, np.float32)
    landmarks[0, 30] = (20, 11)
    landmarks[0, 31] = (-500, 1e9)
    shape = (SIZE[0] * down, SIZE[1] * right)
    (picture,) = draw_levels(ClipLevels(SIZE, landmarks=landmarks), shape)
    y, x = np.nonzero((picture == DOT).all(-1))
    # The middle of the pixel (20, 11) is at (20.5, 11.5) from the corner of the picture.
    assert np.allclose([x.mean() + 0.5, y.mean() + 0.5], [20.5 * right, 11.5 * down], atol=0.51)
    assert not picture[..., 0].any() and not picture[..., 2].any()


def test_pictures_are_those_of_the_sampled_frames(tmp_path: Path) -> None:
    packed = run(sample(), write_folder(tmp_path), landmarks=False)
    expected = torch.from_numpy(PALETTE[draw_clip_levels().masks[SAMPLED]])
    assert torch.equal(packed['data_samples'].parts[0], expected.permute(3, 0, 1, 2))
    assert packed['inputs'][0, 0, :, 0, 0].tolist() == [0, 10, 20, 30]


# Spatial transforms of MMAction2 and of this package, as they follow each other in pipelines.
SPATIAL: dict[str, list[dict]] = {
    'nothing': [],
    'synth': [
        dict(type='Resize', scale=(-1, 69)),
        dict(type='RandomCrop', size=64),
        dict(type='Flip', flip_ratio=0.5),
    ],
    'RandomResizedCrop': [
        dict(type='RandomResizedCrop', area_range=(0.5, 1.0)),
        dict(type='Resize', scale=(64, 64), keep_ratio=False),
        dict(type='Flip', flip_ratio=0.5),
    ],
    'MultiScaleCrop': [
        dict(type='MultiScaleCrop', input_size=64, scales=(1, 0.8)),
        dict(type='Resize', scale=(64, 64), keep_ratio=False),
    ],
    'ThreeCrop': [dict(type='Resize', scale=(-1, 64)), dict(type='ThreeCrop', crop_size=64)],
    'TenCrop': [dict(type='Resize', scale=(-1, 72)), dict(type='TenCrop', crop_size=64)],
    'Pillow': [
        dict(type='PillowRandomSizedCrop', size=64, area=(0.5, 1.0)),
        dict(type='PillowRotate', degrees=20),
    ],
    'PillowResize': [dict(type='PillowResize', size=64)],
    'two clips': [dict(type='Resize', scale=(-1, 69)), dict(type='RandomCrop', size=64)],
}


def find_marks(pictures: torch.Tensor) -> np.ndarray:
    """Return the centre (N, 2) of the bright square in each picture of a tensor (V, 3, T, H, W)."""
    bright = pictures.permute(0, 2, 1, 3, 4).flatten(0, 1).float().mean(1).numpy()
    weights = np.clip(bright - 150, 0, None)
    y, x = np.mgrid[: bright.shape[1], : bright.shape[2]]
    total = weights.sum((1, 2))
    return np.stack([(weights * x).sum((1, 2)) / total, (weights * y).sum((1, 2)) / total], 1)


@pytest.mark.parametrize('name', SPATIAL)
def test_spatial_transforms_cut_parts_and_frames_alike(name: str, tmp_path: Path) -> None:
    shape, clips = (90, 120), 2 if name == 'two clips' else 1
    masks = np.zeros((FRAMES, *shape), np.uint8)
    for number in range(FRAMES):  # a square that moves, in the brightest colour of the palette
        top, left = 36 + 2 * number, 46 + 3 * number
        masks[number, top : top + 9, left : left + 9] = PARTS.index('eye')
    write_levels(levels_path(tmp_path, CLIP), ClipLevels(shape, masks))
    places = set()
    for seed in range(6):
        np.random.seed(seed)
        torch.manual_seed(seed)
        random.seed(seed)
        results = sample(shape=shape) | dict(num_clips=clips, clip_len=len(SAMPLED) // clips)
        results['imgs'] = [PALETTE[masks[number]].copy() for number in SAMPLED]
        packed = run(results, tmp_path, *SPATIAL[name], captions=False)
        frames, parts = packed['inputs'], packed['data_samples'].parts
        assert frames.shape == parts.shape and frames.shape[2] == len(SAMPLED) // clips
        assert len(frames) == clips * {'ThreeCrop': 3, 'TenCrop': 10}.get(name, 1)
        assert torch.equal(frames, parts)
        places.add(tuple(find_marks(frames)[0].round(1)))
    random_views = name not in ('nothing', 'ThreeCrop', 'TenCrop', 'PillowResize')
    assert (len(places) > 1) == random_views


@pytest.mark.parametrize(
    'before',
    [
        dict(type='Flip', flip_ratio=0),
        dict(type='RandomCrop', size=16),
        dict(type='CenterCrop', crop_size=16),
        dict(type='PillowRandomSizedCrop', size=16),
        dict(type='PillowRotate', degrees=5),
    ],
    ids=lambda step: step['type'],
)
def test_levels_after_a_spatial_transform_are_refused(before: dict, tmp_path: Path) -> None:
    load = dict(type='LoadLevels', folder=str(write_folder(tmp_path)))
    with pytest.raises(DFERError, match='put LoadLevels before all transforms that flip') as error:
        Compose([before, load])(sample())
    assert '\n' not in str(error.value)


def test_colours_and_sizes_may_change_before_the_levels(tmp_path: Path) -> None:
    load = dict(type='LoadLevels', folder=str(write_folder(tmp_path)))
    jitter, resize = dict(type='ColorJitter'), dict(type='Resize', scale=(-1, 48))
    found = Compose([jitter, resize, load])(sample())
    assert len(found['imgs']) == 2 * len(SAMPLED)
    assert {img.shape for img in found['imgs']} == {(48, 64, 3)}


def test_repeated_frames_are_flipped_once_as_their_parts(tmp_path: Path) -> None:
    clip = tmp_path / 'clip'
    clip.mkdir()
    for number in range(3):
        picture = np.zeros((8, 8, 3), np.uint8)
        picture[:, :4] = 255
        Image.fromarray(picture).save(clip / f'{number}.png')
    masks = np.zeros((3, 8, 8), np.uint8)
    masks[:, :, :4] = PARTS.index('eye')
    write_levels(levels_path(tmp_path, CLIP), ClipLevels((8, 8), masks))
    steps = [
        dict(type='ClipInit'),
        dict(type='UniformSample', clip_len=8, test_mode=True),
        dict(type='ClipDecode'),
        dict(type='LoadLevels', folder=str(tmp_path), captions=False),
        dict(type='Flip', flip_ratio=1),
    ]
    found = Compose(steps)(dict(filename=str(clip), clip=CLIP, modality='RGB'))
    assert len(found['imgs']) == 16 and len(set(found['frame_inds'].tolist())) == 3
    assert all(img[:, 4:].min() > 200 and img[:, :4].max() == 0 for img in found['imgs'])


# Levels of a sample -------------------------------------------------------------------------------


def test_frames_do_not_depend_on_the_levels(tmp_path: Path) -> None:
    root, inputs = write_folder(tmp_path), []
    for options in ({}, dict(masks=False, landmarks=False), dict(captions=False)):
        np.random.seed(0)
        crop = dict(type='RandomCrop', size=16)
        inputs.append(run(sample(), root, crop, **options)['inputs'])
    np.random.seed(0)
    form = dict(type='FormatShape', input_format='NCTHW')
    plain = Compose([dict(type='RandomCrop', size=16), form, dict(type='PackActionInputs')])
    inputs.append(plain(sample())['inputs'])
    assert all(torch.equal(inputs[0], other) for other in inputs)


def test_levels_are_switched_off(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    full = run(sample(), root)['data_samples']
    assert full.caption == CAPTION and full.lacks == () and full.gt_label.tolist() == [3]
    for options in (dict(masks=False), dict(landmarks=False)):
        found = run(sample(), root, **options)['data_samples']
        assert found.lacks == () and not torch.equal(found.parts, full.parts)
    none = run(sample(), root / 'nowhere', masks=False, landmarks=False, captions=False)
    assert none['data_samples'].parts is none['data_samples'].caption is None
    assert none['data_samples'].lacks == ()


def test_a_film_lacks_all_levels(tmp_path: Path) -> None:
    packed = run(sample(clip=None), tmp_path / 'nowhere')
    assert packed['data_samples'].parts is packed['data_samples'].caption is None
    assert packed['data_samples'].lacks == ('masks', 'landmarks', 'caption')


def test_captions_are_dropped_with_the_given_probability(tmp_path: Path) -> None:
    root = write_folder(tmp_path)
    load, form = LoadLevels(str(root)), dict(type='FormatShape', input_format='NCTHW')
    pipeline = Compose([load, form, PackLevels(drop_captions=0.3)])
    np.random.seed(0)
    found = [pipeline(sample())['data_samples'] for _ in range(1000)]
    # Three standard deviations of a binomial share are 0.043.
    assert abs(np.mean([f.caption is None for f in found]) - 0.3) < 0.043
    assert {f.caption for f in found} == {None, CAPTION}
    assert all(f.lacks == () for f in found)
    with pytest.raises(DFERError, match=r'within 0\.\.1, got 2'):
        PackLevels(drop_captions=2)


def test_shuffled_captions_are_a_permutation(tmp_path: Path) -> None:
    captions = {f'train/{i:05d}': f'caption {i}' for i in range(50)}
    write_captions(tmp_path / 'captions.jsonl', captions)

    def load(**options: Any) -> list[str]:
        transform = LoadLevels(str(tmp_path), masks=False, landmarks=False, **options)
        return [transform(sample(clip))['caption'] for clip in captions]

    assert load() == list(captions.values())
    assert load(shuffle_captions=0) == load(shuffle_captions=0) != load(shuffle_captions=1)
    assert sorted(load(shuffle_captions=0)) == sorted(captions.values())
    assert all(a != b for a, b in zip(load(), load(shuffle_captions=0), strict=True))


def test_a_pipeline_without_loading_is_refused() -> None:
    with pytest.raises(DFERError, match='no LoadLevels'):
        Compose([dict(type='PackLevels')])(sample())


# The dataset and the log --------------------------------------------------------------------------

PIPELINE = [
    dict(type='ClipInit'),
    dict(type='UniformSample', clip_len=8),
    dict(type='ClipDecode'),
    dict(type='Resize', scale=(-1, 69)),
    dict(type='RandomCrop', size=64),
    dict(type='Flip', flip_ratio=0.5),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackLevels', drop_captions=0.5),
]


def build(data_root: Path, root: Path, **options: Any) -> SynthDFER:
    load = dict(type='LoadLevels', folder=str(root))
    return SynthDFER(
        str(data_root / 'synth'),
        pipeline=[*PIPELINE[:3], load, *PIPELINE[3:]],
        num_train=NUM_TRAIN,
        num_test=NUM_TEST,
        levels=str(root),
        **options,
    )


def test_the_dataset_gives_the_same_levels_for_a_view(data_root: Path, levels_root: Path) -> None:
    items = [build(data_root, levels_root).read_view(3, view) for view in (0, 0, 1)]
    samples = [item['data_samples'] for item in items]
    assert samples[0].parts.shape == items[0]['inputs'].shape == (1, 3, 8, 64, 64)
    assert samples[0].parts.dtype == torch.uint8
    assert torch.equal(samples[0].parts, samples[1].parts)
    assert samples[0].caption == samples[1].caption
    assert not torch.equal(samples[0].parts, samples[2].parts)
    captions = [build(data_root, levels_root).read_view(3, v)['data_samples'] for v in range(9)]
    assert len({c.caption for c in captions}) == 2


def test_pictures_show_the_sampled_frames_of_the_benchmark(
    data_root: Path, levels_root: Path
) -> None:
    dataset = SynthDFER(
        str(data_root / 'synth'),
        split='test',
        test_mode=True,
        num_train=NUM_TRAIN,
        num_test=NUM_TEST,
        pipeline=[
            dict(type='ClipInit'),
            dict(type='SampleTSN', num_segments=8, test_mode=True),
            dict(type='ClipDecode'),
            dict(type='LoadLevels', folder=str(levels_root), landmarks=False),
            dict(type='FormatShape', input_format='NCTHW'),
            dict(type='PackLevels'),
        ],
    )
    specs = [s for s in make_specs(NUM_TRAIN, NUM_TEST, 140, 70, 0) if s.split == 'test']
    faces, nearer = make_identities(140, 70, 0), 0
    for index, spec in enumerate(specs):
        drawn = dataset[index]['data_samples'].parts[0].permute(1, 2, 3, 0).numpy()
        numbers = ((np.arange(8) + 0.5) * spec.num_frames / 8).astype(int)
        truth = PALETTE[true_levels(spec, faces[spec.identity], 112)[0][numbers]]
        found = drawn.any((1, 2, 3))  # the detector misses some frames
        equal = (drawn == truth).all(-1).mean((1, 2))[found]
        other = (drawn == truth[::-1]).all(-1).mean((1, 2))[found]
        assert np.median(equal) > 0.9  # a part is confused in some frames
        nearer += equal.mean() > other.mean()
    assert nearer >= NUM_TEST - 2


def test_the_hook_counts_what_clips_lack(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_folder(tmp_path)
    levels_path(root, 'train/00003').write_bytes(with_nan(np.random.default_rng(0), [2, 4]))
    clips = (CLIP, 'train/00002', 'train/00003', 'train/00004')
    batch = pseudo_collate([run(sample(clip), root) for clip in clips])
    runner: Any = SimpleNamespace(logger=logging.getLogger('levels'))
    hook = LevelsHook()
    with caplog.at_level('INFO', 'levels'):
        hook.after_train_iter(runner, 0, batch, None)
        hook.after_train_iter(runner, 1, batch, None)
        hook.after_val_iter(runner, 0, batch, None)
        hook.after_train_epoch(runner)
        hook.after_train_epoch(runner)
    (line,) = caplog.messages
    assert line == (
        'Levels of 8 training clips: 4 lack masks, 4 lack landmarks, 4 lack captions; no '
        'landmarks were found in 4 frames of the other clips'
    )


def test_the_hook_says_what_is_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = dict(landmarks=False, captions=False)
    batch = pseudo_collate([run(sample(), write_folder(tmp_path), **options)])
    runner: Any = SimpleNamespace(logger=logging.getLogger('levels'))
    hook = LevelsHook()
    with caplog.at_level('INFO', 'levels'):
        hook.after_test_iter(runner, 0, batch, None)
        hook.after_test_epoch(runner)
    (line,) = caplog.messages
    assert line == (
        'Levels of 1 test clips: 0 lack masks, landmarks are not read, captions are not read'
    )


def test_the_hook_warns_if_no_clip_has_a_level(
    data_root: Path, levels_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_captions(tmp_path / 'captions.jsonl', {'00001.mp4': CAPTION})
    lines = []
    for root in (levels_root, tmp_path):
        dataset = build(data_root, levels_root)
        dataset.pipeline.transforms[3].folder = str(root)
        runner: Any = SimpleNamespace(
            logger=logging.getLogger('levels'), train_dataloader=SimpleNamespace(dataset=dataset)
        )
        caplog.clear()
        with caplog.at_level('INFO', 'levels'):
            LevelsHook().before_train(runner)
        lines.append(caplog.messages)
    assert lines[0] == [] and len(lines[1]) == 2
    assert str(tmp_path / 'train' / '00001.npz') in lines[1][0]
    assert lines[1][1].endswith("captions.jsonl is '00001.mp4'")
    assert "first clip is 'train/0" in lines[1][1]


# The detector's noise -----------------------------------------------------------------------------


def test_errors_and_misses_of_landmarks_have_the_stated_size() -> None:
    noise = DetectorNoise(missed=0.1, error=0.05, border=0.01, steady=0.8, confused=0)
    masks, landmarks = np.ones((4, 16, 16), np.uint8), np.full((4, 68, 2), 8.0)
    rng = np.random.default_rng(0)
    found_masks, found = map(
        np.stack, zip(*(detect(masks, landmarks, noise, rng) for _ in range(500)), strict=True)
    )
    missed = np.isnan(found).all((2, 3))
    assert np.array_equal(missed, np.isnan(found).any((2, 3)))
    assert np.array_equal(missed, ~found_masks.any((2, 3)))
    assert abs(missed.mean() - 0.1) < 0.02  # three standard deviations
    error = (found - landmarks)[~missed.any(1)] / (0.05 * 16)
    assert abs(error.std() - 1) < 0.01 and abs(error.mean()) < 0.02
    # Two frames of a clip share 80 % of the variance, and two landmarks or two clips share none.
    assert abs((error[:, 1:] * error[:, :-1]).mean() - 0.8) < 0.02
    assert abs((error[:, :, 1:] * error[:, :, :-1]).mean()) < 0.02
    assert abs((error[1:] * error[:-1]).mean()) < 0.02


def test_borders_move_by_the_stated_distance() -> None:
    side = 112
    halves = np.zeros((2, side, side), np.uint8)
    halves[:, :, side // 2 :] = 1
    noise = DetectorNoise(missed=0, error=0, border=0.02, steady=0.8, confused=0)
    rng = np.random.default_rng(0)
    found = np.stack([detect(halves, np.zeros((2, 68, 2)), noise, rng)[0] for _ in range(200)])
    moved = found.sum(3) - side / 2  # how far the border is displaced in each row
    assert abs(np.sqrt((moved**2).mean()) / (0.02 * side) - 1) < 0.1
    shared = (moved[:, 0] * moved[:, 1]).mean() / (moved**2).mean()
    assert abs(shared - 0.8) < 0.1
    # Neighbouring points move alike: a border has no step of many pixels.
    assert np.abs(np.diff(moved, axis=2)).max() <= 0.1 * side


def test_parts_are_confused_as_often_as_stated() -> None:
    masks = np.broadcast_to(np.arange(len(PARTS), dtype=np.uint8)[:, None], (3000, 12, 12)).copy()
    noise = DetectorNoise(missed=0, error=0, border=1e-9, confused=0.2)
    found, _ = detect(masks, np.zeros((3000, 68, 2)), noise, np.random.default_rng(0))
    for number, part in enumerate(PARTS):
        taken = found[:, number, 0]
        names = dict(CONFUSIONS)
        if part in names:
            assert set(np.unique(taken)) == {number, PARTS.index(names[part])}
            assert abs((taken != number).mean() - 0.2) < 0.022  # three standard deviations
        else:
            assert (taken == number).all()


def test_the_detector_is_as_good_as_documented(specs: list[ClipSpec]) -> None:
    faces = make_identities(140, 70, 0)
    errors = []
    for spec in specs[:20]:
        truth = true_levels(spec, faces[spec.identity], 112)[1]
        found = detect_levels(spec, faces[spec.identity]).landmarks
        eyes = np.linalg.norm(truth[:, 36] - truth[:, 45], axis=-1)  # the outer corners
        errors.append(np.nanmean(np.linalg.norm(found - truth, axis=-1).T / eyes))
    assert 0.032 < np.mean(errors) < 0.036


def test_noise_is_seeded(specs: list[ClipSpec]) -> None:
    face = make_identities(140, 70, 0)[specs[0].identity]
    first, again, other = (detect_levels(specs[0], face, seed=seed) for seed in (0, 0, 1))
    for name in ('masks', 'landmarks'):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
        assert not np.array_equal(getattr(first, name), getattr(other, name))
    assert describe_clips(specs) == describe_clips(specs) != describe_clips(specs, seed=1)
    # The caption of a clip does not depend on the other clips.
    assert describe_clips(specs[50:60]).items() <= describe_clips(specs).items()


# The describer ------------------------------------------------------------------------------------


def units_of(sentence: str) -> list[str]:
    """Return the action units that a sentence names, in the order of ``AU_NAMES``."""
    names = [(unit, AU_NAMES[unit], PLAIN[unit]) for unit in AU_NAMES]
    return [unit for unit, *texts in names if any(text in sentence for text in texts)]


def test_the_describer_uses_words_of_the_small_clip_and_names_no_emotion(
    specs: list[ClipSpec],
) -> None:
    captions = describe_clips(specs)
    words = {word for text in captions.values() for word in re.findall(r'\w+', text)}
    assert words <= set(caption_words())
    assert words.isdisjoint({*CLASSES, *ADJECTIVE.values()})
    assert len(set(captions.values())) > 1000


def test_an_observer_without_errors_names_what_is_shown_in_order(specs: list[ClipSpec]) -> None:
    captions = describe_clips(specs, noise=DescriberNoise(0, 0, 0))
    for spec in specs[:300]:
        shown = sorted(spec.expressions, key=lambda e: e.start)
        expected = [[u for u in AU_NAMES if e.aus.get(u, 0) > 0.15] for e in shown]
        expected = [units for units in expected if units]
        caption = captions[clip_name(spec)]
        if expected:
            assert [units_of(sentence) for sentence in caption.split('. ')] == expected
        else:
            assert caption in CALM


def test_errors_of_the_observer_have_the_stated_size(specs: list[ClipSpec]) -> None:
    single = [s for s in specs if len(s.expressions) == 1 and s.kind == 'plain']
    visible = [{u for u, value in s.expressions[0].aus.items() if value > 0.15} for s in single]
    shown = [set(s.expressions[0].aus) for s in single]

    def seen(**changes: float) -> list[set[str]]:
        noise = DescriberNoise(**dict(missed=0.0, added=0.0, unordered=0.0) | changes)
        found = describe_clips(single, noise=noise)
        return [set(units_of(found[clip_name(s)])) for s in single]

    found = seen(missed=0.3)
    share = sum(len(a & b) for a, b in zip(found, visible, strict=True)) / sum(map(len, visible))
    assert abs(share - 0.7) < 0.03  # three standard deviations
    assert all(a <= b for a, b in zip(found, visible, strict=True))
    added = [len(a - b) for a, b in zip(seen(added=0.4), shown, strict=True)]
    assert set(added) == {0, 1} and abs(np.mean(added) - 0.4) < 0.06
    assert not any(seen(missed=1.0))


def test_the_order_is_left_out_as_often_as_stated(specs: list[ClipSpec]) -> None:
    pairs = [s for s in specs if s.kind == 'sequence']
    found = describe_clips(pairs, noise=DescriberNoise(0, 0, 0.75))
    share = np.mean(['. ' not in found[clip_name(s)] for s in pairs])
    assert abs(share - 0.75) < 0.05  # three standard deviations


def test_captions_alone_recognise_half_of_the_clips(specs: list[ClipSpec]) -> None:
    from benchmarks.captions import measure_captions

    scores = measure_captions(specs, describe_clips(specs))
    assert 50 <= max(score['WAR'] for score in scores.values()) <= 60


# Making the levels --------------------------------------------------------------------------------


def test_the_levels_of_a_benchmark_are_complete(levels_root: Path) -> None:
    specs = make_specs(NUM_TRAIN, NUM_TEST, 140, 70, 0)
    assert set(read_captions(levels_root / 'captions.jsonl')) == set(map(clip_name, specs))
    for spec in specs:
        levels = read_levels(levels_path(levels_root, clip_name(spec)))
        assert levels is not None and levels.size == (112, 112)
        assert len(levels) == spec.num_frames
        assert levels.masks is not None and levels.landmarks is not None


def test_making_continues_and_refuses_other_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / 'levels'
    sizes = {'train': 6, 'test': 3, 'train-identities': 3, 'test-identities': 2, 'size': 64}
    command = [f'--{name}={value}' for name, value in sizes.items()] + ['--workers', '1']
    make_synthetic.main([*command, '--levels', str(root)])
    assert 'Making the levels' in capsys.readouterr().err

    def read_files() -> dict[Path, bytes]:
        paths = (path for path in root.rglob('*') if path.is_file() and path.suffix != '.lock')
        return {path: path.read_bytes() for path in paths}

    files = read_files()
    assert len(files) == 6 + 3 + 2
    changed = {path: path.stat().st_mtime_ns for path in files}
    lost = sorted(root.rglob('*.npz'))[4]
    lost.unlink()
    (lost.parent / '.00009.999999999.aside.npz').write_bytes(b'')
    make_synthetic.main([*command, '--levels', str(root)])
    assert read_files() == files
    assert [p for p in files if p.stat().st_mtime_ns != changed[p]] == [lost]
    with pytest.raises(SystemExit, match=r'levels\.json: the levels in this folder were made with'):
        make_synthetic.main([*command, '--levels', str(root), '--seed', '1'])
    (root / 'levels.json').unlink()
    with pytest.raises(SystemExit, match=r'contains files, but not levels\.json'):
        make_synthetic.main([*command, '--levels', str(root), '--seed', '1'])
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'photo.jpg').write_bytes(b'')
    with pytest.raises(SystemExit, match='give an empty folder'):
        make_synthetic.main([*command, '--levels', str(tmp_path / 'other')])
