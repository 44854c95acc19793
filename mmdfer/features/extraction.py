"""Decode and encode each view of each clip once, into memory or into a feature bank on disk.

The pictures of a view depend only on the clip and the number of the view. Encoding the views here
therefore gives the same vectors as encoding them during training.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from mmengine import dist
from mmengine.logging import MMLogger
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from mmdfer.datasets import DFERDataset
from mmdfer.datasets.transforms.shuffle_frames import ShuffleFrames
from mmdfer.errors import DFERError, UnreadableClipError
from mmdfer.features.bank import Bank, check_bank, open_bank, versioned
from mmdfer.features.encoder import FeatureEncoder
from mmdfer.features.fingerprints import fingerprint_clips

FINGERPRINTS = 'fingerprints.json'  # table in the folder of a bank, see fingerprint_clips
BANKS = Path('work_dirs', 'banks')  # folder of the banks for which the user gave no folder
Key = tuple[int, int]  # index of a clip in Views, and number of the view
Clip = tuple[DFERDataset, int]  # the dataset that holds the clip's annotation, and the index there
Batch = tuple[list[Key], Tensor, list[int]]  # keys, vectors, numbers of unreadable pictures


class Views(Dataset):
    """Decode the views of clips from several datasets with the pipeline of one dataset.

    The index of an item is a pair (clip, view) of the clip's position in ``clips`` and the number
    of the view. The item is (clip, view, ``inputs``, number of pictures that could not be read).
    ``inputs`` is a uint8 tensor (views, 3, T, H, W), or None if the clip cannot be read at all.

    Args:
        reader: The dataset that gives the pipeline and the seed.
        clips: The dataset and the index there that give the annotation of each clip, keyed by clip
            name.

    Raises:
        UnreadableClipError: When an item is read, if a clip of ``reader`` itself cannot be read and
            ``reader`` is in test mode.
    """

    def __init__(self, reader: DFERDataset, clips: dict[str, Clip]) -> None:
        self.reader, self.names, self.clips = reader, list(clips), list(clips.values())
        self.files = [owner.get_data_info(index)['filename'] for owner, index in self.clips]
        self.num_views = 1 if reader.test_mode else reader.num_views or 1
        # ShuffleFrames is left out here: EncodedClips applies it to the vectors when it reads them.
        ordered = [t for t in reader.pipeline.transforms if not isinstance(t, ShuffleFrames)]
        self.pipeline = type(reader.pipeline)(ordered)

    def keys(self, clips: Iterable[int]) -> list[Key]:
        """List the keys of all views of some clips.

        Args:
            clips: Positions of the clips in this dataset.
        """
        return [(clip, view) for clip in clips for view in range(self.num_views)]

    def __getitem__(self, key: Key) -> tuple[int, int, Tensor | None, int]:
        """Decode one view of one clip."""
        (owner, index), view = self.clips[key[0]], key[1]
        info = owner.get_data_info(index)
        try:
            data, unreadable = self.reader.read_frames(info, view, self.pipeline)
        except UnreadableClipError:
            if self.reader.test_mode and owner is self.reader:
                raise
            return *key, None, DFERDataset.LOST
        return *key, data['inputs'], unreadable


class Extractor:
    """Decode views in worker processes, and encode them in this process at the same time.

    Args:
        encoder: The encoder.
        batch_size: Number of views in one pass through the encoder.
        num_workers: Number of processes that decode views.
    """

    def __init__(self, encoder: FeatureEncoder, batch_size: int, num_workers: int) -> None:
        self.encoder, self.batch_size, self.num_workers = encoder, batch_size, num_workers

    def run(self, views: Views, parts: Iterable[Iterable[int]]) -> Iterator[Batch]:
        """Encode all views of some clips, part by part.

        A part is a group of clips, such as a shard of a bank. No batch holds views of two parts.

        Args:
            views: The views of all clips.
            parts: The positions in ``views`` of the clips of each part. The next part is requested
                while views of earlier parts are still being decoded.

        Yields:
            The keys of a batch, its vectors (B, views, T, D) in float32 on the CPU, and for each
            view the number of pictures that could not be read. The vectors of a clip that cannot be
            read are zero.
        """
        loader = DataLoader(
            views,
            batch_sampler=_Batches(views, parts, self.batch_size),
            num_workers=self.num_workers,
            collate_fn=list,
            # By default, a loader draws from the global generator, which would change the run.
            generator=torch.Generator(),
        )
        for batch in loader:
            keys, unreadable = [item[:2] for item in batch], [item[3] for item in batch]
            yield keys, self.encode([item[2] for item in batch], views), unreadable

    def encode(self, inputs: list[Tensor | None], views: Views) -> Tensor:
        """Encode a batch of decoded views.

        Args:
            inputs: B tensors (views, 3, T, H, W), or None for a clip that cannot be read.
            views: The views of all clips, which tell the shape if no clip of the batch can be read.

        Returns:
            Vectors (B, views, T, D), which are zero where the input is None.
        """
        read = {i: frames for i, frames in enumerate(inputs) if frames is not None}
        if not read:
            return torch.zeros(len(inputs), *self.shape(views)[1:])
        vectors = self.encoder(list(read.values()))
        encoded = torch.zeros(len(inputs), *vectors.shape[1:])
        encoded[list(read)] = vectors
        return encoded

    def shape(self, views: Views) -> tuple[int, ...]:
        """Return the shape (V, views, T, D) of the vectors of a clip.

        The first clip that can be read is decoded for this.

        Raises:
            DFERError: If no clip can be read.
        """
        for clip in range(len(views.clips)):
            frames = views[clip, 0][2]  # (views, 3, T, H, W)
            if frames is not None:
                width = self.encoder.backbone.embed_dims
                return views.num_views, frames.shape[0], frames.shape[2], width
        raise DFERError(
            f'{views.reader.ann_file}: none of its clips can be read; restore the files, or '
            'correct data_root'
        )


class _Batches:
    """Yield batches of keys for a DataLoader, so that no batch holds views of two parts."""

    def __init__(self, views: Views, parts: Iterable[Iterable[int]], batch_size: int) -> None:
        self.views, self.parts, self.batch_size = views, parts, batch_size

    def __iter__(self) -> Iterator[list[Key]]:
        for part in self.parts:
            keys = self.views.keys(part)
            for start in range(0, len(keys), self.batch_size):
                yield keys[start : start + self.batch_size]


# ------------------------------------------------------------------ storing vectors


def encode_to_memory(
    extractor: Extractor, views: Views, name: str
) -> tuple[Tensor, dict[str, int]]:
    """Encode all views of all clips. The ranks divide the clips among them.

    Args:
        extractor: Decodes and encodes views.
        views: The views of all clips.
        name: Name of the views for the progress bar, ``train`` or ``test``.

    Returns:
        The vectors (clips, V, views, T, D) in float32 on the CPU, the same on every rank, and the
        number of pictures that could not be read for each clip that has such pictures, keyed by
        clip name.
    """
    rank, ranks = dist.get_rank(), dist.get_world_size()
    mine = range(rank, len(views.clips), ranks)
    vectors = torch.zeros(len(views.clips), *extractor.shape(views))
    unreadable = torch.zeros(len(views.clips), dtype=torch.int32)
    with _bar(len(mine), name) as bar:
        for keys, batch, counts in extractor.run(views, [mine]):
            for (clip, view), vector, count in zip(keys, batch, counts, strict=True):
                vectors[clip, view] = vector
                unreadable[clip] = max(count, int(unreadable[clip]))
            bar.update(len(keys) / views.num_views)
    vectors = _sum(vectors)  # exact, since each row is zero on all ranks but one
    dist.all_reduce(unreadable, 'max')
    return vectors, {views.names[i]: int(unreadable[i]) for i in unreadable.nonzero().flatten()}


def encode_to_bank(
    extractor: Extractor, views: Views, names: Sequence[str], bank: Bank, name: str
) -> None:
    """Encode the clips that a feature bank lacks.

    Other processes may fill the same bank at the same time. The function returns when all needed
    shards are written.

    Args:
        extractor: Decodes and encodes views.
        views: The views of all clips.
        names: Name of each clip in the bank, in the order of ``views``.
        bank: The bank to fill.
        name: Name of the views for the progress bar, ``train`` or ``test``.
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
            for batch in extractor.run(views, claimed()):
                got.append(batch)
                bar.update(len(batch[0]) / views.num_views)
                there = sum(clip in places for clip in bank.shards[claims[0]])
                if sum(len(keys) for keys, *_ in got) == there * views.num_views:
                    _write(bank, claims.popleft(), views, names, got)
                    got = []
                    bar.n = len(views.clips) - bank.clips_missing()  # counts other processes' clips
            bank.wait()


