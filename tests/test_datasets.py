"""Test that views depend on seed, clip and number only, and that errors name the file."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import NUM_TEST, NUM_TRAIN, ROOT
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from torch.utils.data import DataLoader

from mmaction.datasets.transforms import UniformSample
from mmaction.registry import DATASETS

from mmdfer import DFERError
from mmdfer.datasets import ShuffleFrames, SynthDFER
from mmdfer.features import EncodedClips
from mmdfer.synthetic.emotions import CLASSES


def _dataset(data_root: Path, **options: object) -> SynthDFER:
    config = Config.fromfile(ROOT / 'configs' / 'align_dfer_synth.py')
    arguments = {**config.train_dataloader.dataset.dataset, 'data_root': str(data_root / 'synth')}
    sizes = dict(num_train=NUM_TRAIN, num_test=NUM_TEST)
    return DATASETS.build({**arguments, **sizes, **options})


def test_a_view_is_a_function_of_seed_clip_and_number(data_root: Path) -> None:
    dataset, other = _dataset(data_root), _dataset(data_root, seed=1)
    np.random.seed(5)
    first = dataset.read_view(3, 1)['inputs']
    np.random.seed(6)
    dataset.read_view(7, 0)
    state = np.random.get_state()[1].copy()
    assert torch.equal(dataset.read_view(3, 1)['inputs'], first)
    assert np.array_equal(np.random.get_state()[1], state)  # the global random state is unchanged
    assert first.shape == (1, 3, 16, 64, 64) and first.dtype == torch.uint8
    for different in (dataset.read_view(3, 2), dataset.read_view(4, 1), other.read_view(3, 1)):
        assert not torch.equal(different['inputs'], first)


def test_epochs_show_the_views_in_turn(data_root: Path) -> None:
    dataset = _dataset(data_root, num_views=4)
    for index in range(4):
        shown = [dataset.view_at(index, epoch) for epoch in range(8)]
        assert sorted(shown[:4]) == [0, 1, 2, 3] and shown[:4] == shown[4:]
    assert (
        len({dataset.view_at(index, 0) for index in range(20)}) == 4
    )  # the first view differs between clips
    assert [_dataset(data_root, num_views=None).view_at(0, epoch) for epoch in (0, 9)] == [0, 9]
    assert _dataset(data_root, split='test', test_mode=True).view_at(3, 9) == 0


@pytest.mark.parametrize('workers', [0, 2])
def test_the_epoch_reaches_persistent_workers(data_root: Path, workers: int) -> None:
    dataset = _dataset(data_root, num_views=None)
    dataset.read_view = lambda index, view: (index, view)
    sampler = DefaultSampler(dataset, shuffle=True, seed=0)
    loader = DataLoader(
        dataset,
        batch_size=8,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=list,
    )
    for epoch in (0, 1, 2):
        sampler.set_epoch(epoch)
        seen = [item for batch in loader for item in batch]
        assert sorted(index for index, _ in seen) == list(range(NUM_TRAIN))
        assert {view for _, view in seen} == {epoch}


def test_an_index_survives_pickling_with_its_epoch(data_root: Path) -> None:
    index = next(_with_epoch(_dataset(data_root)))
    copy = pickle.loads(pickle.dumps(index))
    assert (copy, copy.epoch) == (index, 3)


def _with_epoch(dataset: SynthDFER) -> Iterator[int]:
    sampler = DefaultSampler(dataset, shuffle=False, seed=0)
    sampler.set_epoch(3)
    return iter(sampler)


def test_features_replace_frames(data_root: Path) -> None:
    dataset = EncodedClips(_dataset(data_root))
    dataset.features = torch.randn(NUM_TRAIN, 4, 1, 16, 8)
    (item,) = dataset.read_views([(5, 2)])
    assert torch.equal(item['features'], dataset.features[5, 2])
    assert int(item['data_samples'].gt_label) == dataset.get_data_info(5)['label']


def test_splits_share_no_identity_and_name_the_classes(data_root: Path) -> None:
    people = {}
    for split in ('train', 'test', 'fit', 'heldout'):
        dataset = _dataset(data_root, split=split)
        people[split] = {dataset.get_data_info(i)['identity'] for i in range(len(dataset))}
        assert dataset.metainfo['classes'] == CLASSES
    assert not people['train'] & people['test'] and not people['fit'] & people['heldout']
    assert people['fit'] | people['heldout'] == people['train']
    with pytest.raises(
        DFERError, match="split must be one of train, test, fit, heldout, got 'val'"
    ):
        _dataset(data_root, split='val')


def test_frames_are_shuffled_within_each_clip_and_each_clip_its_own_way() -> None:
    def orders(name: str) -> np.ndarray:
        results = dict(filename=name, total_frames=40, start_index=0)
        results = UniformSample(clip_len=16, num_clips=2, test_mode=True)(results)
        return ShuffleFrames(seed=0)(results)['frame_inds'].reshape(2, 16)

    sampled = UniformSample(clip_len=16, num_clips=2, test_mode=True)
    ordered = sampled(dict(total_frames=40, start_index=0))['frame_inds'].reshape(2, 16)
    one, other = orders('a/1.mp4'), orders('a/2.mp4')
    assert np.array_equal(np.sort(one, 1), ordered) and not np.array_equal(one, ordered)
    assert np.array_equal(orders('b/1.mp4'), one) and not np.array_equal(one, other)


@pytest.fixture
def own_root(data_root: Path, tmp_path: Path) -> Path:
    """Copy the benchmark for a test that damages it."""
    shutil.copytree(data_root / 'synth', tmp_path / 'synth')
    return tmp_path


def _empty(path: Path) -> None:
    path.write_bytes(b'')


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def _text(path: Path) -> None:
    path.write_text('<html>quota exceeded</html>\n' * 50)


def _missing(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize('damage', [_empty, _truncate, _text, _missing])
@pytest.mark.parametrize('workers', [0, 1])
def test_a_bad_video_is_one_line_with_its_name(own_root: Path, damage, workers: int) -> None:
    dataset = _dataset(own_root, split='test', test_mode=True)
    path = Path(dataset.get_data_info(2)['filename'])
    damage(path)
    loader = DataLoader(dataset, batch_size=4, num_workers=workers, collate_fn=list)
    with pytest.raises(DFERError) as error:
        list(loader)
    line = str(error.value).strip().splitlines()[-1]
    assert str(path) in line and len(line) < 400
    assert workers or '\n' not in str(error.value)


def test_a_size_that_decord_misreads_is_read_right(own_root: Path) -> None:
    pytest.importorskip('decord')
    ours = _dataset(own_root, split='test', test_mode=True)
    decord = [dict(type='DecordInit'), ours.pipeline_config[1], dict(type='DecordDecode')]
    decord += ours.pipeline_config[3:]
    theirs = _dataset(own_root, split='test', test_mode=True, pipeline=decord)
    path = Path(ours.get_data_info(2)['filename'])
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 25, (72, 72))
    for _ in range(20):
        writer.write(np.full((72, 72, 3), (250, 10, 120), np.uint8))
    writer.release()
    shown = ours[2]['inputs'].float().mean((0, 2, 3, 4))
    assert shown.tolist() == pytest.approx([120, 10, 250], abs=4)
    with pytest.raises(DFERError, match=f'{path}: '):
        theirs[2]  # decord returns pictures of another shape
    assert theirs[3]['inputs'].shape == ours[3]['inputs'].shape


@pytest.mark.parametrize('bad', ['videos/test/00001.mp4 9', 'videos/test/00001.mp4', 'x.mp4 1'])
def test_a_bad_line_is_named(own_root: Path, bad: str) -> None:
    dataset = _dataset(own_root, split='test', test_mode=True)
    path = Path(dataset.ann_file)
    path.write_text(path.read_text() + bad + '\n')
    with pytest.raises(DFERError, match=f'test.txt:{NUM_TEST + 1}: .*{bad[:5]}'):
        dataset.load_data_list()
