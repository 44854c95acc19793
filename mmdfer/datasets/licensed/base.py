"""Define ListedDataset, the base class of DFEW, FERV39k and MAFW.

::

    label files     (label_files.py): clip name, label ─┐
                                                        ├─► filename, label, clip
    folders on disk (discovery.py):   clip name, path  ─┘
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
    check_root,
    choose_folders,
    choose_list,
    look,
    parse_fold,
    parse_split,
)
from mmdfer.datasets.licensed.label_files import Row, check_counts, count_labels, read_rows
from mmdfer.datasets.transforms.frame_reader import find_frame_folder
from mmdfer.errors import DFERError

MARKER = 'synthetic.json'
#: How to cut faces from films for a model that was trained on one of the datasets (see
#: `mmdfer.faces.crop_face`). The releases do not say which margin their faces have. So the margin
#: is our choice, that of the synthetic benchmark. 224 is the size of DFEW's pictures.
FACE_CROP = dict(margin=0.12, size=224)
_SHOWN = 20


@dataclass(frozen=True)
class Listed:
    """Hold one clip of a label file after its name and its label were interpreted.

    Attributes:
        clip: Name of the clip within the dataset.
        label: Index of the class in ``METAINFO['classes']``.
        source: Label file and line of the clip, as ``file:line``, for error messages.
        texts: Captions of the clip, if the label file has captions.
    """

    clip: str
    label: int
    source: str
    texts: tuple[str, ...] = ()


class ListedDataset(DFERDataset):
    """Load the clips that the label files of a dataset list, and find their files on disk.

    The dataset searches ``data_root`` for the label files and for the folders of clips. It reads
    the label files of all folds, not only of the requested fold, and checks that they agree:

    - each clip has the same label in all folds,
    - no clip is in both the training split and the test split of a fold,
    - no clip is in the test splits of two folds,
    - all folds hold the same clips,
    - each class has as many clips as in the published release.

    In training, a listed clip that is missing on disk is left out, with a warning.

    A subclass defines how the label files name clips and classes.

    Args:
        data_root: Folder that holds the dataset.
        split: ``train`` or ``test``.
        fold: Number of the cross-validation fold, counted from 1. Ignored if the dataset has no
            folds.
        media: Kind of files to read: ``frames`` for the folders with all pictures of each clip,
            ``frames16`` for the folders with 16 pictures of each clip, or ``videos``.
        ann_file: Path of the label file, absolute or relative to ``data_root``. By default, the
            label file is searched for.
        data_prefix: Folder of the clips relative to ``data_root``, as ``dict(img=...)`` for
            pictures or ``dict(video=...)`` for videos. By default, the folder is searched for.
        check_counts: Whether to check that each class has as many clips as in the release.
        kwargs: Further arguments of DFERDataset.

    Attributes:
        readings: For each label file that was read, a description of how its labels were
            interpreted.

    Raises:
        DFERError: If the label files contradict each other or the release, if a file cannot be
            interpreted, or, in test mode, if a listed clip is missing on disk.
    """

    #: Number of cross-validation folds of the dataset, or 0 if it has a single split.
    FOLDS: ClassVar[int] = 5
    #: The values of ``media`` that the dataset supports.
    MEDIA: ClassVar[Sequence[str]] = ('frames', 'videos')
    #: Number of clips of each class in the release, or their sum as the only element. Keys are
    #: those that `counts_key` returns, by default '<split>/<fold>'.
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
        _check_choice(name, 'split', split, ('train', 'test'))
        _check_choice(name, 'media', media, self.MEDIA)
        if self.FOLDS:
            _check_choice(name, 'fold', fold, range(1, self.FOLDS + 1))
        _check_prefix(name, data_prefix, media)
        self.split, self.fold, self.media = split, fold, media
        self.check_counts = check_counts
        self.readings: dict[Path, str] = {}
        self.prefix = next(iter((data_prefix or {}).values()), None)
        super().__init__(ann_file, data_root=data_root, data_prefix={}, **kwargs)

    @classmethod
    def check_root(cls, data_root: str) -> None:
        """Raise DFERError if ``data_root`` is not a folder."""
        check_root(data_root)

    # ------------------------------------------------------------ what a subclass defines

    def parse_clip(self, path: str) -> str:
        """Convert the path or id with which a label file names a clip to the name of the clip.

        Raises:
            ValueError: If the path does not name a clip of this dataset. The message continues the
                sentence "'<path>' ...".
        """
        raise NotImplementedError

    def convert_labels(self, path: Path, rows: Sequence[Row], key: str) -> list[int | None]:
        """Convert the raw labels of a label file to class indices.

        Args:
            path: Path of the label file, for error messages and as key into ``readings``.
            rows: The rows of the label file.
            key: Key into ``COUNTS`` for the known numbers of clips, for example ``'train/1'``.

        Returns:
            The class index of each row, or None if the annotators of the clip did not agree.
        """
        raise NotImplementedError

    def counts_key(self, split: str, fold: int) -> str:
        """Return the key into ``COUNTS`` of a split and fold, for example ``'train/1'``."""
        return f'{split}/{fold}' if self.FOLDS else split

    def find_lists(self, disk: Disk) -> dict[tuple[str, int], list[str]]:
        """Find the label files of all splits and folds.

        Returns:
            The paths of the label files, relative to the root, for each split and fold. The fold is
            0 in a dataset without folds.
        """
        raise NotImplementedError

    def find_clips(self, disk: Disk) -> dict[str, str]:
        """Return the path of the folder or video of each clip on disk, keyed by clip name."""
        folders = choose_folders(disk, disk.folders, self.media, self.prefix)
        return index_clips((f'{int(n):05d}', path) for f in folders for n, path in f.clips.items())

    # ------------------------------------------------------------ reading

    @property
    def source(self) -> dict[str, Any]:
        """Return the name of the dataset, the kind of media, and ``data_prefix`` if it is given.

        They identify the pictures. ``data_root`` does not belong to them, so that a feature bank
        and a folder of levels can be moved together with the dataset.
        """
        prefix = {} if self.prefix is None else {'prefix': self.prefix.strip('/')}
        return {**super().source, 'media': self.media, **prefix}

    def other_splits(self) -> list[DFERDataset]:
        """Return a dataset of the clips in the other split of this fold.

        Clips of that split that are missing on disk are left out, as in training.

        Returns:
            A list of one dataset. The list is empty if the dataset has no folds, or if ``ann_file``
            was given, because the label file of the other split is then unknown.
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
        """Read the label files, find the clips on disk, and join labels and paths by clip name."""
        disk = look(self.data_root or '.')
        if read_marker(disk.root) is not None:
            self._metainfo['dataset'] = f'synthetic tree like {self._metainfo["dataset"]}'
        return self._join(self.read_lists(disk), self.find_clips(disk))

    @cached_property
    def counts(self) -> dict[str, Sequence[int]]:
        """Return the expected numbers of clips of each class.

        They are those of the release, or, in a folder that tools/make_synthetic.py rendered, those
        that the tool wrote down.
        """
        marker = read_marker(Path(self.data_root or '.'))
        return self.COUNTS if marker is None else marker['counts']

    def read_lists(self, disk: Disk) -> list[Listed]:
        """Read the clips of the requested split and fold, and compare them with all other folds.

        If ``ann_file`` is given, only that label file is read.
        """
        if self.ann_file:
            listed = self.read_list(Path(self.ann_file), self.split, self.fold)
            check_unique(listed)
            return listed
        wanted = self.split, self.fold if self.FOLDS else 0
        what = f'{type(self).__name__} {self.split}' + (f', fold {self.fold}' if self.FOLDS else '')
        choose_list(disk, self.find_lists(disk).get(wanted, []), what)
        return self.read_all(disk)[wanted]

    def read_all(self, disk: Disk) -> dict[tuple[str, int], list[Listed]]:
        """Read the clips of all splits and folds, and check that they agree.

        Splits and folds for which no label file or several label files were found are left out.

        Returns:
            The clips for each split and fold.
        """
        read = {
            key: self.read_list(disk.root / paths[0], *key)
            for key, paths in sorted(self.find_lists(disk).items())
            if len(paths) == 1 and (key[1] > 0) == (self.FOLDS > 0)
        }
        check_agreement(read)
        return read

    def read_list(self, path: Path, split: str, fold: int) -> list[Listed]:
        """Read one label file.

        Args:
            path: Path of the label file.
            split: ``train`` or ``test``.
            fold: Number of the fold, or 0 in a dataset without folds.

        Returns:
            The clips of the label file. Clips on whose label the annotators did not agree are left
            out.

        Raises:
            DFERError: If a line cannot be interpreted, or the numbers of clips are not those of the
                release.
        """
        rows, key = read_rows(path), self.counts_key(split, fold)
        clips = []
        for row in rows:
            try:
                clips.append(self.parse_clip(row.path.replace('\\', '/').rstrip('/')))
            except ValueError as error:
                raise DFERError(
                    f'{path}:{row.line}: {row.path!r} {error}; correct the line '
                    'or unpack the file again'
                ) from None
        labels = self.convert_labels(path, rows, key)
        if self.check_counts and key in self.counts:
            counts = count_labels(labels, len(self.metainfo['classes']))
            check_counts(path, counts, self.counts[key], self.metainfo['classes'])
        return [
            Listed(clip, label, f'{path}:{row.line}', row.texts)
            for clip, label, row in zip(clips, labels, rows, strict=True)
            if label is not None
        ]

    def _join(self, listed: list[Listed], paths: dict[str, str]) -> list[dict[str, Any]]:
        """Return the entries of the listed clips that are on disk, and report the missing ones.

        Args:
            listed: The clips of the label file.
            paths: Path of each clip on disk, keyed by clip name.
        """
        data, missing = [], []
        for clip in listed:
            path = paths.get(clip.clip)
            if path is not None and self.media != 'videos':
                path = find_frame_folder(path)
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
        """Return further annotation entries of a clip, such as captions; by default none."""
        return {}

    def _report_missing(self, missing: list[Listed], total: int) -> None:
        """Raise DFERError or warn, depending on the mode, because listed clips are missing."""
        shown = ', '.join(f'{c.clip} ({Path(c.source).name})' for c in missing[:_SHOWN])
        more = ', ...' if len(missing) > _SHOWN else ''
        message = (
            f'{self.data_root}: {len(missing)} of {total} listed clips have no {self.media} on '
            f'disk: {shown}{more}'
        )
        remedy = 'unpack the missing clips; tools/check_dataset.py lists all of them'
        if self.test_mode or len(missing) == total:
            why = 'testing without them would change the WAR; ' if self.test_mode else ''
            raise DFERError(f'{message}; {why}{remedy}')
        MMLogger.get_current_instance().warning('%s; these clips are left out; %s', message, remedy)


