"""Decode and encode each view of each clip once, into memory or into a bank on disk.

A view is named by its clip and its number, here as in training, so that both give the same vectors.
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
        self.reader, self.names, self.clips = reader, list(clips), list(clips.values())
        self.files = [owner.get_data_info(index)['filename'] for owner, index in self.clips]
        self.num_views = 1 if reader.test_mode else reader.num_views or 1
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


class Extractor:
    """Decode views in worker processes, and encode them meanwhile.

    Args:
        encoder: Encodes.
        batch_size: Views in a pass through the encoder.
        num_workers: Processes that decode.
    """

    def __init__(self, encoder: FeatureEncoder, batch_size: int, num_workers: int) -> None:
        self.encoder, self.batch_size, self.num_workers = encoder, batch_size, num_workers

    def run(self, views: Views, parts: Iterable[Iterable[int]]) -> Iterator[Batch]:
        """Encode the clips of each part, in batches that end with the part.

        Args:
            views: The views of all clips.
            parts: The places of the clips of each part; the next part is asked for while the
                earlier ones are being decoded.

        Yields:
            The keys of a batch, its vectors (B, views, T, D) in float32 on the CPU, zero for a clip
            that cannot be read, and the number of pictures that could not be read.
        """
        loader = DataLoader(
            views,
            batch_sampler=_Batches(views, parts, self.batch_size),
            num_workers=self.num_workers,
            collate_fn=list,
            # Without one of its own, a loader draws from the generator that the run's weights use.
            generator=torch.Generator(),
        )
        for batch in loader:
            keys, unreadable = [item[:2] for item in batch], [item[3] for item in batch]
            yield keys, self.encode([item[2] for item in batch], views), unreadable

    def encode(self, inputs: list[Tensor | None], views: Views) -> Tensor:
        """Encode the views (views, 3, T, H, W) of B clips to (B, views, T, D); None to zeros."""
        read = {i: frames for i, frames in enumerate(inputs) if frames is not None}
        if not read:
            return torch.zeros(len(inputs), *self.shape(views)[1:])
        vectors = self.encoder(list(read.values()))
        encoded = torch.zeros(len(inputs), *vectors.shape[1:])
        encoded[list(read)] = vectors
        return encoded

    def shape(self, views: Views) -> tuple[int, ...]:
        """Return (V, views, T, D), from the first clip that can be read.

        Raises:
            DFERError: No clip can be read.
        """
        for clip in range(len(views.clips)):
            frames = views[clip, 0][2]  # (views, 3, T, H, W)
            if frames is not None:
                width = self.encoder.backbone.embed_dims
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


def encode_to_memory(
    extractor: Extractor, views: Views, name: str
) -> tuple[Tensor, dict[str, int]]:
    """Encodes all clips, shared among the ranks.

    Returns:
        (clips, V, views, T, D) in fp32 on the CPU, the same on every rank; and of the clips with
        pictures that cannot be read, how many.
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
    vectors = _sum(vectors)  # each row is some rank's and the others' are zero: exact
    dist.all_reduce(unreadable, 'max')
    return vectors, {views.names[i]: int(unreadable[i]) for i in unreadable.nonzero().flatten()}


def encode_to_bank(
    extractor: Extractor, views: Views, names: Sequence[str], bank: Bank, name: str
) -> None:
    """Encodes the clips that a bank lacks; other processes may fill the same bank meanwhile.

    Args:
        extractor: Decodes and encodes.
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
            for batch in extractor.run(views, claimed()):
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


def feature_settings(encoder: FeatureEncoder, dataset: DFERDataset) -> dict[str, Any]:
    """Return all that the vectors of a dataset's views depend on, as JSON values."""
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
    kind = transform['type'] if isinstance(transform, dict) else type(transform)
    return kind if isinstance(kind, str) else kind.__name__


def bank_folder(bank: str | Literal[True], settings: dict[str, Any], kind: str) -> Path:
    """Return where the bank of the training or the test views lies.

    Args:
        bank: A folder, in which the banks are ``train`` and ``test``; True for a folder below
            ``work_dirs/banks`` that is named after the settings.
        settings: The result of :func:`feature_settings`.
        kind: ``train`` or ``test``.
    """
    if bank is not True:
        return Path(bank, kind)
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    words = f'{settings["dataset"]} {settings["clip"]["arch"]} {kind} {key}'
    return BANKS / re.sub(r'[^\w.]+', '-', words)


def list_clips(datasets: Iterable[DFERDataset]) -> dict[str, Clip]:
    """Return by name, in which dataset and at which index each clip is; the first one counts."""
    found: dict[str, Clip] = {}
    for owner in datasets:
        for index, name in enumerate(owner.clip_names()):
            found.setdefault(name, (owner, index))
    return found


def fill_bank(
    extractor: Extractor, views: Views, bank: str | Literal[True], kind: str
) -> tuple[Bank, dict[str, str]]:
    """Open a bank and encode what it lacks of the views. Every rank has to call this.

    Args:
        extractor: Decodes and encodes.
        views: The views that must be there.
        bank: As for :func:`bank_folder`.
        kind: ``train`` or ``test``.

    Returns:
        The bank, and the name in it of each clip.

    Raises:
        DFERError: The bank is of other settings, or pictures changed while they were encoded.
    """
    logger = MMLogger.get_current_instance()
    settings = feature_settings(extractor.encoder, views.reader)
    folder = bank_folder(bank, settings, kind)
    check_bank(folder, settings)
    named: list[Any] = [None]  # by the main rank, so that all ranks agree on what is there
    if dist.is_main_process():
        named = [_name_in_bank(views, range(len(views.names)), folder)]
    dist.broadcast_object_list(named)
    names: list[str] = named[0]
    opened = open_bank(folder, settings, names, lambda: extractor.shape(views))
    if outdated := opened.outdated():
        logger.warning(
            f'{folder}: the pictures of {len(outdated)} clips have changed since they were '
            f'encoded, {outdated[0]} the first; these clips are encoded again'
        )
    if dist.is_main_process() and (damaged := opened.verify()):
        logger.warning(f'{folder}: shards {damaged} are damaged and are encoded anew')
    dist.barrier()
    encode_to_bank(extractor, views, names, opened, kind)
    dist.barrier()
    _check_encoded(opened, folder, names)
    by_clip = dict(zip(views.names, names, strict=True))
    _warn_of_lost(opened, folder, by_clip)
    logger.info(f'{kind} vectors of {len(opened.rows)} clips in {folder}')
    return opened, by_clip


def _check_encoded(bank: Bank, folder: Path, names: Sequence[str]) -> None:
    """Raise DFERError where pictures changed meanwhile, so that a clip was left out."""
    rows = bank.rows
    if gone := [name for name in names if name not in rows]:
        raise DFERError(
            f'{folder}: the pictures of {len(gone)} clips, {gone[0].rpartition("@")[0]} the '
            'first, changed while they were encoded; run it again'
        )


def _warn_of_lost(bank: Bank, folder: Path, by_clip: dict[str, str]) -> None:
    counts = bank.unreadable
    lost = [clip for clip, name in by_clip.items() if counts.get(name) == DFERDataset.LOST]
    if lost:
        MMLogger.get_current_instance().warning(
            f'{folder}: {len(lost)} clips could not be read when it was encoded, {lost[0]} the '
            'first; once their files are restored, they are encoded again'
        )
