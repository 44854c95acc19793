"""Test that the feature bank has the right vectors, also after interruptions and damage."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed
import trees
from conftest import NUM_TEST, NUM_TRAIN, ROOT, small_options
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, pseudo_collate
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmaction.datasets.transforms import PackActionInputs

from mmdfer import DFERError
from mmdfer.cli import cross_validate, test, train
from mmdfer.datasets import DFERDataset
from mmdfer.engine.runner.build import build_runner
from mmdfer.engine.runner.config import read_config
from mmdfer.experiments.cross_validation import Launcher, list_trainings
from mmdfer.features import EncodedClips, FeatureEncoder, bank
from mmdfer.models import CLIPDataPreprocessor, FrozenCLIP
from mmdfer.models.backbones.frame_encoder import FrameEncoder

VIEWS = 2
SYNTH = ROOT / 'configs' / 'align_dfer_synth.py'


class Tower(FrameEncoder):
    """Encode a frame quickly, as the mean colours of its four quarters, and count the passes.

    Args:
        sha256: The digest that identifies the weights.
        log: A file to which each pass writes a line, with the process and the number of views.
        dies_at: The number of the pass before which the process kills itself; 0 for none.
    """

    embed_dims = 12

    def __init__(self, sha256: str = 'a', log: Path | None = None, dies_at: int = 0) -> None:
        super().__init__()
        self.sha256, self.trained = sha256, False
        self.calls, self.log, self.dies_at = 0, log, dies_at

    @property
    def identity(self) -> dict[str, str]:
        """Return an identity, as an encoder with weights does."""
        return dict(arch='tower', sha256=self.sha256)

    @property
    def trains_frames(self) -> bool:
        """Return the value that the test has set."""
        return self.trained

    def forward(self, x: Tensor) -> Tensor:
        """Encode frames, (N, 3, T, H, W) -> (N, T, 12)."""
        self.calls += 1
        if self.calls == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.log is not None:
            time.sleep(0.05)  # give the other process time to begin
            with self.log.open('a') as file:
                file.write(f'{os.getpid()} {len(x)}\n')
        return nn.functional.adaptive_avg_pool3d(x, (x.shape[2], 2, 2)).transpose(1, 2).flatten(2)


def _dataset(data_root: Path, split: str = 'train', **options: object) -> EncodedClips:
    loader = Config.fromfile(SYNTH)[f'{"train" if split == "train" else "val"}_dataloader']
    sizes = dict(num_train=NUM_TRAIN, num_test=NUM_TEST, data_root=str(data_root / 'synth'))
    views = dict(num_views=VIEWS) if split == 'train' else {}
    return EncodedClips({**loader.dataset.dataset, **sizes, **views, **options})


def _encode(
    folder: Path | None, *datasets: EncodedClips, workers: int = 0, **tower: object
) -> Tower:
    """Encode datasets into a bank, have them read the bank, and return the tower that was used."""
    encoder = FeatureEncoder(Tower(**tower))
    for dataset in datasets:
        dataset.encoder, dataset.bank = encoder, folder and str(folder)
        dataset.batch_size, dataset.num_workers = 4, workers
        dataset.full_init()
    return encoder.backbone


def _read(dataset: EncodedClips, index: int, view: int) -> Tensor:
    return dataset.read_views([(index, view)])[0]['features']


def _files(folder: Path) -> dict[str, bytes]:
    """Return the content of each file of a bank, without the locks."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob('*'))
        if path.is_file() and path.suffix != '.lock'
    }


@pytest.fixture(autouse=True)
def _log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log to a standard logger, since pytest does not see the messages of mmengine's logger."""
    logger = SimpleNamespace(get_current_instance=lambda: logging.getLogger('test'))
    monkeypatch.setattr('mmdfer.features.extraction.MMLogger', logger)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make shards of four clips: eight views in two passes, and eight shards for training."""
    monkeypatch.setattr(bank, 'CLIPS_PER_SHARD', 4)


@pytest.fixture(scope='module')
def whole(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a bank in one process without interruption."""
    init_default_scope('mmaction')
    folder = tmp_path_factory.mktemp('bank')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bank, 'CLIPS_PER_SHARD', 4)
        tower = _encode(folder, _dataset(data_root), _dataset(data_root, 'test'))
    assert tower.calls == NUM_TRAIN * VIEWS / 4 + np.ceil(NUM_TEST / 4)
    return folder


