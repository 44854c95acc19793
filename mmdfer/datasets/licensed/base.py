"""What the licensed datasets share: clips that label files list, and that lie as pictures or video.

::

    label files (label_files.py) ─ id, label ─┐
                                              ├─► filename, label, clip
    folders on disk (discovery.py) ─ id, path ┘
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from mmengine.logging import MMLogger

from mmdfer.datasets.base import DFERDataset
from mmdfer.datasets.licensed.discovery import (
    Disk,
    choose_folders,
    choose_list,
    fold_of,
    look,
    split_of,
)
from mmdfer.datasets.licensed.label_files import Row, check_counts, count_labels, read_rows
from mmdfer.datasets.transforms.frame_reader import folder_of_frames
from mmdfer.errors import DFERError

MARKER = 'synthetic.json'
_SHOWN = 20


@dataclass(frozen=True)
class Listed:
    """One clip of a label file, understood.

    Attributes:
        clip: Its name within the dataset.
        label: Ours.
        source: ``file:line`` that says so.
        texts: Captions.
    """

    clip: str
    label: int
    source: str
    texts: tuple[str, ...] = ()


class ListedDataset(DFERDataset):
    """A dataset whose label files name clips, wherever on disk these lie.

    Label files and folders are looked for below ``data_root``. All folds that are there are read,
    not only the one asked for, and must agree: each clip has one label, no clip is both trained
    and tested on, the test sets share none, and all folds hold the same clips. The clips of each
    class must be as many as in the release.

    A subclass says how a label file names clips and classes.

    Args:
        data_root: The folder that holds the dataset.
        split: ``train`` or ``test``.
        fold: Counted from 1; of datasets with folds.
        media: ``frames``, all pictures of each clip; ``frames16``, the folder of 16 pictures each;
            or ``videos``.
        ann_file: The label file, where it is not to be looked for; below ``data_root`` or absolute.
        data_prefix: ``dict(img=...)`` or ``dict(video=...)``, the folder of the clips below
            ``data_root``, where it is not to be looked for.
        check_counts: Whether clips per class must be as in the release.
        kwargs: As for DFERDataset.

    Attributes:
        readings: What the labels of each file that was read were taken for.

    Raises:
        DFERError: The files contradict one another or the release, or cannot be understood. In
            test mode: a listed clip is not there. In training those are left out, with a warning.
    """

    #: Folds of the dataset; 0 where there is one split.
    FOLDS: ClassVar[int] = 5
    #: Kinds of media that the dataset comes in.
    MEDIA: ClassVar[Sequence[str]] = ('frames', 'videos')
    #: Clips of each class, or one number, their sum: of '<split>/<fold>' or as `counts_key` says.
    COUNTS: ClassVar[dict[str, Sequence[int]]] = {}

    def __init__(
        self,
        data_root: str = '',
        split: str = 'train',
        fold: int = 1,
        media: str = 'frames',
        ann_file: str = '',
        data_prefix: dict[str, str] | None = None,
        check_counts: bool = True,
        **kwargs: Any,
    ) -> None:
        name = type(self).__name__
        _one_of(name, 'split', split, ('train', 'test'))
        _one_of(name, 'media', media, self.MEDIA)
        if self.FOLDS:
            _one_of(name, 'fold', fold, range(1, self.FOLDS + 1))
        _one_of(name, 'data_prefix', *_keys(data_prefix, media))
        self.split, self.fold, self.media = split, fold, media
        self.check_counts = check_counts
        self.readings: dict[Path, str] = {}
        self.prefix = next(iter((data_prefix or {}).values()), None)
        super().__init__(ann_file, data_root=data_root, data_prefix={}, **kwargs)

    # ------------------------------------------------------------ what a subclass says

    def clip_of(self, path: str) -> str:
        """The clip's name within the dataset, from what a label file calls it.

        Raises:
            ValueError: It names no clip.
        """
        raise NotImplementedError

    def labels_of(self, path: Path, rows: Sequence[Row], key: str) -> list[int | None]:
        """The label of each row; None for a clip that has no single one.

        Args:
            path: The file.
            rows: Its rows.
            key: Of ``COUNTS``.
        """
        raise NotImplementedError

    def counts_key(self, split: str, fold: int) -> str:
        """The key of ``COUNTS``."""
        return f'{split}/{fold}' if self.FOLDS else split

    def find_lists(self, disk: Disk) -> dict[tuple[str, int], list[str]]:
        """The label files of every split and fold (0 where there are none), below the root."""
        raise NotImplementedError

    def find_clips(self, disk: Disk) -> dict[str, str]:
        """Path of each clip's folder or video, by the clip's name."""
        folders = choose_folders(disk, disk.folders, self.media, self.prefix)
        return index_clips((f'{int(n):05d}', path) for f in folders for n, path in f.clips.items())

    # ------------------------------------------------------------ reading

    @property
    def source(self) -> dict[str, Any]:
        """The dataset, and as what its clips lie."""
        return {**super().source, 'media': self.media}

    def other_splits(self) -> list[DFERDataset]:
        """Return the clips of the fold that the other split holds.

        They are read as training clips: one that is missing on disk is left out. There are none
        where the label file was given by hand, which says nothing of another one.
        """
        if not self.FOLDS or self.ann_file:
            return []
        other = copy.copy(self)
        other.split = 'test' if self.split == 'train' else 'train'
        other.test_mode = other._fully_initialized = False
        other._seeds = {}
        other._metainfo = copy.deepcopy(self.METAINFO)
        other.full_init()
        return [other]

    def load_data_list(self) -> list[dict[str, Any]]:
        """Reads the labels, finds the clips, and puts the two together."""
        disk = look(self.data_root or '.')
        if read_marker(disk.root) is not None:
            self._metainfo['dataset'] = f'synthetic tree like {self._metainfo["dataset"]}'
        return self._join(self.read_lists(disk), self.find_clips(disk))

    @cached_property
    def counts(self) -> dict[str, Sequence[int]]:
        """The known numbers of clips: the release's, or those of a rendered tree."""
        marker = read_marker(Path(self.data_root or '.'))
        return self.COUNTS if marker is None else marker['counts']

    def read_lists(self, disk: Disk) -> list[Listed]:
        """The clips of the split and fold asked for, compared with all other folds."""
        if self.ann_file:
            listed = self.read_list(Path(self.ann_file), self.split, self.fold)
            check_unique(listed)
            return listed
        wanted = self.split, self.fold if self.FOLDS else 0
        what = f'{type(self).__name__} {self.split}' + (f', fold {self.fold}' if self.FOLDS else '')
        choose_list(disk, self.find_lists(disk).get(wanted, []), what)
        return self.read_all(disk)[wanted]

    def read_all(self, disk: Disk) -> dict[tuple[str, int], list[Listed]]:
        """The clips of all splits and folds that have one label file, compared with one another."""
        read = {
            key: self.read_list(disk.root / paths[0], *key)
            for key, paths in sorted(self.find_lists(disk).items())
            if len(paths) == 1 and (key[1] > 0) == (self.FOLDS > 0)
        }
        check_agreement(read)
        return read

    def read_list(self, path: Path, split: str, fold: int) -> list[Listed]:
        """Reads one label file."""
        rows, key = read_rows(path), self.counts_key(split, fold)
        clips = []
        for row in rows:
            try:
                clips.append(self.clip_of(row.path.replace('\\', '/').rstrip('/')))
            except ValueError as error:
                raise DFERError(
                    f'{path}:{row.line}: {row.path!r} {error}; correct the line, '
                    'or unpack the file again'
                ) from None
        labels = self.labels_of(path, rows, key)
        if self.check_counts and key in self.counts:
            counts = count_labels(labels, len(self.metainfo['classes']))
            check_counts(path, counts, self.counts[key], self.metainfo['classes'])
        return [
            Listed(clip, label, f'{path}:{row.line}', row.texts)
            for clip, label, row in zip(clips, labels, rows, strict=True)
            if label is not None
        ]

    def _join(self, listed: list[Listed], paths: dict[str, str]) -> list[dict[str, Any]]:
        """The entries of the clips that are on disk; what to do about the others."""
        data, missing = [], []
        for clip in listed:
            path = paths.get(clip.clip)
            if path is not None and self.media != 'videos':
                path = folder_of_frames(path)
            elif path is not None and os.path.getsize(path) == 0:
                path = None
            if path is None:
                missing.append(clip)
            else:
                data.append(
                    dict(filename=path, label=clip.label, clip=clip.clip, **self.more(clip))
                )
        if missing:
            self._report_missing(missing, len(listed))
        return data

    def more(self, clip: Listed) -> dict[str, Any]:
        """Further entries of a clip."""
        return {}

    def _report_missing(self, missing: list[Listed], total: int) -> None:
        shown = ', '.join(f'{c.clip} ({Path(c.source).name})' for c in missing[:_SHOWN])
        more = ', ...' if len(missing) > _SHOWN else ''
        message = (
            f'{self.data_root}: {len(missing)} of {total} listed clips have no {self.media} on '
            f'disk: {shown}{more}'
        )
        remedy = 'unpack them; tools/check_dataset.py lists all'
        if self.test_mode or len(missing) == total:
            why = 'testing on the others would change WAR; ' if self.test_mode else ''
            raise DFERError(f'{message}; {why}{remedy}')
        MMLogger.get_current_instance().warning('%s; they are left out; %s', message, remedy)


