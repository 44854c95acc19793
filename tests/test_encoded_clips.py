"""Test EncodedClips in whole runs: when clips are encoded, by which CLIP, and the errors."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import socket
import subprocess
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_epochs
import torch
from conftest import NUM_TEST, NUM_TRAIN, ROOT, small_options
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

import mmaction
from mmaction.apis import inference_recognizer, init_recognizer
from mmaction.registry import DATASETS

from mmdfer import DFERError
from mmdfer.cli import train
from mmdfer.engine.runner.build import build_runner
from mmdfer.features import EncodedClips, FeatureEncoder
from mmdfer.features.dataset_config import without_features
from mmdfer.models import FrozenCLIP
from mmdfer.models.data_preprocessors.clip_preprocessor import encoder_digest

STOCK = Path(mmaction.__file__).parent / '.mim' / 'tools'
CONFIG = ROOT / 'configs' / 'align_dfer_synth.py'
TRAIN, TEST, VIEWS, FRAMES = 8, 6, 2, 16
ALL_FRAMES = (TRAIN * VIEWS + TEST) * FRAMES
ENCODER = dict(type='FrozenCLIP', arch='synth-clip')
IMAGE_TOWER = [r'visual\.']


def options(data_root: Path, **more: object) -> dict[str, object]:
    """Return the options for a run of a few seconds, also usable as ``--cfg-options``."""
    clips = dict(train=TRAIN, val=TEST, test=TEST)
    return {
        **small_options(data_root),
        **{f'{loader}_dataloader.dataset.dataset.indices': n for loader, n in clips.items()},
        **{f'custom_hooks.0.stages.{stage}.epochs': 1 for stage in range(3)},
        'custom_hooks.0.stages.1.grows_at': [0, 0, 0, 0],
        'custom_hooks.0.stages.2.grows_at': [0, 0],
        'model.cls_head.num_sentences': 2,
        'train_dataloader.batch_size': 4,
        **more,
    }


@pytest.fixture
def config(data_root: Path, tmp_path: Path) -> Callable[..., Config]:
    """Return a function that reads the shipped config, with one epoch of two steps per stage."""

    def build(**more: object) -> Config:
        cfg = Config.fromfile(CONFIG)
        cfg.merge_from_dict({**options(data_root), 'work_dir': str(tmp_path / 'run'), **more})
        return cfg

    return build


class Counts:
    """Count the frames encoded, the encoders and backbones built, and the steps of a run."""

    def __init__(self) -> None:
        self.frames = self.backbones = self.steps = 0
        self.encoders: list[weakref.ref] = []


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    """Count in this process; in any other process, a pass through the image tower fails."""
    counted, process = Counts(), os.getpid()
    encode, build, make = FrozenCLIP.encode_images, FrozenCLIP.__init__, FeatureEncoder.__init__
    step = OptimWrapper.update_params

    def encode_images(self: FrozenCLIP, images: Tensor) -> Tensor:
        assert os.getpid() == process, 'encoded in a worker'
        assert self.clip.logit_scale.device.type == get_device()
        counted.frames += len(images)
        return encode(self, images)

    def build_backbone(self: FrozenCLIP, *args: Any, **kwargs: Any) -> None:
        counted.backbones += 1
        build(self, *args, **kwargs)

    def make_encoder(self: FeatureEncoder, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        counted.encoders.append(weakref.ref(self))

    def update_params(self: OptimWrapper, *args: Any, **kwargs: Any) -> None:
        counted.steps += 1
        step(self, *args, **kwargs)

    monkeypatch.setattr(FrozenCLIP, 'encode_images', encode_images)
    monkeypatch.setattr(FrozenCLIP, '__init__', build_backbone)
    monkeypatch.setattr(FeatureEncoder, '__init__', make_encoder)
    monkeypatch.setattr(OptimWrapper, 'update_params', update_params)
    return counted


# ------------------------------------------------------------------ when, where, how often


class AtStart(Hook):
    """Record the counts when training begins."""

    priority = 'LOW'  # after SetupHook

    def __init__(self, counts: Counts) -> None:
        self.counts = counts

    def before_run(self, runner: Runner) -> None:
        self.frames, self.backbones = self.counts.frames, self.counts.backbones
        self.alive = [ref() is not None for ref in self.counts.encoders]


def test_one_encoder_serves_all_loaders_before_workers_start(
    config: Callable[..., Config], counts: Counts
) -> None:
    """Check also that the encoder has the weights of the options and is freed before training."""
    workers = {
        f'{loader}_dataloader.{key}': 2
        for loader in ('train', 'val')
        for key in ('num_workers', 'dataset.num_workers')
    }
    cfg = config(**{'model.backbone.weights': 'random', **workers})
    runner, start = build_runner(cfg), AtStart(counts)
    runner.register_hook(start)
    runner.train()
    assert start.backbones == counts.backbones == 2  # those of the model and of the encoder
    assert start.alive == [False] and len(counts.encoders) == 1
    assert start.frames == counts.frames == ALL_FRAMES
    assert counts.steps == 3 * TRAIN / 4
    model, shipped = runner.model, FrozenCLIP('synth-clip')
    digest = encoder_digest(model.backbone, model.data_preprocessor)
    assert digest != encoder_digest(shipped, model.data_preprocessor)
    for loop in (runner.train_loop, runner.val_loop):
        item = loop.dataloader.dataset[0]
        assert item.keys() == {'features', 'encoder', 'data_samples'}
        assert item['features'].shape == (1, FRAMES, 128)
        assert item['encoder'] == digest


class StoppedError(Exception):
    """Signal that training is about to begin."""


class Stop(Hook):
    """Record the weights and random states when training begins, and stop the run."""

    priority = 'VERY_LOW'

    def before_train(self, runner: Runner) -> None:
        self.weights = {n: t.clone() for n, t in runner.model.state_dict().items()}
        self.states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
        raise StoppedError


def test_encoding_draws_no_random_number(config: Callable[..., Config]) -> None:
    stopped = []
    for encoded in (True, False):
        cfg = config()
        for loader in ('train', 'val') if not encoded else ():
            cfg[f'{loader}_dataloader'].dataset = without_features(
                cfg[f'{loader}_dataloader'].dataset
            )
        runner, stop = build_runner(cfg), Stop()
        runner.register_hook(stop)
        with pytest.raises(StoppedError):
            runner.train()
        stopped.append(stop)
    ours, plain = stopped
    assert ours.weights.keys() == plain.weights.keys()
    assert all(torch.equal(tensor, plain.weights[n]) for n, tensor in ours.weights.items())
    assert ours.states[:2] == plain.states[:2]
    assert torch.equal(ours.states[2], plain.states[2])


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    'encoder',
    [
        dict(backbone=dict(ENCODER, weights='random')),
        dict(
            backbone=ENCODER,
            data_preprocessor=dict(type='CLIPDataPreprocessor', mean=[127.5] * 3),
        ),
        dict(
            backbone=ENCODER,
            data_preprocessor=dict(type='CLIPDataPreprocessor', std=[127.5] * 3),
        ),
    ],
    ids=['weights', 'mean', 'std'],
)
def test_features_of_another_clip_are_refused_before_the_first_step(
    config: Callable[..., Config], counts: Counts, encoder: dict
) -> None:
    runner = build_runner(config(**{'train_dataloader.dataset.encoder': encoder}))
    with pytest.raises(
        DFERError, match=r'features were encoded by the encoder \w{16}, .*EncodedClips'
    ) as said:
        runner.train()
    assert '\n' not in str(said.value)
    assert counts.steps == 0


@pytest.mark.parametrize('own', [False, True], ids=["the model's encoder", 'one of its own'])
def test_stages_that_train_the_image_tower_are_refused_before_the_first_step(
    config: Callable[..., Config], counts: Counts, own: bool
) -> None:
    more = {
        'model.backbone.trains': IMAGE_TOWER,
        'custom_hooks.0.stages.2.trains': [r'backbone\.clip\.visual\.'],
    }
    if own:
        more['train_dataloader.dataset.encoder'] = dict(backbone=ENCODER)
    runner = build_runner(config(**more))
    with pytest.raises(DFERError, match='unfreezes the image tower.*EncodedClips') as said:
        runner.train()
    assert '\n' not in str(said.value)
    assert counts.steps == 0 and bool(counts.frames) == own


def test_a_stage_cannot_train_a_tower_that_the_backbone_freezes(
    config: Callable[..., Config], counts: Counts
) -> None:
    stage = {'custom_hooks.0.stages.2.trains': [r'backbone\.clip\.visual\.']}
    with pytest.raises(DFERError, match='matches only parameters that the model froze'):
        build_runner(config(**stage)).train()
    assert counts.steps == counts.frames == 0


RECOGNIZER_3D = dict(
    _delete_=True,
    type='Recognizer3D',
    backbone=ENCODER,
    cls_head=dict(type='I3DHead', num_classes=7, in_channels=128),
    data_preprocessor=dict(type='CLIPDataPreprocessor'),
)
STOCK_PREPROCESSOR = dict(
    type='ActionDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3, format_shape='NCTHW'
)


@pytest.mark.parametrize(
    ('model', 'said'),
    [
        (RECOGNIZER_3D, 'Recognizer3D with CLIPDataPreprocessor'),
        (
            dict(data_preprocessor=STOCK_PREPROCESSOR),
            'CLIPRecognizer with ActionDataPreprocessor',
        ),
    ],
    ids=['recognizer', 'preprocessor'],
)
def test_a_model_that_reads_no_features_is_refused_before_data_are_read(
    config: Callable[..., Config],
    counts: Counts,
    monkeypatch: pytest.MonkeyPatch,
    model: dict,
    said: str,
) -> None:
    cfg = config()
    cfg.merge_from_dict(dict(model=model))
    wrapped = dict(type='RepeatDataset', times=2, dataset=cfg.train_dataloader.dataset)
    cfg.train_dataloader.dataset = wrapped
    built = []
    monkeypatch.setattr(DATASETS, 'build', lambda *args, **_: built.append(args))
    message = f'^train_dataloader: EncodedClips .*, but {said} reads frames; .*inside EncodedClips'
    with pytest.raises(DFERError, match=message) as error:
        build_runner(cfg)  # all tools, also MMAction2's, build the Runner first
    assert '\n' not in str(error.value)
    assert not built and counts.frames == 0


def test_a_pipeline_that_packs_levels_is_refused_before_clips_are_encoded(data_root: Path) -> None:
    cfg = Config.fromfile(ROOT / 'configs' / 'fine_cliper' / 'fine_cliper_synth.py')
    sizes = dict(num_train=NUM_TRAIN, num_test=NUM_TEST)
    clips = dict(cfg.test_dataloader.dataset, data_root=data_root / 'synth', levels=None, **sizes)
    with pytest.raises(DFERError, match='^EncodedClips: the pipeline packs masks.*PackLevels'):
        EncodedClips(clips, encoder=dict(backbone=ENCODER))


# ------------------------------------------------------------------ ranks


def _encoded(data_root: Path, clips: int) -> EncodedClips:
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(options(data_root))
    inner = dict(cfg.train_dataloader.dataset.dataset, indices=clips)
    return EncodedClips(inner, encoder=dict(backbone=ENCODER), num_workers=0)


def _rank(rank: int, data_root: Path, folder: Path) -> None:
    """Encode five clips and then one clip as one of two ranks.

    Save the features and the number of frames that this rank encoded.
    """
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2
    )
    encode, found = FrozenCLIP.encode_images, {}
    for clips in (5, 1):
        frames = []
        FrozenCLIP.encode_images = lambda self, x, to=frames: (to.append(len(x)), encode(self, x))[
            1
        ]
        dataset = _encoded(data_root, clips)
        dataset.full_init()
        found[clips] = dataset.features, sum(frames)
    torch.save(found, folder / f'{rank}.pth')
    torch.distributed.barrier()


def test_ranks_share_the_clips_and_each_ends_with_all_features(
    data_root: Path, tmp_path: Path
) -> None:
    context = multiprocessing.get_context('fork')
    ranks = [context.Process(target=_rank, args=(r, data_root, tmp_path)) for r in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    assert [process.exitcode for process in ranks] == [0, 0]
    found = [torch.load(tmp_path / f'{rank}.pth', weights_only=True) for rank in range(2)]
    shares = {5: [3 * VIEWS * FRAMES, 2 * VIEWS * FRAMES], 1: [VIEWS * FRAMES, 0]}
    for clips, expected in shares.items():
        dataset = _encoded(data_root, clips)
        with pytest.raises(DFERError, match='call full_init'):  # reading never encodes
            dataset[0]
        dataset.full_init()
        alone = dataset.features
        assert [rank[clips][1] for rank in found] == expected  # each clip is encoded by one rank
        assert torch.equal(found[0][clips][0], found[1][clips][0])
        torch.testing.assert_close(found[0][clips][0], alone, atol=1e-5, rtol=0)


# ------------------------------------------------------------------ epochs and workers


@DATASETS.register_module()
class NumberedClips(EncodedClips):
    """Return features that consist of the numbers of the clip and the view."""

    def full_init(self) -> None:
        if self._features is None:
            grid = torch.cartesian_prod(torch.arange(test_epochs.CLIPS), torch.arange(3))
            self.features = grid.view(-1, 3, 1, 1, 2)


INNER = dict(
    type='CountedClips', ann_file='', pipeline=[dict(type='PackActionInputs')], num_views=3
)
ONE = dict(type='NumberedClips', dataset=INNER)
DATA = {
    'plain': ONE,
    'RepeatDataset': dict(type='RepeatDataset', times=4, dataset=ONE),
    'ClassBalancedDataset': dict(type='ClassBalancedDataset', oversample_thr=0.9, dataset=ONE),
    'ConcatDataset': dict(
        type='ConcatDataset', datasets=[ONE, dict(ONE, dataset=dict(INNER, indices=2))]
    ),
}


def _shown(loader: DataLoader) -> Iterator[tuple[int, int]]:
    for batch in loader:
        for features in batch['features']:
            clip, view = features.flatten().tolist()
            yield clip, view


@pytest.mark.parametrize('kind', DATA)
def test_persistent_workers_show_the_view_of_the_epoch(kind: str) -> None:
    clips = DATASETS.build(INNER)
    sampler = dict(type='DefaultSampler', shuffle=True)
    workers = dict(num_workers=2, persistent_workers=True)
    loader = Runner.build_dataloader(
        ConfigDict(dataset=DATA[kind], batch_size=2, sampler=sampler, **workers), seed=0
    )
    for epoch in range(4):
        loader.sampler.set_epoch(epoch)
        shown = Counter(_shown(loader))
        expected: Counter[tuple[int, int]] = Counter()
        for clip in range(test_epochs.CLIPS):
            # ClassBalancedDataset: ceil(sqrt(0.9 * 6)), ceil(sqrt(0.9 * 6 / 5))
            times = dict(RepeatDataset=4, ClassBalancedDataset=3 if clip == 0 else 2).get(kind, 1)
            parts = 2 if kind == 'ConcatDataset' and clip < 2 else 1
            for showing in range(epoch * times, (epoch + 1) * times):
                expected[clip, clips.view_at(clip, showing)] += parts
        assert shown == expected
    loader._iterator = None  # ends the workers at once


def test_an_infinite_sampler_tells_the_epoch_too() -> None:
    clips = DATASETS.build(INNER)
    sampler = dict(type='InfiniteSampler', shuffle=True)
    loader = Runner.build_dataloader(
        ConfigDict(dataset=ONE, batch_size=2, sampler=sampler, num_workers=2), seed=0
    )
    shown = _shown(loader)
    for epoch in range(4):
        views = dict(next(shown) for _ in range(test_epochs.CLIPS))
        assert views == {c: clips.view_at(c, epoch) for c in range(test_epochs.CLIPS)}


def test_workers_read_the_same_from_a_bank(data_root: Path, tmp_path: Path) -> None:
    dataset = _encoded(data_root, 5)
    dataset.bank = str(tmp_path)
    dataset.full_init()
    assert dataset.features.dtype == torch.float16

    def batches(**workers: Any) -> list[Tensor]:
        loader = DataLoader(dataset, 2, collate_fn=pseudo_collate, **workers)
        return [torch.stack(batch['features']) for batch in loader]

    alone = batches()
    assert alone[0].any()
    for start in ('fork', 'spawn'):
        read = batches(num_workers=1, multiprocessing_context=start)
        assert all(torch.equal(a, b) for a, b in zip(alone, read, strict=True))


# ------------------------------------------------------------------ frames and features


@pytest.fixture(scope='module')
def trained(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train by MMAction2's own train.py on two ranks, and return the work directory."""
    folder = tmp_path_factory.mktemp('stock')
    _run_ranks(folder, 'train.py', CONFIG, '--work-dir', 'run', **options(data_root))
    return folder / 'run'