def _write(
    bank: Bank, shard: int, views: Views, names: Sequence[str], batches: list[Batch]
) -> None:
    """Write a shard of a feature bank.

    The rows of clips that were not encoded, because the bank holds an earlier version of their
    pictures, are zero and recorded as absent.

    Args:
        bank: The bank.
        shard: Number of the shard.
        views: The views of all clips.
        names: Name of each clip in the bank, in the order of ``views``.
        batches: The encoded batches of the shard, in order.

    Raises:
        DFERError: If the pictures of a clip have changed since the bank was opened.
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
                f'{views.files[clip]}: the pictures changed while they were encoded; '
                'run the same command again'
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
    """Return the names in a bank of some clips, with the fingerprints of their current pictures.

    Args:
        views: The views of all clips.
        clips: Positions of the clips in ``views``.
        folder: Folder of the bank, which holds the table of known fingerprints.
    """
    clips = list(clips)
    prints = fingerprint_clips([views.files[clip] for clip in clips], folder / FINGERPRINTS)
    return [versioned(views.names[c], p) for c, p in zip(clips, prints, strict=True)]


def _bar(clips: int, name: str, done: int = 0) -> tqdm:
    """Create a progress bar that counts clips and is shown on the main rank only.

    Args:
        clips: Number of all clips.
        name: Name of the views, ``train`` or ``test``.
        done: Number of clips that are encoded already.
    """
    return tqdm(
        total=clips,
        initial=done,
        desc=f'Encoding {name} views',
        unit='clips',
        bar_format='{l_bar}{bar}| {n:.0f}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]',
        disable=dist.get_rank() != 0 or done == clips,
    )


def _sum(rows: Tensor) -> Tensor:
    """Sum a tensor over all ranks, and return the sum on the CPU."""
    if dist.get_world_size() > 1:
        device = torch.device('cuda') if dist.get_backend() == 'nccl' else torch.device('cpu')
        rows = rows.to(device)
        dist.all_reduce(rows)
    return rows.cpu()


# ------------------------------------------------------------------ opening a bank


def feature_settings(encoder: FeatureEncoder, dataset: DFERDataset) -> dict[str, Any]:
    """Return all settings on which the vectors of a dataset's views depend, as JSON values.

    A feature bank stores these settings in its manifest and is used only if they are the same.
    """
    normalise = encoder.data_preprocessor
    settings = dict(
        format=2,
        **dataset.source,
        clip=encoder.backbone.identity,
        mean=normalise.mean.flatten().tolist(),
        std=normalise.std.flatten().tolist(),
        pipeline=[t for t in dataset.pipeline_config if _name(t) != ShuffleFrames.__name__],
        seed=dataset.seed,
        views=1 if dataset.test_mode else dataset.num_views,
    )
    return json.loads(json.dumps(settings, default=lambda o: getattr(o, '__qualname__', repr(o))))


def _name(transform: Any) -> str:
    """Return the class name of a transform or of its config."""
    kind = transform['type'] if isinstance(transform, dict) else type(transform)
    return kind if isinstance(kind, str) else kind.__name__


def bank_folder(bank: str | Literal[True], settings: dict[str, Any], kind: str) -> Path:
    """Return the folder of the feature bank of the training or the test views.

    Args:
        bank: Folder whose subfolders ``train`` and ``test`` are the banks, or True for a folder
            below ``work_dirs/banks`` that is named after the settings.
        settings: Settings of the bank, from :func:`feature_settings`.
        kind: ``train`` or ``test``.
    """
    if bank is not True:
        return Path(bank, kind)
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    words = f'{settings["dataset"]} {settings["clip"]["arch"]} {kind} {key}'
    return BANKS / re.sub(r'[^\w.]+', '-', words)


def list_clips(datasets: Iterable[DFERDataset]) -> dict[str, Clip]:
    """Find the dataset and the index there that hold each clip, keyed by clip name.

    If several datasets hold a clip, the first of them is returned.
    """
    found: dict[str, Clip] = {}
    for owner in datasets:
        for index, name in enumerate(owner.clip_names()):
            found.setdefault(name, (owner, index))
    return found


def fill_bank(
    extractor: Extractor, views: Views, bank: str | Literal[True], kind: str
) -> tuple[Bank, dict[str, str]]:
    """Open a feature bank and encode the clips that it lacks. Every rank must call this function.

    Args:
        extractor: Decodes and encodes views.
        views: The views that the bank must hold.
        bank: Folder of the banks, or True; see :func:`bank_folder`.
        kind: ``train`` or ``test``.

    Returns:
        The bank, and the name in the bank of each clip, keyed by clip name.

    Raises:
        DFERError: If the bank was encoded with other settings, or if pictures changed while they
            were encoded.
    """
    logger = MMLogger.get_current_instance()
    settings = feature_settings(extractor.encoder, views.reader)
    folder = bank_folder(bank, settings, kind)
    check_bank(folder, settings)
    named: list[Any] = [None]  # only the main rank computes the names, so that all ranks agree
    if dist.is_main_process():
        named = [_name_in_bank(views, range(len(views.names)), folder)]
    dist.broadcast_object_list(named)
    names: list[str] = named[0]
    opened = open_bank(folder, settings, names, lambda: extractor.shape(views))
    if outdated := opened.outdated():
        logger.warning(
            f'{folder}: the pictures of {len(outdated)} clips have changed since they were '
            f'encoded (the first one is {outdated[0]}); these clips are encoded again'
        )
    if dist.is_main_process() and (damaged := opened.verify()):
        logger.warning(f'{folder}: shards {damaged} are damaged and are encoded again')
    dist.barrier()
    encode_to_bank(extractor, views, names, opened, kind)
    dist.barrier()
    _check_encoded(opened, folder, names)
    by_clip = dict(zip(views.names, names, strict=True))
    _warn_of_lost(opened, folder, by_clip)
    logger.info(f'{kind} vectors of {len(opened.rows)} clips in {folder}')
    return opened, by_clip


def _check_encoded(bank: Bank, folder: Path, names: Sequence[str]) -> None:
    """Raise DFERError if the bank lacks a clip, because its pictures changed during encoding."""
    rows = bank.rows
    if gone := [name for name in names if name not in rows]:
        raise DFERError(
            f'{folder}: the pictures of {len(gone)} clips changed while they were encoded (the '
            f'first one is {gone[0].rpartition("@")[0]}); run the same command again'
        )


def _warn_of_lost(bank: Bank, folder: Path, by_clip: dict[str, str]) -> None:
    """Log a warning if some clips could not be read when the bank was encoded."""
    counts = bank.unreadable
    lost = [clip for clip, name in by_clip.items() if counts.get(name) == DFERDataset.LOST]
    if lost:
        MMLogger.get_current_instance().warning(
            f'{folder}: {len(lost)} clips could not be read when the bank was encoded (the first '
            f'one is {lost[0]}); restore their files, and the next run encodes them again'
        )