def _one_of(name: str, argument: str, value: Any, allowed: Iterable[Any]) -> None:
    allowed = tuple(allowed)
    if value not in allowed:
        raise DFERError(f'{name}: {argument}={value!r} is none of {", ".join(map(str, allowed))}')


def _keys(data_prefix: dict[str, str] | None, media: str) -> tuple[tuple, list[tuple]]:
    """The keys of ``data_prefix``, and what they may be."""
    return tuple(data_prefix or {}), [(), ('video' if media == 'videos' else 'img',)]


def number_of(path: str) -> str:
    """The five-digit id that a path ends in.

    Raises:
        ValueError: It ends in no number.
    """
    name = re.sub(r'\.\w{2,4}$', '', path.rsplit('/', 1)[-1])
    if not name.isdecimal() or len(name) > 5:
        raise ValueError('names no clip by its number')
    return f'{int(name):05d}'


def lists_by_split(
    disk: Disk, official: re.Pattern[str], other: re.Pattern[str]
) -> dict[tuple[str, int], list[str]]:
    """Label files by split and fold (0 where a path names none).

    Args:
        disk: Where they lie.
        official: What paths of the release look like, below the root.
        other: What those of other authors do; they count only where there are none of the release.
    """
    found: dict[tuple[str, int], list[str]] = {}
    texts = [t for t in disk.lists if official.search(t)]
    for text in texts or [t for t in disk.lists if other.search(t)]:
        if (split := split_of(text)) is not None:
            found.setdefault((split, fold_of(text) or 0), []).append(text)
    for split, fold in [key for key in found if key[0] == 'val']:
        validation = found.pop((split, fold))
        found.setdefault(('test', fold), validation)  # MAE-DFER's val.csv repeats its test.csv
    return found


