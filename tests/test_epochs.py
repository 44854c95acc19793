"""Test that each epoch shows new views, with each sampler, dataset wrapper and worker."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import Sampler

from mmaction.registry import DATA_SAMPLERS, DATASETS, MODELS

from mmdfer.datasets import DFERDataset
from mmdfer.errors import DFERError

CLIPS = 6


@DATASETS.register_module()
class CountedClips(DFERDataset):
    """Provide six clips, one of them of class 1.

    The input of an item is the number of the clip and the number of the view.
    """

    METAINFO = dict(classes=('one', 'other'))

    def load_data_list(self) -> list[dict]:
        return [dict(filename=f'{i}', label=int(i == 0), clip=f'{i}') for i in range(CLIPS)]

    def read_view(self, index: int, view: int) -> dict[str, Any]:
        return dict(inputs=torch.tensor([index, view]), data_samples=None)


@DATA_SAMPLERS.register_module()
class PlainSampler(Sampler):
    """Sample in order, without mmengine's base class and without knowing the epoch."""

    def __init__(self, dataset: DFERDataset, seed: int | None = None) -> None:
        self.dataset = dataset

    def __iter__(self) -> Any:
        return iter(range(len(self.dataset)))

    def __len__(self) -> int:
        return len(self.dataset)


@MODELS.register_module()
class Noter(nn.Module):
    """Record the inputs that training passes to the model."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[int, int]] = []

    def train_step(self, data: dict[str, list[Tensor]], optim_wrapper: Any) -> dict[str, Tensor]:
        self.seen += [tuple(item.tolist()) for item in data['inputs']]
        return dict(loss=self.weight.sum())


ONE = dict(type='CountedClips', ann_file='', pipeline=[])
DATA = {
    'plain': ONE,
    'RepeatDataset': dict(type='RepeatDataset', times=3, dataset=ONE),
    'ConcatDataset': dict(type='ConcatDataset', datasets=[ONE, dict(ONE, indices=2)]),
    'ClassBalancedDataset': dict(type='ClassBalancedDataset', oversample_thr=0.9, dataset=ONE),
    'Repeat of Concat': dict(
        type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=[ONE])
    ),
}
EPOCHS = dict(type='EpochBasedTrainLoop', max_epochs=3)


def train(folder: Path, dataset: dict, loop: dict = EPOCHS, **loader: Any) -> list[tuple[int, int]]:
    """Train, and return the clips and views that the model was shown, in order."""
    loader = dict(dict(sampler=dict(type='DefaultSampler', shuffle=True), num_workers=0), **loader)
    runner = Runner(
        model=dict(type='Noter'),
        work_dir=str(folder),
        train_dataloader=ConfigDict(dataset=dataset, batch_size=2, **loader),
        train_cfg=dict(loop),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_scope='mmaction',
        experiment_name=f'{folder.name}_{len(MessageHub._instance_dict)}',
        log_level='ERROR',
        randomness=dict(seed=0),
    )
    runner.train()
    runner.train_dataloader._iterator = None  # ends persistent workers at once, not by a timeout
    return runner.model.seen


@pytest.mark.parametrize('kind', DATA)
@pytest.mark.parametrize('workers', [0, 1])
def test_no_view_is_shown_twice(tmp_path: Path, kind: str, workers: int) -> None:
    options = dict(num_workers=workers, persistent_workers=workers > 0)
    seen = train(tmp_path, DATA[kind], **options)
    first = [view for view in seen if kind != 'ConcatDataset' or view[0] >= 2]
    assert len(set(first)) == len(first)
    shown = defaultdict(list)
    for clip, view in first:
        shown[clip].append(view)
    for views in shown.values():  # no gaps, so that with num_views all views are shown
        assert sorted(views) == list(range(len(views)))
    assert sorted(shown) == list(range(2 if kind == 'ConcatDataset' else 0, CLIPS))
    times = {clip: len(views) for clip, views in shown.items()}
    if kind == 'ClassBalancedDataset':
        assert times[0] == 9 and times[1] == 6  # ceil(sqrt(0.9 * 6)), ceil(sqrt(0.9 * 6 / 5))
    if kind == 'RepeatDataset':
        assert set(times.values()) == {9}


def test_iterations_go_through_the_views_too(tmp_path: Path) -> None:
    loop = dict(type='IterBasedTrainLoop', max_iters=9, val_interval=100)
    seen = train(tmp_path / 'a', ONE, loop, sampler=dict(type='InfiniteSampler', shuffle=True))
    assert sorted(seen) == [(clip, view) for clip in range(CLIPS) for view in range(3)]


def test_workers_and_none_show_the_same(tmp_path: Path) -> None:
    kind = DATA['ClassBalancedDataset']
    alone = train(tmp_path / 'a', kind)
    assert alone == train(tmp_path / 'b', kind, num_workers=2, persistent_workers=True)


def test_a_sampler_that_tells_no_epoch(tmp_path: Path) -> None:
    plain = dict(type='PlainSampler')
    seen = train(tmp_path / 'a', ONE, sampler=plain)  # without workers the process knows the epoch
    assert len(set(seen)) == 3 * CLIPS
    with pytest.raises(DFERError, match='does not tell the epoch.*DefaultSampler'):
        train(tmp_path / 'b', ONE, sampler=plain, num_workers=1, persistent_workers=True)