def _check_choice(name: str, argument: str, value: Any, allowed: Iterable[Any]) -> None:
    """Raise DFERError unless the value of an argument is one of the allowed values."""
    allowed = tuple(allowed)
    if value not in allowed:
        choices = ', '.join(map(str, allowed))
        raise DFERError(f'{name}: {argument} must be one of {choices}, got {value!r}')


def _check_prefix(name: str, data_prefix: dict[str, str] | None, media: str) -> None:
    """Raise DFERError unless ``data_prefix`` has no key but the one that belongs to ``media``."""
    key = 'video' if media == 'videos' else 'img'
    if tuple(data_prefix or {}) not in ((), (key,)):
        raise DFERError(
            f'{name}: data_prefix must be dict({key}=...) for media={media!r}, got {data_prefix!r}'
        )


def parse_clip_number(path: str) -> str:
    """Return the number at the end of a path, without its suffix, padded to five digits.

    Raises:
        ValueError: If the last name of the path is not a number of at most five digits.
    """
    name = re.sub(r'\.\w{2,4}$', '', path.rsplit('/', 1)[-1])
    if not name.isdecimal() or len(name) > 5:
        raise ValueError('does not end in the number of a clip')
    return f'{int(name):05d}'


def group_lists(
    disk: Disk, official: re.Pattern[str], other: re.Pattern[str]
) -> dict[tuple[str, int], list[str]]:
    """Group the label files of a dataset by the split and the fold that their paths name.

    Args:
        disk: The files below the root of the dataset.
        official: Pattern for the paths of the release's own label files, relative to the root.
        other: Pattern for the paths of label files that other authors distribute. These files are
            used only if there is no label file of the release.

    Returns:
        The paths of the label files, relative to the root, for each split and fold. The fold is 0
        if the path does not name one. Files of the split ``val`` are returned as ``test`` if there
        is no test file.
    """
    found: dict[tuple[str, int], list[str]] = {}
    texts = [t for t in disk.lists if official.search(t)]
    for text in texts or [t for t in disk.lists if other.search(t)]:
        if (split := parse_split(text)) is not None:
            found.setdefault((split, parse_fold(text) or 0), []).append(text)
    for split, fold in [key for key in found if key[0] == 'val']:
        validation = found.pop((split, fold))
        found.setdefault(('test', fold), validation)  # MAE-DFER's val.csv repeats its test.csv
    return found