# ---------------------------------------------------------------- checks


def read_marker(root: Path) -> dict[str, Any] | None:
    """What tools/make_synthetic.py left in a tree it rendered: its own numbers of clips.

    Raises:
        DFERError: It cannot be read.
    """
    path = root / MARKER
    if not path.is_file():
        return None
    try:
        marker = json.loads(path.read_text(encoding='utf-8'))
        if not isinstance(marker['counts'], dict):
            raise TypeError('counts')
    except (ValueError, KeyError, TypeError):
        raise DFERError(
            f'{path}: is not what tools/make_synthetic.py wrote; make it anew'
        ) from None
    return marker


def index_clips(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Path by clip.

    Raises:
        DFERError: A clip lies in two places.
    """
    paths: dict[str, str] = {}
    for clip, path in pairs:
        if paths.setdefault(clip, path) != path:
            raise DFERError(
                f'{path}: clip {clip} lies in {paths[clip]} too; remove one, '
                'or say which folder is meant with data_prefix'
            )
    return paths


def check_unique(listed: Sequence[Listed]) -> None:
    """Raises DFERError where a clip is listed twice."""
    seen: dict[str, Listed] = {}
    for clip in listed:
        if seen.setdefault(clip.clip, clip) is not clip:
            raise DFERError(
                f'{clip.source}: clip {clip.clip} is listed before, at {seen[clip.clip].source}; '
                'unpack the file again'
            )


def check_agreement(read: dict[tuple[str, int], list[Listed]]) -> None:
    """Compares the label files of all splits and folds with one another.

    Args:
        read: (split, fold) -> clips.

    Raises:
        DFERError: A clip has two labels, is twice in one set, in the training and the test set of
            a fold, in two test sets, or in one fold but not in another.
    """
    labels: dict[str, Listed] = {}
    for listed in read.values():
        check_unique(listed)
        for clip in listed:
            other = labels.setdefault(clip.clip, clip)
            if other.label != clip.label:
                raise DFERError(
                    f'{clip.source}: clip {clip.clip} has label {clip.label}, but {other.label} at '
                    f'{other.source} (both counted from 0); unpack the files again'
                )
    tested: dict[str, Listed] = {}
    for (split, _), listed in read.items():
        for clip in listed if split == 'test' else ():
            if tested.setdefault(clip.clip, clip) is not clip:
                raise DFERError(
                    f'{clip.source}: clip {clip.clip} is in another test set too, at '
                    f'{tested[clip.clip].source}; unpack the files again'
                )
    for fold in sorted({fold for _, fold in read}):
        train, test = (read.get((split, fold)) for split in ('train', 'test'))
        if train is not None and test is not None:
            _check_fold(train, test, labels)


def _check_fold(train: list[Listed], test: list[Listed], labels: dict[str, Listed]) -> None:
    here = {clip.clip: clip for clip in train}
    for clip in test:
        if clip.clip in here:
            raise DFERError(
                f'{clip.source}: clip {clip.clip} is tested on and trained on, at '
                f'{here[clip.clip].source}; unpack the files again'
            )
    here |= {clip.clip: clip for clip in test}
    for name, clip in labels.items():
        if name not in here:
            raise DFERError(
                f'{clip.source}: clip {name} is in this fold, but in neither part of another, '
                f'{train[0].source.rpartition(":")[0]} and {test[0].source.rpartition(":")[0]}; '
                'unpack the files again'
            )
