"""Encodes each view of each clip once, where the image tower is frozen: in memory, or to a bank.

A view is named by its clip and its number, here as in training, so that both give the same vectors.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from logging import Logger
from pathlib import Path
from typing import Any

import torch
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from mmaction.registry import HOOKS

from mmdfer.datasets import DFERDataset
from mmdfer.datasets.transforms.shuffle_frames import ShuffleFrames
from mmdfer.engine.runner.progress import is_complete, train_loop
from mmdfer.engine.runner.unwrap import unwrap
from mmdfer.errors import DFERError, UnreadableClipError
from mmdfer.features.bank import Bank, check_bank, open_bank, versioned
from mmdfer.features.fingerprints import fingerprint_clips
from mmdfer.models.backbones.frozen_clip import ENCODED_AND_BLENDED, FrozenCLIP

FINGERPRINTS = 'fingerprints.json'  # in a bank's folder: of files that were read before
BANKS = Path('work_dirs', 'banks')  # where banks lie whose folder was not given
Key = tuple[int, int]  # a clip's place in Views, and the number of the view
Clip = tuple[DFERDataset, int]
Batch = tuple[list[Key], Tensor, list[int]]


class Views(Dataset):
    """The views of clips as one dataset's pipeline shows them.

    Item (clip, view) is (clip, view, ``inputs``, pictures that could not be read). Of a clip that
    cannot be read at all, ``inputs`` is None; in test mode one of the dataset's own is an error.

    Args:
        reader: Whose pipeline and seed make the views.
        clips: Whose annotation and at which index each clip is; by name.
    """

    def __init__(self, reader: DFERDataset, clips: dict[str, Clip]) -> None:
        if not reader.test_mode and reader.num_views is None:
            raise DFERError(
                'EncodeOnceHook: the training set shows a new view each epoch: set its num_views'
            )
        self.reader, self.names, self.clips = reader, list(clips), list(clips.values())
        self.files = [owner.get_data_info(index)['filename'] for owner, index in self.clips]
        self.num_views: int = 1 if reader.test_mode else reader.num_views
        # The tower sees one frame at a time: their order is put on the vectors, as they are read.
        ordered = [t for t in reader.pipeline.transforms if not isinstance(t, ShuffleFrames)]
        self.pipeline = type(reader.pipeline)(ordered)

    def keys(self, clips: Iterable[int]) -> list[Key]:
        """All views of some clips."""
        return [(clip, view) for clip in clips for view in range(self.num_views)]

    def __getitem__(self, key: Key) -> tuple[int, int, Tensor | None, int]:
        (owner, index), view = self.clips[key[0]], key[1]
        info = owner.get_data_info(index)
        try:
            data, unreadable = self.reader.read_frames(info, view, self.pipeline)
        except UnreadableClipError:
            if self.reader.test_mode and owner is self.reader:
                raise
            return *key, None, DFERDataset.LOST
        return *key, data['inputs'], unreadable


class Encoder:
    """Decodes in worker processes, and encodes meanwhile.

    Args:
        model: A recognizer, whose ``data_preprocessor`` and ``backbone`` encode.
        batch_size: Views per pass.
        num_workers: Processes that decode.
    """

    def __init__(self, model: nn.Module, batch_size: int, num_workers: int) -> None:
        self.model, self.batch_size, self.num_workers = model, batch_size, num_workers

    def run(self, views: Views, parts: Iterable[Iterable[int]]) -> Iterator[Batch]:
        """Encodes the clips of each part, in batches that end with it.

        Args:
            views: Of which clips.
            parts: Their places; asked for while earlier ones are being decoded.

        Yields:
            The keys of a batch, its vectors (B, views, T, D) in fp32 on the CPU, zero for a clip
            that cannot be read, and the number of pictures that could not be read.
        """
        loader = DataLoader(
            views,
            batch_sampler=_Batches(views, parts, self.batch_size),
            num_workers=self.num_workers,
            collate_fn=list,
        )
        self.model.eval()
        for batch in loader:
            keys, unreadable = [item[:2] for item in batch], [item[3] for item in batch]
            yield keys, self.encode([item[2] for item in batch], views), unreadable

    @torch.no_grad()
    def encode(self, inputs: list[Tensor | None], views: Views) -> Tensor:
        """Encodes (views, 3, T, H, W) each to (B, views, T, D); None to zeros."""
        read = [i for i, frames in enumerate(inputs) if frames is not None]
        if not read:
            return torch.zeros(len(inputs), *self.shape(views)[1:])
        batch = dict(inputs=[inputs[i] for i in read], data_samples=[None] * len(read))
        frames = self.model.data_preprocessor(batch)['inputs']  # (B, views, 3, T, H, W)
        vectors = self.model.backbone(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        encoded = torch.zeros(len(inputs), *vectors.shape[1:])
        encoded[read] = vectors.float().cpu()
        return encoded

    def shape(self, views: Views) -> tuple[int, ...]:
        """(V, views, T, D), from the first clip that can be read.

        Raises:
            DFERError: None can be.
        """
        for clip in range(len(views.clips)):
            frames = views[clip, 0][2]  # (views, 3, T, H, W)
            if frames is not None:
                width = self.model.backbone.embed_dims
                return views.num_views, frames.shape[0], frames.shape[2], width
        raise DFERError(f'{views.reader.ann_file}: none of its clips can be read')


class _Batches:
    """Batches of keys, none of which reaches over the end of a part."""

    def __init__(self, views: Views, parts: Iterable[Iterable[int]], batch_size: int) -> None:
        self.views, self.parts, self.batch_size = views, parts, batch_size

    def __iter__(self) -> Iterator[list[Key]]:
        for part in self.parts:
            keys = self.views.keys(part)
            for start in range(0, len(keys), self.batch_size):
                yield keys[start : start + self.batch_size]


# ------------------------------------------------------------------ where the vectors go


def encode_to_memory(encoder: Encoder, views: Views, name: str) -> tuple[Tensor, dict[str, int]]:
    """Encodes all clips, shared among the ranks.

    Returns:
        (clips, V, views, T, D) in fp32 on the CPU, the same on every rank; and of the clips with
        pictures that cannot be read, how many.
    """
    rank, ranks = dist.get_rank(), dist.get_world_size()
    mine = range(rank, len(views.clips), ranks)
    vectors = torch.zeros(len(views.clips), *encoder.shape(views))
    unreadable = torch.zeros(len(views.clips), dtype=torch.int32)
    with _bar(len(mine), name) as bar:
        for keys, batch, counts in encoder.run(views, [mine]):
            for (clip, view), vector, count in zip(keys, batch, counts, strict=True):
                vectors[clip, view] = vector
                unreadable[clip] = max(count, int(unreadable[clip]))
            bar.update(len(keys) / views.num_views)
    vectors = _sum(vectors)  # each row is some rank's and the others' are zero: exact
    dist.all_reduce(unreadable, 'max')
    return vectors, {views.names[i]: int(unreadable[i]) for i in unreadable.nonzero().flatten()}


def encode_to_bank(
    encoder: Encoder, views: Views, names: Sequence[str], bank: Bank, name: str
) -> None:
    """Encodes the clips that a bank lacks; other processes may fill the same bank meanwhile.

    Args:
        encoder: Encodes.
        views: Of which clips.
        names: The name of each in the bank.
        bank: Where the vectors go.
        name: For the progress bar.
    """
    places = {clip: place for place, clip in enumerate(names)}
    claims: deque[int] = deque()

    def claimed() -> Iterator[list[int]]:
        for shard in bank.claim():
            claims.append(shard)
            yield [places[clip] for clip in bank.shards[shard] if clip in places]

    with _bar(len(views.clips), name, len(views.clips) - bank.clips_missing()) as bar:
        while bank.missing():
            got = []
            for batch in encoder.run(views, claimed()):
                got.append(batch)
                bar.update(len(batch[0]) / views.num_views)
                there = sum(clip in places for clip in bank.shards[claims[0]])
                if sum(len(keys) for keys, *_ in got) == there * views.num_views:
                    _write(bank, claims.popleft(), views, names, got)
                    got = []
                    bar.n = len(views.clips) - bank.clips_missing()  # others' too
            bank.wait()


def _write(
    bank: Bank, shard: int, views: Views, names: Sequence[str], batches: list[Batch]
) -> None:
    """Writes a shard, whose views came in order; the rows of clips without pictures are zeros.

    Raises:
        DFERError: A clip's pictures have changed since the bank was opened.
    """
    unreadable: dict[str, int] = {}
    for keys, _, counts in batches:
        for (clip, _), count in zip(keys, counts, strict=True):
            if count:
                unreadable[names[clip]] = max(count, unreadable.get(names[clip], 0))
    clips = list(dict.fromkeys(clip for keys, *_ in batches for clip, _ in keys))
    for clip, now in zip(clips, _name_in_bank(views, clips, bank.folder), strict=True):
        if now != names[clip]:
            raise DFERError(
                f'{views.files[clip]}: the pictures changed while they were encoded; run it again'
            )
    encoded = torch.cat([vectors for _, vectors, _ in batches])
    encoded = encoded.unflatten(0, (-1, views.num_views))  # (clips, V, views, T, D)
    vectors = encoded.new_zeros(len(bank.shards[shard]), *encoded.shape[1:])
    there = {names[clip]: vector for clip, vector in zip(clips, encoded, strict=True)}
    for row, name in enumerate(bank.shards[shard]):
        if name in there:
            vectors[row] = there[name]
    absent = [name for name in bank.shards[shard] if name not in there]
    bank.write(shard, vectors, unreadable, absent)


def _name_in_bank(views: Views, clips: Iterable[int], folder: Path) -> list[str]:
    """Name clips by what their pictures are now."""
    clips = list(clips)
    prints = fingerprint_clips([views.files[clip] for clip in clips], folder / FINGERPRINTS)
    return [versioned(views.names[c], p) for c, p in zip(clips, prints, strict=True)]


def _bar(clips: int, name: str, done: int = 0) -> tqdm:
    """The progress of the main rank, in clips."""
    return tqdm(
        total=clips,
        initial=done,
        desc=f'Encoding {name} views',
        unit='clips',
        bar_format='{l_bar}{bar}| {n:.0f}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]',
        disable=dist.get_rank() != 0 or done == clips,
    )


def _sum(rows: Tensor) -> Tensor:
    """The sum over the ranks."""
    if dist.get_world_size() > 1:
        device = torch.device('cuda') if dist.get_backend() == 'nccl' else torch.device('cpu')
        rows = rows.to(device)
        dist.all_reduce(rows)
    return rows.cpu()


# ------------------------------------------------------------------ what a bank is of


def settings_of(model: nn.Module, dataset: DFERDataset) -> dict[str, Any]:
    """All that the vectors of a dataset's views depend on, as JSON values."""
    if not hasattr(model.backbone, 'identity'):
        raise DFERError(
            f'--bank keeps the vectors of a frozen CLIP; the backbone is a '
            f'{type(model.backbone).__name__}: leave the flag out'
        )
    normalise = model.data_preprocessor
    settings = dict(
        format=2,
        **dataset.source,
        clip=model.backbone.identity,
        mean=normalise.mean.flatten().tolist(),
        std=normalise.std.flatten().tolist(),
        pipeline=[t for t in dataset.pipeline_config if _name(t) != ShuffleFrames.__name__],
        seed=dataset.seed,
        views=1 if dataset.test_mode else dataset.num_views,
    )
    return json.loads(json.dumps(settings, default=lambda o: getattr(o, '__qualname__', repr(o))))


