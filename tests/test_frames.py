"""Folders of pictures through the pipeline: order, gaps, short clips, damage."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mmaction.registry import DATASETS

from mmdfer.datasets import ClipDecode, ClipInit, DFERDataset, SampleSegments
from mmdfer.datasets.frames import list_frames, read_picture
from mmdfer.engine import UnreadableHook
from mmdfer.errors import DFERError, UnreadableClipError

PIPELINE = [
    dict(type='ClipInit'),
    dict(type='SampleSegments', clip_len=16),
    dict(type='ClipDecode'),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]


def draw(path: Path, value: int, size: tuple[int, int] = (16, 16)) -> None:
    """A picture of one grey value, which tells it from the others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, (value, value, value)).save(path, quality=95)


def folder(root: Path, names: list[str]) -> Path:
    """A clip's folder; the picture of place i has the grey value 8 i."""
    for i, name in enumerate(names):
        draw(root / name, 8 * i)
    return root


def shown(clip: Path, **sampler: object) -> list[int]:
    """The places of the frames that the pipeline gives, from their grey values."""
    results = ClipInit()(dict(filename=str(clip)))
    results = ClipDecode()(SampleSegments(clip_len=16, test_mode=True, **sampler)(results))
    return [round(float(img.mean()) / 8) for img in results['imgs']]


# ------------------------------------------------------------------ order and gaps


@pytest.mark.parametrize(
    'names',
    [
        [f'{n}.jpg' for n in range(1, 17)],  # DFEW's 16 frames: as text, 10 stands before 2
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
        assert sorted(names) != names  # what a plain sort would have given


def test_a_template_could_not_have_read_the_gaps(tmp_path: Path) -> None:
    clip = folder(tmp_path / '00001', ['00001_00003.jpg', '00001_00007.jpg'])
    results = ClipInit()(dict(filename=str(clip)))
    assert results['total_frames'] == 2 and results['start_index'] == 0
    assert not (clip / f'00001_{results["start_index"]:05d}.jpg').exists()


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
    drawn = [train(dict(total_frames=count, start_index=0))['frame_inds'] for _ in range(200)]
    assert all(in_segments(places) for places in drawn)
    assert set(np.concatenate(drawn)) == set(range(count)) or count > 100
    clips = SampleSegments(clip_len=16, num_clips=2, test_mode=True)
    two = clips(dict(total_frames=count, start_index=0))['frame_inds'].reshape(2, 16)
    assert in_segments(two[0]) and in_segments(two[1]) and (two[0] <= two[1]).all()


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


def test_the_nearest_readable_frame_stands_in(tmp_path: Path) -> None:
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
    """Four folders, of which the tests damage some."""

    METAINFO = dict(classes=('one', 'other'))

    def load_data_list(self) -> list[dict]:
        root = Path(self.data_root)
        return [dict(filename=str(root / f'{i}'), label=i % 2, clip=f'{i}') for i in range(4)]


@pytest.fixture
def four(tmp_path: Path) -> Path:
    for i in range(4):
        folder(tmp_path / f'{i}', [f'{n}.jpg' for n in range(1, 17)])
    return tmp_path


def _damage(root: Path) -> None:
    """Clip 1 is lost; one picture of clip 2 is."""
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
    assert labels == [0, 0, 0, 1]  # clip 2 stands in for clip 1, with its own label
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