# ------------------------------------------------------------------ what is in it


def test_each_vector_is_that_of_its_view(whole: Path, data_root: Path) -> None:
    served = _dataset(data_root)
    frames = served.dataset
    assert _encode(whole, served).calls == 0
    raw = np.fromfile(whole / 'train' / 'vectors.f16', '<f2')  # the documented layout
    raw = raw.reshape(NUM_TRAIN, VIEWS, 1, 16, Tower.embed_dims)
    for index, view in ((0, 0), (5, 1), (31, 0)):
        item = frames.read_view(index, view)
        batch = dict(inputs=[item['inputs']], data_samples=[None])
        expected = Tower()(CLIPDataPreprocessor()(batch)['inputs'][0])  # (1, 16, 12)
        (got,) = served.read_views([(index, view)])
        assert torch.equal(got['features'], expected.half())
        assert np.array_equal(raw[index, view], expected.half().numpy())
        assert got['data_samples'].gt_label == item['data_samples'].gt_label


def test_a_batch_is_that_of_its_clips_in_their_epochs(whole: Path, data_root: Path) -> None:
    dataset = _dataset(data_root)
    _encode(whole, dataset)
    sampler = DefaultSampler(dataset, shuffle=True, seed=0)
    for epoch in (0, 3):
        sampler.set_epoch(epoch)
        order = [int(index) for index in sampler]
        loader = DataLoader(dataset, 8, sampler=sampler, collate_fn=pseudo_collate)
        features = torch.stack([clip for batch in loader for clip in batch['features']])
        alone = [_read(dataset, i, dataset.dataset.view_at(i, epoch)) for i in order]
        assert torch.equal(features, torch.stack(alone))


def test_vectors_are_shuffled_as_frames_are(whole: Path, data_root: Path) -> None:
    config = Config.fromfile(SYNTH).val_dataloader.dataset.dataset.pipeline
    pipeline = [*config[:2], dict(type='ShuffleFrames', seed=3), *config[2:]]
    dataset = _dataset(data_root, 'test', pipeline=pipeline)
    frames = dataset.dataset
    ordered = _dataset(data_root, 'test')
    assert _encode(whole, dataset).calls == 0  # the bank of the ordered frames is used
    _encode(whole, ordered)
    for index in (0, 9):
        batch = dict(inputs=[frames[index]['inputs']], data_samples=[None])
        expected = Tower()(CLIPDataPreprocessor()(batch)['inputs'][0]).half()
        assert torch.equal(dataset[index]['features'], expected)
        assert not torch.equal(dataset[index]['features'], ordered[index]['features'])


@pytest.mark.parametrize('to_disk', [True, False])
def test_the_next_clip_replaces_a_lost_clip(data_root: Path, tmp_path: Path, to_disk: bool) -> None:
    shutil.copytree(data_root / 'synth', tmp_path / 'synth')
    dataset, later = _dataset(tmp_path), _dataset(tmp_path)
    Path(dataset.get_data_info(5)['filename']).write_bytes(b'')
    if to_disk:
        _encode(tmp_path / 'bank', dataset)
        dataset = later  # a later run knows about the lost clip
    _encode(tmp_path / 'bank' if to_disk else None, dataset)
    clips = dataset.dataset
    assert clips.unreadable[5] == clips.LOST and clips.unreadable.count_nonzero() == 1
    item, neighbour = dataset.read_views([(5, 1), (6, 1)])
    assert torch.equal(item['features'], neighbour['features']) and item['features'].any()
    assert item['data_samples'].gt_label == dataset.get_data_info(6)['label']


# ------------------------------------------------------------------ who encodes it