# ---------------------------------------------------------------- checks


def read_marker(root: Path) -> dict[str, Any] | None:
    """Read the marker file that tools/make_synthetic.py writes into the folders that it renders.

    Returns:
        The content of the file. Its key ``counts`` holds the numbers of clips, in the format of
        ``ListedDataset.COUNTS``. None if there is no marker file, as in a real dataset.

    Raises:
        DFERError: If the file is damaged.
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
            f'{path}: the file is damaged; render the folder again with tools/make_synthetic.py'
        ) from None
    return marker


def index_clips(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Convert pairs of a clip name and a path to a dictionary.

    Raises:
        DFERError: If a clip has two different paths.
    """
    paths: dict[str, str] = {}
    for clip, path in pairs:
        if paths.setdefault(clip, path) != path:
            raise DFERError(
                f'{path}: clip {clip} is also in {paths[clip]}; remove one of them, or select a '
                'folder with data_prefix'
            )
    return paths


def check_unique(listed: Sequence[Listed]) -> None:
    """Raise DFERError if a clip is listed twice."""
    seen: dict[str, Listed] = {}
    for clip in listed:
        if seen.setdefault(clip.clip, clip) is not clip:
            raise DFERError(
                f'{clip.source}: clip {clip.clip} is already listed at {seen[clip.clip].source}; '
                'unpack the label file again'
            )