def _run_ranks(folder: Path, tool: str, *arguments: object, **more: object) -> None:
    """Run an unchanged tool of MMAction2 on two ranks, as its dist_train.sh does."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    ranks = ['-m', 'torch.distributed.run', '--nproc_per_node=2', f'--master_port={port}']
    pairs = [f'{key}={value}'.replace(' ', '') for key, value in more.items()]
    command = [sys.executable, *ranks, STOCK / tool, *arguments, '--launcher', 'pytorch']
    done = subprocess.run(
        [*map(str, command), '--cfg-options', *pairs],
        cwd=folder,
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_stock_tools_train_and_test_on_two_ranks(trained: Path, data_root: Path) -> None:
    """Test on two ranks; test_runs.py tests the same tools on one rank."""
    assert (trained / 'epoch_3.pth').is_file()
    log = next(trained.glob('*/*.log')).read_text()
    assert 'Distributed training: True' in log and 'GPU number: 2' in log  # mmengine counts ranks
    arguments = CONFIG, 'run/epoch_3.pth', '--work-dir', 'tested'
    _run_ranks(trained.parent, 'test.py', *arguments, **options(data_root))
    (path,) = trained.parent.glob('tested/*/[0-9]*.json')
    tested = json.loads(path.read_text())['WAR']
    history = json.loads((trained / 'history.json').read_text())
    assert tested == pytest.approx(history['3']['WAR'])


def test_frames_and_files_have_the_logits_of_features(
    config: Callable[..., Config], trained: Path, record_property: Callable
) -> None:
    checkpoint, found = str(trained / 'epoch_3.pth'), {}
    for kind in ('features', 'frames'):
        cfg = config(load_from=checkpoint)
        if kind == 'frames':
            cfg.test_dataloader.dataset = without_features(cfg.test_dataloader.dataset)
        runner = build_runner(cfg)
        logits = found[kind] = []
        runner.model.cls_head.register_forward_hook(lambda *a, to=logits: to.append(a[2]))
        runner.test()
    model, logits = init_recognizer(config(), checkpoint, 'cpu'), []
    model.cls_head.register_forward_hook(lambda *a: logits.append(a[2]))
    clips = DATASETS.build(without_features(config().test_dataloader.dataset))
    for index in range(TEST):
        inference_recognizer(model, clips.get_data_info(index)['filename'])
    features, frames, files = (torch.cat(x) for x in (*found.values(), logits))
    assert features.shape == frames.shape == files.shape == (TEST, 7)
    worst = max(float((features - other).abs().max()) for other in (frames, files))
    record_property('logits of frames against features', f'{worst:.1e} at most')
    assert worst < 1e-5


# ------------------------------------------------------------------ nothing left to train


def test_a_finished_run_that_is_resumed_encodes_no_training_view(
    config: Callable[..., Config], counts: Counts, tmp_path: Path
) -> None:
    path = tmp_path / 'config.py'
    cfg = config()
    path.write_text(cfg.pretty_text)
    train.main([str(path), '--resume'])
    encoded = counts.frames
    report = Path(cfg.work_dir, 'report.json').read_text()
    assert encoded > 0
    train.main([str(path), '--resume'])
    # The last validation may have been interrupted, so it is repeated.
    assert counts.frames == encoded + TEST * FRAMES
    assert Path(cfg.work_dir, 'report.json').read_text() == report