def _in_child(job: Callable[[], object]) -> multiprocessing.Process:
    process = multiprocessing.get_context('fork').Process(target=job)
    process.start()
    return process


@pytest.mark.parametrize('dies_at', [1, 6, 17])
def test_killed_and_continued_it_has_the_same_bytes(
    whole: Path, data_root: Path, tmp_path: Path, dies_at: int
) -> None:
    datasets = _dataset(data_root), _dataset(data_root, 'test')
    child = _in_child(lambda: _encode(tmp_path, *datasets, dies_at=dies_at))
    child.join()
    assert child.exitcode == -signal.SIGKILL
    tower = _encode(tmp_path, *datasets, workers=2)
    shards_done = (dies_at - 1) // 2
    assert tower.calls == NUM_TRAIN * VIEWS / 4 + np.ceil(NUM_TEST / 4) - 2 * min(shards_done, 8)
    assert _files(tmp_path) == _files(whole)


@pytest.mark.parametrize('as_ranks', [False, True])
def test_two_at_once_share_the_work_and_make_the_same_bytes(
    whole: Path, data_root: Path, tmp_path: Path, as_ranks: bool
) -> None:
    datasets = _dataset(data_root), _dataset(data_root, 'test')
    log = tmp_path / 'log'
    both = multiprocessing.get_context('fork').Barrier(2)

    def work(rank: int) -> None:
        both.wait()  # on a busy machine one could finish before the other begins
        if as_ranks:
            torch.distributed.init_process_group(
                'gloo', init_method=f'file://{tmp_path}/meet', rank=rank, world_size=2
            )
        _encode(tmp_path / 'bank', *datasets, log=log)
        assert _read(datasets[0], 31, 1).any()

    children = [_in_child(lambda rank=rank: work(rank)) for rank in range(2)]
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    passes = [line.split() for line in log.read_text().splitlines()]
    assert (
        sum(int(views) for _, views in passes) == NUM_TRAIN * VIEWS + NUM_TEST
    )  # no view is encoded twice
    assert len({process for process, _ in passes}) == 2
    assert _files(tmp_path / 'bank') == _files(whole)


def test_all_folds_read_one_bank(tmp_path: Path) -> None:
    trees.dfew(tmp_path / 'DFEW')
    config = Config.fromfile(ROOT / 'configs' / 'align_dfer_dfew.py')
    train, test = (config[f'{loader}_dataloader'].dataset.dataset for loader in ('train', 'val'))
    pipelines = train.pipeline, test.pipeline
    pipelines[0][4].input_size, pipelines[0][5].scale = 32, (32, 32)
    pipelines[1][3].scale, pipelines[1][4].crop_size = (-1, 34), 32

    def fold(number: int) -> list[EncodedClips]:
        more = dict(data_root=str(tmp_path / 'DFEW'), fold=number)
        return [EncodedClips({**train, **more, 'num_views': 1}), EncodedClips({**test, **more})]

    first, second = fold(1), fold(2)
    clips = sum(trees.SIZES[:7])
    assert _encode(tmp_path / 'bank', *first).calls == 2 * np.ceil(clips / 4)
    assert _encode(tmp_path / 'bank', *second).calls == 0
    names = first[0].dataset.clip_names()
    for index, name in enumerate(second[0].dataset.clip_names()):
        if name in names:
            view = _read(first[0], names.index(name), 0)
            assert torch.equal(_read(second[0], index, 0), view)
    frames = fold(2)[1].dataset[3]  # tested in fold 2, trained on in fold 1
    batch = dict(inputs=[frames['inputs']], data_samples=[None])
    expected = Tower()(CLIPDataPreprocessor()(batch)['inputs'][0]).half()
    assert torch.equal(second[1][3]['features'], expected)


def test_clips_that_come_later_are_appended(whole: Path, data_root: Path, tmp_path: Path) -> None:
    assert _encode(tmp_path, _dataset(data_root, indices=10)).calls == 10 * VIEWS / 4
    dataset = _dataset(data_root)
    assert _encode(tmp_path, dataset).calls == 22 * VIEWS / 4
    reference = _dataset(data_root)
    _encode(whole, reference)
    for index in range(NUM_TRAIN):
        for view in range(VIEWS):
            assert torch.equal(_read(dataset, index, view), _read(reference, index, view))