def _name(transform: Any) -> str:
    kind = transform.get('type') if isinstance(transform, dict) else type(transform)
    return kind if isinstance(kind, str) else kind.__name__


def folder_of(bank: str | bool, settings: dict[str, Any], kind: str) -> Path:
    """Where the bank of the training or the test views lies.

    Args:
        bank: A folder, below which they are ``train`` and ``test``; True for one below
            ``work_dirs/banks`` that is named after the settings.
        settings: Of :func:`settings_of`.
        kind: train or test.
    """
    if bank is not True:
        return Path(bank, kind)
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    words = f'{settings["dataset"]} {settings["clip"]["arch"]} {kind} {key}'
    return BANKS / re.sub(r'[^\w.]+', '-', words)


def clips_of(dataset: DFERDataset, others: Sequence[DFERDataset]) -> dict[str, Clip]:
    """The clips of a dataset; of one with folds those of the others too, for its other folds."""
    alike = [other for other in others if dataset.FOLDS and other.source == dataset.source]
    found: dict[str, Clip] = {}
    for owner in [dataset, *alike]:
        for index, name in enumerate(owner.clip_names()):
            found.setdefault(name, (owner, index))
    return found


@HOOKS.register_module()
class EncodeOnceHook(Hook):
    """Runs the frozen image tower once per view, and hands the vectors to the datasets.

    Before training, the V views of each training clip and the test view of each validation clip
    are decoded and encoded, shared among the ranks. Afterwards the dataset gives vectors (T, D) in
    place of frames, and the backbone lets them pass. Without a bank they are kept in memory in
    fp32, for this run; in a bank they are kept on disk in half precision, for every run, fold and
    text head over the same views and weights, and testing reads them too. Clips whose files have
    changed since are encoded again.

    Args:
        bank: A bank's folder; True for one below ``work_dirs/banks`` that is named after what its
            vectors depend on; None keeps them in memory.
        batch_size: Views per pass.
        num_workers: Processes that decode.

    Raises:
        DFERError: Some stage trains the image tower, the dataset draws a new view each epoch, or
            the bank is of other settings, or the batches are mixed (MixUp, CutMix).
    """

    def __init__(
        self, bank: str | bool | None = None, batch_size: int = 16, num_workers: int = 2
    ) -> None:
        self.bank, self.batch_size, self.num_workers = bank, batch_size, num_workers

    def before_train(self, runner: Runner) -> None:
        """Encodes the training and the validation set, unless nothing is left to train."""
        self.check(unwrap(runner.model))
        if not is_complete(runner):
            self.serve(runner, (runner.train_loop, runner.val_loop))

    def before_val(self, runner: Runner) -> None:
        """Encode the validation set for ``Runner.val()`` alone, if there is a bank."""
        if self.bank is not None and train_loop(runner) is None:
            self.serve(runner, (runner.val_loop,))

    def check(self, model: nn.Module) -> None:
        """Raise DFERError where training would mix what this hook has encoded."""
        if getattr(model.data_preprocessor, 'blending', None) is not None:
            raise DFERError(ENCODED_AND_BLENDED)

    def before_test(self, runner: Runner) -> None:
        """Encodes the test set, if there is a bank to keep the vectors in."""
        if self.bank is not None:
            self.serve(runner, (runner.test_loop,))

    def serve(self, runner: Runner, loops: Sequence[BaseLoop | None]) -> None:
        """Encodes the datasets of some loops, and has their loaders read vectors."""
        model = unwrap(runner.model)
        if _trains_images(model.backbone):
            raise DFERError(
                'EncodeOnceHook: backbone.trains unfreezes the image tower, whose vectors then '
                'change: take the hook off custom_hooks, or set backbone.trains=()'
            )
        loaders = [loop.dataloader for loop in loops if hasattr(loop, 'dataloader')]
        others = [loader for loader in loaders if not isinstance(loader.dataset, DFERDataset)]
        if others and self.bank is not None:
            raise DFERError(
                f'--bank: a loader reads a {type(others[0].dataset).__name__}, and banks are of '
                "mmdfer's datasets, unwrapped: leave the flag out"
            )
        loaders = [loader for loader in loaders if loader not in others]
        datasets = [loader.dataset for loader in loaders]
        encoder = Encoder(model, self.batch_size, self.num_workers)
        for loader in loaders:
            if loader.dataset.vectors is None:
                self.encode(encoder, loader.dataset, datasets, runner.logger)
            # A gather takes less than passing a batch between processes.
            loader.num_workers, loader.collate_fn = 0, stack_vectors

    def encode(
        self,
        encoder: Encoder,
        dataset: DFERDataset,
        datasets: Sequence[DFERDataset],
        logger: Logger,
    ) -> None:
        """Encodes what is missing of a dataset's vectors, and hands them to it."""
        kind = 'test' if dataset.test_mode else 'train'
        if self.bank is None:
            views = Views(dataset, clips_of(dataset, ()))
            dataset.vectors, unreadable = encode_to_memory(encoder, views, kind)
        else:
            views = Views(dataset, clips_of(dataset, datasets))
            bank, names = self.fill(encoder, views, kind, logger)
            rows = bank.rows
            dataset.rows = torch.tensor([rows[names[clip]] for clip in dataset.clip_names()])
            dataset.vectors, counts = bank.vectors, bank.unreadable
            unreadable = {clip: counts.get(name, 0) for clip, name in names.items()}
        for index, clip in enumerate(dataset.clip_names()):
            dataset.unreadable[index] = unreadable.get(clip, 0)
        _check_test(dataset)

    def fill(
        self, encoder: Encoder, views: Views, kind: str, logger: Logger
    ) -> tuple[Bank, dict[str, str]]:
        """Opens a bank and encodes what it is missing, so that all of ``views`` is there.

        Returns:
            The bank, and the name in it of each clip.

        Raises:
            DFERError: The bank is of other settings, or pictures changed while they were encoded.
        """
        settings = settings_of(encoder.model, views.reader)
        folder = folder_of(self.bank, settings, kind)
        check_bank(folder, settings)
        named: list[Any] = [None]  # by the main rank, so that all ranks agree on what is there
        if dist.is_main_process():
            named = [_name_in_bank(views, range(len(views.names)), folder)]
        dist.broadcast_object_list(named)
        names: list[str] = named[0]
        bank = open_bank(folder, settings, names, lambda: encoder.shape(views))
        if outdated := bank.outdated():
            logger.warning(
                f'{folder}: the pictures of {len(outdated)} clips have changed since they were '
                f'encoded, {outdated[0]} the first; these clips are encoded again'
            )
        if dist.is_main_process() and (damaged := bank.verify()):
            logger.warning(f'{folder}: shards {damaged} are damaged and are encoded anew')
        dist.barrier()
        encode_to_bank(encoder, views, names, bank, kind)
        dist.barrier()
        rows, counts = bank.rows, bank.unreadable
        if gone := [name for name in names if name not in rows]:
            raise DFERError(
                f'{folder}: the pictures of {len(gone)} clips, {gone[0].rpartition("@")[0]} the '
                'first, changed while they were encoded; run it again'
            )
        by_clip = dict(zip(views.names, names, strict=True))
        lost = [clip for clip, name in by_clip.items() if counts.get(name) == DFERDataset.LOST]
        if lost:
            logger.warning(
                f'{folder}: {len(lost)} clips could not be read when it was encoded, {lost[0]} the '
                'first; once their files are restored, they are encoded again'
            )
        logger.info(f'{kind} vectors of {len(rows)} clips in {folder}')
        return bank, by_clip


def _trains_images(backbone: nn.Module) -> bool:
    """Return whether frame vectors change in training; those of a trained text tower do not."""
    images = backbone.clip.visual if isinstance(backbone, FrozenCLIP) else backbone
    return any(p.requires_grad for p in images.parameters())


def stack_vectors(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Collates a batch of vectors as one tensor (B, views, T, D)."""
    return dict(
        inputs=torch.stack([item['inputs'] for item in items]),
        data_samples=[item['data_samples'] for item in items],
    )


def _check_test(dataset: DFERDataset) -> None:
    """Refuses vectors of a test clip that could not be read when its training views were."""
    lost = (dataset.unreadable == dataset.LOST).nonzero().flatten().tolist()
    if lost and dataset.test_mode:
        name = dataset.get_data_info(lost[0])['filename']
        raise UnreadableClipError(
            f'{name}: could not be read when the bank was encoded; restore the file, or delete '
            'the bank if the file is whole'
        )
