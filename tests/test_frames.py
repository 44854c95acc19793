"""Test folders of pictures in the pipeline: order, gaps, short clips and damage."""

from __future__ import annotations

import builtins
import errno
import io
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mmaction.registry import DATASETS

from mmdfer import files
from mmdfer.datasets import ClipDecode, ClipInit, DFERDataset, SampleSegments
from mmdfer.datasets.transforms.frame_reader import list_frames, read_picture
from mmdfer.engine import UnreadableHook
from mmdfer.errors import DFERError, UnreadableClipError
from mmdfer.files import FileSystemError

PIPELINE = [
    dict(type='ClipInit'),
    dict(type='SampleSegments', clip_len=16),
    dict(type='ClipDecode'),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]


def draw(path: Path, value: int, size: tuple[int, int] = (16, 16)) -> None:
    """Write a picture of one grey value, which identifies the picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, (value, value, value)).save(path, quality=95)


def folder(root: Path, names: list[str]) -> Path:
    """Write the pictures of a clip; picture number i has the grey value 8 * i."""
    for i, name in enumerate(names):
        draw(root / name, 8 * i)
    return root


def shown(clip: Path, **sampler: object) -> list[int]:
    """Return the numbers of the pictures that the pipeline reads, from their grey values."""
    results = ClipInit()(dict(filename=str(clip)))
    results = ClipDecode()(SampleSegments(clip_len=16, test_mode=True, **sampler)(results))
    return [round(float(img.mean()) / 8) for img in results['imgs']]


# ------------------------------------------------------------------ order and gaps


@pytest.mark.parametrize(
    'names',
    [
        [f'{n}.jpg' for n in range(1, 17)],  # DFEW's 16 frames: sorted as text, 10 comes before 2
        [f'{n}.jpg' for n in range(16)],
        [
            f'00001_{n:05d}.jpg'
            for n in (1, 2, 5, 9, 10, 30, 31, 32, 77, 78, 80, 99, 100, 101, 102, 7000)
        ],
        [f'{n:02d}.png' for n in range(92, 108)],  # 99, 100: the width changes
        [f'frame-{n}.JPEG' for n in range(5, 21)],
    ],
)
def test_frames_come_in_the_order_of_their_numbers(tmp_path: Path, names: list[str]) -> None:
    clip = folder(tmp_path / '00001', names)
    for stray in ('._1.jpg', '.hidden_3.jpg', 'Thumbs.db', 'cover.jpg', '7.txt', '1.jpg.part'):
        (clip / stray).write_bytes(b'x')
    assert list_frames(clip) == names
    assert shown(clip) == list(range(16))
    if names[0] == '1.jpg':
        assert sorted(names) != names  # so a plain sort gives another order


FACES = {
    'one face each': ([f'{i}_0.jpg' for i in range(12)], list(range(12))),
    'frames before frame 10': ([f'{i}_0.png' for i in (9, 10, 100)], [0, 1, 2]),
    'a second face now and then': (['0001.jpg', '0001_2.jpg', '0002.jpg', '0003.jpg'], [0, 2, 3]),
    'two faces each': ([f'{i:04d}_{k}.jpg' for i in range(6) for k in (1, 2)], [0, 2, 4, 6, 8, 10]),
    'named': (['frame2_face0.jpg', 'frame2_face1.jpg', 'frame10_face1.jpg'], [0, 2]),
    'the face first': ([f'face{k}_frame{i}.jpg' for k in (0, 1) for i in (8, 9, 10)], [0, 1, 2]),
    'clip, frame, face': ([f'c7_{i}_{k}.jpg' for i in (9, 10, 11) for k in (0, 3)], [0, 2, 4]),
    'clip and frame': ([f'00001_{i:05d}.jpg' for i in (3, 7, 20)], [0, 1, 2]),
    'seconds': (['f_0.96.jpg', 'f_1.00.jpg', 'f_1.04.jpg'], [0, 1, 2]),
    'minutes and seconds': ([f'{m}_{s}.jpg' for m in (0, 1) for s in (0, 1, 2)], list(range(6))),
}


@pytest.mark.parametrize('kind', FACES)
def test_of_several_faces_in_a_frame_the_first_is_read(tmp_path: Path, kind: str) -> None:
    names, places = FACES[kind]
    clip = folder(tmp_path / kind, names)
    assert list_frames(clip) == [names[place] for place in places]


# ------------------------------------------------------------------ sampling


@pytest.mark.parametrize('count', [1, 2, 5, 8, 11, 15, 16])
@pytest.mark.parametrize('test_mode', [True, False])
def test_a_short_clip_repeats_its_frames_evenly(count: int, test_mode: bool) -> None:
    sample = SampleSegments(clip_len=16, test_mode=test_mode)
    places = sample(dict(total_frames=count, start_index=0))['frame_inds']
    times = np.bincount(places, minlength=count)
    assert places.tolist() == sorted(places) and times.sum() == 16
    assert times.max() - times.min() <= 1 and len(times) == count
    assert np.array_equal(places, sample(dict(total_frames=count, start_index=0))['frame_inds'])


@pytest.mark.parametrize('count', [17, 31, 32, 70, 847])
def test_one_frame_of_each_segment(count: int) -> None:
    edges = np.linspace(0, count, 17)

    def in_segments(places: np.ndarray) -> bool:
        return all(
            np.floor(edges[i]) <= p < max(edges[i + 1], edges[i] + 1) for i, p in enumerate(places)
        )

    test = SampleSegments(clip_len=16, test_mode=True)
    central = test(dict(total_frames=count, start_index=0))['frame_inds']
    assert in_segments(central) and len(set(central)) == 16
    assert abs(np.mean(central) - (count - 1) / 2) <= 1
    train = SampleSegments(clip_len=16)
    # A segment of 847 frames has 53 frames at most: 1500 draws miss one with p < 1e-9.
    drawn = [train(dict(total_frames=count, start_index=0))['frame_inds'] for _ in range(1500)]
    assert all(in_segments(places) for places in drawn)
    assert set(np.concatenate(drawn)) == set(range(count))
    clips = SampleSegments(clip_len=16, num_clips=2, test_mode=True)
    two = clips(dict(total_frames=count, start_index=0))['frame_inds'].reshape(2, 16)
    assert in_segments(two[0]) and in_segments(two[1]) and (two[0] <= two[1]).all()


# ------------------------------------------------------------------ sizes and depths


def test_frames_of_several_sizes_show_the_same_part(tmp_path: Path) -> None:
    """Check that a disc in the middle fills the same share of each frame."""
    for number, side in enumerate([100, *[300, 340, 40] * 5]):
        y, x = np.mgrid[0:side, 0:side] / side - 0.5
        disc = np.where(x**2 + y**2 < 0.04, 0, 255).astype(np.uint8)
        (tmp_path / 'clip').mkdir(exist_ok=True)
        Image.fromarray(disc).save(tmp_path / 'clip' / f'{number}.png')
    results = ClipInit()(dict(filename=str(tmp_path / 'clip')))
    results = ClipDecode()(SampleSegments(clip_len=16, test_mode=True)(results))
    assert {img.shape for img in results['imgs']} == {(340, 340, 3)}
    assert results['img_shape'] == (340, 340)
    dark = [(img < 128).mean() for img in results['imgs']]
    assert dark == pytest.approx([np.pi * 0.04] * 16, abs=0.006)


@pytest.mark.parametrize('mode', ['I;16', 'RGB', 'L', 'LA', 'P', '1'])
def test_pictures_of_every_depth_are_read(tmp_path: Path, mode: str) -> None:
    ramp = np.tile(np.linspace(0, 255, 64).round().astype(np.uint8), (8, 1))
    if mode == 'I;16':
        picture = Image.fromarray(np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (8, 1)))
        assert picture.mode == mode
    else:
        picture = Image.fromarray(ramp).convert(mode)
    picture.save(tmp_path / '1.png')
    read = read_picture(tmp_path / '1.png')
    assert read.shape == (8, 64, 3) and read.dtype == np.uint8
    if mode == '1':
        assert set(np.unique(read)) == {0, 255}
    else:
        assert np.abs(read.astype(int) - ramp[..., None]).max() <= (3 if mode == 'P' else 1)


# ------------------------------------------------------------------ damage


def test_every_cut_of_a_picture_is_seen(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    for suffix in ('jpg', 'png', 'bmp'):
        path, whole = tmp_path / f'1.{suffix}', io.BytesIO()
        Image.fromarray(noise).save(whole, 'jpeg' if suffix == 'jpg' else suffix)
        path.write_bytes(whole.getvalue())
        assert read_picture(path).shape == (24, 24, 3)
        for size in range(0, len(whole.getvalue()) - 20, 37):
            path.write_bytes(whole.getvalue()[:size])
            with pytest.raises((OSError, SyntaxError, ValueError)):
                read_picture(path)


def test_the_nearest_readable_frame_replaces_an_unreadable_one(tmp_path: Path) -> None:
    names = [f'{n}.jpg' for n in range(1, 17)]
    clip = folder(tmp_path / '00001', names)
    for place in (0, 1, 6, 15):
        (clip / names[place]).write_bytes(b'')
    (clip / names[9]).write_bytes((clip / names[9]).read_bytes()[:300])
    unreadable: list[str] = []
    results = ClipInit()(dict(filename=str(clip), unreadable=unreadable))
    results = ClipDecode()(SampleSegments(clip_len=16, test_mode=True)(results))
    places = [round(float(img.mean()) / 8) for img in results['imgs']]
    assert places == [2, 2, 2, 3, 4, 5, 5, 7, 8, 8, 10, 11, 12, 13, 14, 14]
    assert sorted(unreadable) == sorted(names[i] for i in (0, 1, 6, 9, 15))


def test_a_clip_without_a_readable_frame_is_named(tmp_path: Path) -> None:
    clip = folder(tmp_path / '00001', ['1.jpg', '2.jpg'])
    for picture in clip.iterdir():
        picture.write_bytes(b'no picture')
    results = SampleSegments(clip_len=16)(ClipInit()(dict(filename=str(clip))))
    with pytest.raises(UnreadableClipError, match=f'{clip}: none of its 2 pictures'):
        ClipDecode()(results)
    with pytest.raises(UnreadableClipError, match='holds no picture'):
        ClipInit()(dict(filename=str(tmp_path)))


@DATASETS.register_module()
class FourClips(DFERDataset):
    """Provide four folders of pictures, for tests that damage some of them."""

    METAINFO = dict(classes=('one', 'other'))

    def __init__(self, *args: object, suffix: str = '', **kwargs: object) -> None:
        self.suffix = suffix
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        root, end = Path(self.data_root), self.suffix
        return [dict(filename=str(root / f'{i}{end}'), label=i % 2, clip=f'{i}') for i in range(4)]


@pytest.fixture
def four(tmp_path: Path) -> Path:
    for i in range(4):
        folder(tmp_path / f'{i}', [f'{n}.jpg' for n in range(1, 17)])
    return tmp_path


def _damage(root: Path) -> None:
    """Damage all pictures of clip 1 and one picture of clip 2."""
    for picture in (root / '1').iterdir():
        picture.write_bytes(b'')
    (root / '2' / '5.jpg').write_bytes(b'')


@pytest.mark.parametrize('workers', [0, 2])
def test_training_skips_a_lost_clip_and_says_so(four: Path, workers: int) -> None:
    _damage(four)
    dataset = FourClips('', data_root=str(four), pipeline=PIPELINE)
    loader = DataLoader(dataset, batch_size=4, num_workers=workers, collate_fn=list)
    (batch,) = list(loader)
    labels = [int(item['data_samples'].gt_label) for item in batch]
    assert labels == [0, 0, 0, 1]  # clip 2 replaces clip 1, with its own label
    assert torch.equal(batch[1]['inputs'], batch[2]['inputs'])
    assert dataset.unreadable.tolist() == [0, dataset.LOST, 1, 0]

    said: list[str] = []
    runner = type('R', (), {})()
    runner.logger = type('L', (), {'warning': lambda self, text: said.append(text)})()
    runner.train_dataloader = loader
    hook = UnreadableHook()
    hook.after_train_epoch(runner)
    assert len(said) == 2 and '2 (1)' in said[0] and 'skipped: 1' in said[1]
    hook.after_train_epoch(runner)
    assert len(said) == 2


def _fail(monkeypatch: pytest.MonkeyPatch, folder: Path, number: int, times: int) -> list[int]:
    """Make the file system fail below a folder.

    Args:
        monkeypatch: The fixture.
        folder: The folder below which opening a file fails.
        number: The errno of the failures.
        times: How many times opening a file fails.

    Returns:
        A list with one number, the failures that are left.
    """
    really, left = io.open, [times]

    def flaky(file: object, *args: object, **kwargs: object) -> object:
        if str(file).startswith(str(folder)) and left[0] > 0:
            left[0] -= 1
            raise OSError(number, os.strerror(number), str(file))
        return really(file, *args, **kwargs)

    monkeypatch.setattr(files, 'WAITS', (0.0, 0.0, 0.0))
    monkeypatch.setattr(io, 'open', flaky)
    monkeypatch.setattr(builtins, 'open', flaky)
    return left


@pytest.mark.parametrize('number', [errno.ESTALE, errno.EIO, errno.EMFILE, errno.ETIMEDOUT])
@pytest.mark.parametrize('kind', ['pictures', 'video'])
def test_a_passing_fault_costs_no_clip(
    four: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: str
) -> None:
    dataset = FourClips('', data_root=str(four), pipeline=PIPELINE, num_views=1)
    if kind == 'video':
        shutil.rmtree(four / '0')
        writer = cv2.VideoWriter(str(four / '0.mp4'), cv2.VideoWriter_fourcc(*'mp4v'), 25, (64, 64))
        for _ in range(16):
            writer.write(np.full((64, 64, 3), 99, np.uint8))
        writer.release()
        dataset = FourClips('', data_root=str(four), suffix='.mp4', pipeline=PIPELINE, num_views=1)
    expected = dataset.read_view(0, 0)['inputs']
    left = _fail(monkeypatch, four / ('0' + dataset.suffix), number, times=3)
    assert torch.equal(dataset.read_view(0, 0)['inputs'], expected) and left == [0]
    left[0] = 10**6  # the fault does not pass
    with pytest.raises(FileSystemError, match=f'{four}/0.*{os.strerror(number)}.*--resume'):
        dataset.read_view(0, 0)
    left[0] = 0  # once the fault has passed, the clip is read again
    assert torch.equal(dataset.read_view(0, 0)['inputs'], expected)
    assert dataset.unreadable.tolist() == [0, 0, 0, 0]


def test_a_folder_that_may_not_be_listed_is_an_error(
    four: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: object) -> list[str]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    monkeypatch.setattr(os, 'listdir', refuse)
    dataset = FourClips('', data_root=str(four), pipeline=PIPELINE)
    with pytest.raises(FileSystemError, match=f'{four}/0: access is denied .*permissions'):
        dataset[0]


def test_testing_stops_at_a_lost_clip(four: Path) -> None:
    _damage(four)
    dataset = FourClips('', data_root=str(four), pipeline=PIPELINE, test_mode=True)
    assert dataset[2]['inputs'].shape == (1, 3, 16, 16, 16)
    with pytest.raises(DFERError, match='none of its 16 pictures can be read'):
        dataset[1]


def test_training_on_nothing_stops(four: Path) -> None:
    for picture in four.glob('*/*'):
        picture.write_bytes(b'')
    dataset = FourClips('', data_root=str(four), pipeline=PIPELINE)
    with pytest.raises(DFERError, match='none of its 4 clips can be read'):
        dataset[0]