# ------------------------------------------------------------------ damage and refusals


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 10)


@pytest.mark.parametrize('damage', [_flip, _truncate])
def test_a_damaged_shard_is_found_and_encoded_again(
    whole: Path, data_root: Path, tmp_path: Path, damage: Callable[[Path], None], caplog
) -> None:
    folder = tmp_path / 'bank'
    shutil.copytree(whole, folder)
    damage(folder / 'train' / 'vectors.f16')
    shard = 4 if damage is _flip else 7
    assert _encode(folder, _dataset(data_root)).calls == 2
    assert f'shards [{shard}] are damaged' in caplog.text
    assert _files(folder) == _files(whole)


@pytest.mark.parametrize(
    ('options', 'tower', 'said'),
    [
        (dict(seed=1), {}, r'seed was 0, is 1;'),
        (dict(num_views=3), {}, r'views was 2, is 3;'),
        ({}, dict(sha256='b'), r'clip\.sha256 was "a", is "b";'),
    ],
)
def test_a_bank_of_other_settings_is_refused_and_the_difference_named(
    whole: Path, data_root: Path, options: dict, tower: dict, said: str
) -> None:
    before = _files(whole)
    with pytest.raises(DFERError, match=f'train: the bank was encoded with other settings: {said}'):
        _encode(whole, _dataset(data_root, **options), **tower)
    assert _files(whole) == before


def test_a_changed_pipeline_is_named_by_its_key(whole: Path, data_root: Path) -> None:
    pipeline = Config.fromfile(SYNTH).train_dataloader.dataset.dataset.pipeline
    pipeline[3].scale = (-1, 72)
    with pytest.raises(DFERError, match=r'pipeline\.3\.scale\.1 was 69, is 72;'):
        _encode(whole, _dataset(data_root, pipeline=pipeline))


def test_what_cannot_be_a_bank_is_refused(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = _dataset(data_root)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, 'disk_usage', lambda _: SimpleNamespace(free=1000))
        # 32 clips of 2 views, with 16 frames of 12 numbers of 2 bytes
        with pytest.raises(DFERError, match=r'needs 24\.6 kB more, but only 1\.0 kB are free'):
            _encode(tmp_path / 'full', dataset)
    (tmp_path / 'train').mkdir()
    (tmp_path / 'train' / 'manifest.json').write_text('{"half')
    with pytest.raises(DFERError, match='manifest.json: the file is not the manifest'):
        _encode(tmp_path, dataset)
    with pytest.raises(DFERError, match='new view in each epoch; set its num_views'):
        _encode(tmp_path, _dataset(data_root, num_views=None))
    tower = Tower()
    tower.trained = True
    with pytest.raises(DFERError, match='unfreezes the image tower'):
        FeatureEncoder(tower)
    with pytest.raises(DFERError, match='unfreezes the image tower'):
        FeatureEncoder(dict(type='FrozenCLIP', arch='synth-clip', trains=[r'visual\.']))
    # Training the text tower does not change the frame vectors.
    FeatureEncoder(dict(type='FrozenCLIP', arch='synth-clip', trains=[r'transformer\.']))
    with pytest.raises(DFERError, match='C3D does not encode each frame on its own'):
        FeatureEncoder(dict(type='C3D'))


@pytest.mark.parametrize(
    ('count', 'said'),
    [(0, '0 bytes'), (999, '999 bytes'), (1000, '1.0 kB'), (25 * 10**5, '2.5 MB')]
    + [(123 * 10**8, '12.3 GB'), (2 * 10**12, '2.0 TB')],
)
def test_bytes_are_said_in_fitting_units(count: int, said: str) -> None:
    assert bank._in_bytes(count) == said