def check_agreement(read: dict[tuple[str, int], list[Listed]]) -> None:
    """Check that the label files of all splits and folds agree.

    Args:
        read: The clips for each split and fold.

    Raises:
        DFERError: If a clip has two different labels, is listed twice in one file, is in both the
            training split and the test split of a fold, is in two test splits, or is missing from
            one of the folds.
    """
    labels: dict[str, Listed] = {}
    for listed in read.values():
        check_unique(listed)
        for clip in listed:
            other = labels.setdefault(clip.clip, clip)
            if other.label != clip.label:
                raise DFERError(
                    f'{clip.source}: clip {clip.clip} has label {clip.label}, but {other.label} at '
                    f'{other.source} (both counted from 0); unpack the label files again'
                )
    tested: dict[str, Listed] = {}
    for (split, _), listed in read.items():
        for clip in listed if split == 'test' else ():
            if tested.setdefault(clip.clip, clip) is not clip:
                raise DFERError(
                    f'{clip.source}: clip {clip.clip} is also in the test split of another fold, '
                    f'at {tested[clip.clip].source}; unpack the label files again'
                )
    for fold in sorted({fold for _, fold in read}):
        train, test = (read.get((split, fold)) for split in ('train', 'test'))
        if train is not None and test is not None:
            _check_fold(train, test, labels)


def _check_fold(train: list[Listed], test: list[Listed], labels: dict[str, Listed]) -> None:
    """Check that a fold has each clip exactly once.

    Args:
        train: The training clips of the fold.
        test: The test clips of the fold.
        labels: The clips of all folds, keyed by clip name.

    Raises:
        DFERError: If a clip is in both splits, or a clip of another fold is in neither split.
    """
    here = {clip.clip: clip for clip in train}
    for clip in test:
        if clip.clip in here:
            raise DFERError(
                f'{clip.source}: test clip {clip.clip} is also a training clip, at '
                f'{here[clip.clip].source}; unpack the label files again'
            )
    here |= {clip.clip: clip for clip in test}
    for name, clip in labels.items():
        if name not in here:
            raise DFERError(
                f'{clip.source}: clip {name} is missing from another fold, from both '
                f'{train[0].source.rpartition(":")[0]} and {test[0].source.rpartition(":")[0]}; '
                'unpack the label files again'
            )