@pytest.mark.parametrize('code', [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_locks_is_one_line(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr('fcntl.flock', flock)
    with pytest.raises(DFERError, match='bank: the file system does not lock files .*; give'):
        bank.open_bank(tmp_path / 'bank', {}, ['x'], lambda: (1, 1, 16, 8))


def test_a_lock_that_another_process_holds_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / 'bank').mkdir()
    with (tmp_path / 'bank' / 'manifest.lock').open('a') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        release = threading.Timer(0.3, fcntl.flock, (file, fcntl.LOCK_UN))
        release.start()
        opened = bank.open_bank(tmp_path / 'bank', {}, ['x'], lambda: (1, 1, 16, 8))
        assert not release.is_alive() and opened.missing() == [0]


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    opened = bank.open_bank(tmp_path, {}, ['x'], lambda: (1, 1, 2, 2))
    # No process on Linux has an id as high as this one.
    left = [
        tmp_path / 'shards/.00000.4194305.aside.json',
        tmp_path / '.manifest.4194305.aside.json',
    ]
    for path in left:
        path.write_text('{"half')
    assert list(opened.claim()) == [0]
    opened.write(0, torch.zeros(1, 1, 1, 2, 2), {})
    bank.open_bank(tmp_path, {}, ['x'], lambda: (1, 1, 2, 2))
    assert not [path for path in left if path.exists()]


# ------------------------------------------------------------------ what reading costs


class Many(DFERDataset):
    """Provide 2,000 clips without files."""

    METAINFO = dict(classes=('a', 'b'))

    def load_data_list(self) -> list[dict]:
        return [dict(filename=f'{i}.mp4', label=i % 2, clip=str(i)) for i in range(2000)]


def test_a_batch_is_one_gather(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read batches of 64 clips (16 x 512 each) from a file of 260 MB, with sampler and collation.

    The calls are counted, since times vary: a batch takes one gather and one collation, and each
    sample is packed once.
    """
    counts: Counter[str] = Counter()

    def count(name: str, owner: object, attribute: str) -> None:
        function = getattr(owner, attribute)

        def counted(*args: object, **kwargs: object) -> object:
            counts[name] += 1
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, attribute, counted)

    count('gathers', np, 'take')
    count('packed', PackActionInputs, 'transform')
    count('views read alone', DFERDataset, 'read_view')
    count('collations', torch, 'stack')
    clips = Many('', [dict(type='PackActionInputs')], num_views=8)
    dataset, preprocessor = EncodedClips(clips), CLIPDataPreprocessor()
    names = [clips.clip_names()[i : i + 64] for i in range(0, 2000, 64)]
    made = bank.Bank(tmp_path, (8, 1, 16, 512), names, set())
    made.allocate()
    dataset.features, dataset.rows = made.vectors, torch.arange(2000).flip(0)
    sampler = DefaultSampler(dataset, shuffle=True, seed=0)
    loader = DataLoader(dataset, 64, sampler=sampler, collate_fn=pseudo_collate, drop_last=True)
    batches = 0
    for epoch in range(8):
        sampler.set_epoch(epoch)
        for batch in loader:
            batches += 1
            assert preprocessor(batch)['features'].shape == (64, 1, 16, 512)
    assert batches == 8 * (2000 // 64)
    assert counts['gathers'] == counts['collations'] == batches
    assert counts['views read alone'] == 0 and 1984 <= counts['packed'] <= 2000


# ------------------------------------------------------------------ whole runs


class Losses(Hook):
    """Record the loss of each step."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: dict
    ) -> None:
        self.losses.append(float(outputs['loss'].detach()))


def _config(data_root: Path, work_dir: Path, **options: object) -> Config:
    config = Config.fromfile(SYNTH)
    config.merge_from_dict({**small_options(data_root), 'work_dir': str(work_dir), **options})
    config.train_dataloader.dataset.dataset.indices = 16
    return config


def _train(config: Config, monkeypatch: pytest.MonkeyPatch) -> tuple[list[float], int]:
    """Train, and return the losses and the number of calls of the image tower."""
    runner, losses = build_runner(config), Losses()
    runner.register_hook(losses)
    return losses.losses, _count_passes(monkeypatch, runner.train)


def _count_passes(monkeypatch: pytest.MonkeyPatch, run: Callable[[], object]) -> int:
    """Return how often a function calls the image tower."""
    calls, encode = [], FrozenCLIP.encode_images
    with monkeypatch.context() as patch:
        patch.setattr(FrozenCLIP, 'encode_images', lambda *args: calls.append(1) or encode(*args))
        run()
    return len(calls)


def _weights(path: Path) -> dict[str, Tensor]:
    return CheckpointLoader.load_checkpoint(str(path), map_location='cpu')['state_dict']


def test_bank_and_memory_agree_and_a_bank_resumes_to_the_same_bits(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Train for 56 steps through all three stages, with one fixed view of each clip."""
    options = {
        'train_dataloader.dataset.dataset.num_views': 1,
        'train_dataloader.batch_size': 2,
        'train_dataloader.num_workers': 1,
        'custom_hooks.0.stages.2.epochs': 3,
        'default_hooks.checkpoint.max_keep_ckpts': -1,
    }
    bank_options = {
        f'{n}_dataloader.dataset.bank': str(tmp_path / 'bank') for n in ('train', 'val')
    }
    banked = {**options, **bank_options}
    off, calls = _train(_config(data_root, tmp_path / 'off', **options), monkeypatch)
    assert calls > 0
    on, calls = _train(_config(data_root, tmp_path / 'on', **banked), monkeypatch)
    assert calls > 0
    assert len(off) == len(on) == 56
    worst = float(np.abs(np.subtract(off, on)).max())
    print(f'bank off and on: losses differ by {worst:.1e} at most')
    assert 0 < worst < 1e-3
    reports = [
        json.loads((tmp_path / run / 'history.json').read_text())['7'] for run in ('off', 'on')
    ]
    assert reports[0] == reports[1]

    resumed = _config(data_root, tmp_path / 'again', **banked)
    resumed.resume, resumed.load_from = True, str(tmp_path / 'on' / 'epoch_3.pth')
    losses, calls = _train(resumed, monkeypatch)
    assert calls == 0  # all vectors are in the bank
    assert losses == on[24:]
    again, whole = (_weights(tmp_path / run / 'epoch_7.pth') for run in ('again', 'on'))
    assert again.keys() == whole.keys()
    assert all(torch.equal(again[name], whole[name]) for name in whole)

    # Testing reads the bank too, and shuffles the vectors in the way it shuffles frames.
    checkpoint = str(tmp_path / 'on' / 'epoch_7.pth')
    scores = {}
    for flags in ([], ['--bank', str(tmp_path / 'bank')]):
        command = [str(SYNTH), checkpoint, '--shuffle-frames', *flags]
        config = _config(data_root, tmp_path / 'test', **options)
        test.apply_flags(config, test.parse_args(command))
        runner = build_runner(config)
        calls = _count_passes(monkeypatch, runner.test)
        assert (calls == 0) == bool(flags)
        scores[bool(flags)] = runner.test_evaluator.metrics[0].confusion
    assert np.array_equal(scores[True], scores[False])


def test_the_flags_write_the_config(tmp_path: Path) -> None:
    config = str(ROOT / 'configs' / 'align_dfer_dfew.py')
    for flags in (['--bank', 'a bank'], ['--bank']):
        given = cross_validate.train_flags(cross_validate.parse_args([config, *flags]))
        cfg = read_config(config, work_dir=tmp_path)
        (training,) = list_trainings(cfg, [2], given, [])
        command = Launcher().command(training)
        at = command.index('--bank')
        assert command[at : at + len(flags) + 1] == [*flags, '--work-dir']
        args = train.parse_args(command[4 : command.index('--cfg-options')])
        cfg = Config.fromfile(config)
        train.apply_flags(cfg, args)
        for loader in ('train', 'val', 'test'):
            bank_of_loader = cfg[f'{loader}_dataloader'].dataset.bank
            assert bank_of_loader == (flags[1] if len(flags) > 1 else True)
