"""Find the label files, pictures and videos of a dataset below a folder.

Users unpack downloads in many ways: in several parts, one folder too deep, or renamed. Therefore a
folder of clips is recognised by its contents, and a label file by the words and numbers in its
path. If two folders or two label files match, an error is raised, because the choice would change
the results.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmdfer.errors import DFERError

MEDIA = ('frames', 'frames16', 'videos')
_DEPTH = 6
_ID = re.compile(r'\d{1,5}')
_VIDEO = re.compile(r'(\d{1,5})\.(?:mp4|avi|mkv|mov|webm)', re.IGNORECASE)
_LIST = re.compile(r'(?!\.).*\.(?:csv|txt|xlsx)', re.IGNORECASE)
# Matches the ends of clip_224x224_part_3, part1 and, from archives that Google Drive splits,
# clip_224x224-002.
_PART = re.compile(r'([_-]?part[_-]?\d+(-\d+)*|-\d{3})$', re.IGNORECASE)
_SIXTEEN = re.compile(r'16f|16frames|[_x]16$', re.IGNORECASE)


@dataclass
class Folder:
    """Describe a folder that holds clips, as numbered subfolders of pictures or numbered videos.

    Attributes:
        path: Path of the folder relative to the root, with ``/`` between names.
        media: Kind of the clips, one of ``MEDIA``.
        clips: Path of the folder or video of each clip, keyed by the number of the clip as text.
    """

    path: str
    media: str
    clips: dict[str, str] = field(repr=False)


@dataclass
class Disk:
    """Describe the files below the root folder of a dataset.

    Attributes:
        root: The root folder.
        lists: Paths, relative to the root, of the label files and of all other text files and
            tables (``.csv``, ``.txt``, ``.xlsx``).
        folders: The folders of clips.
    """

    root: Path
    lists: list[str]
    folders: list[Folder]


def check_root(root: str | os.PathLike) -> None:
    """Raise DFERError if the root of a dataset is not a folder."""
    if not Path(root).is_dir():
        raise DFERError(
            f'{root}: no such folder; give the folder of the dataset with --cfg-options '
            'data_root=DIR, or set the environment variable MMDFER_DATA to the folder above it '
            '(docs/datasets.md shows the layout)'
        )


def look(root: str | os.PathLike) -> Disk:
    """Search the root folder of a dataset, six levels deep, for tables and folders of clips.

    Hidden files and folders are skipped.

    Raises:
        DFERError: If the root is not a folder.
    """
    check_root(root)
    disk = Disk(Path(root), [], [])
    _look_into(disk, '', _DEPTH)
    disk.lists.sort()
    disk.folders.sort(key=lambda folder: folder.path)
    return disk


def _look_into(disk: Disk, path: str, depth: int) -> None:
    """Add the tables and folders of clips below ``path`` to ``disk``, at most ``depth`` deeper."""
    clips: dict[str, str] = {}
    videos: dict[str, str] = {}
    inside = os.path.join(disk.root, path)
    with os.scandir(inside) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            below = f'{path}/{entry.name}'.lstrip('/')
            if entry.name.startswith('.') or entry.name == '__MACOSX':
                continue
            if entry.is_dir():
                if _ID.fullmatch(entry.name):
                    clips[entry.name] = entry.path
                elif depth > 0:
                    _look_into(disk, below, depth - 1)
            elif match := _VIDEO.fullmatch(entry.name):
                videos[match[1]] = entry.path
            elif _LIST.fullmatch(entry.name):
                disk.lists.append(below)
    if clips:
        media = 'frames16' if _SIXTEEN.search(path) else 'frames'
        disk.folders.append(Folder(path, media, clips))
    if videos:
        disk.folders.append(Folder(path, 'videos', videos))


# ---------------------------------------------------------------- folders of clips


def strip_parts(path: str) -> str:
    """Remove part numbers and repeated names from the path of a folder of clips.

    Folders with the same result are parts of one folder: both ``clip_224x224`` and
    ``clip_224x224/clip_224x224_part_3`` become ``clip_224x224``.
    """
    names: list[str] = []
    for name in path.split('/'):
        name = _PART.sub('', name)
        if name and (not names or names[-1].lower() != name.lower()):
            names.append(name)
    return '/'.join(names)


def choose_folders(
    disk: Disk, folders: Sequence[Folder], media: str, prefix: str | None
) -> list[Folder]:
    """Choose the folders that hold the clips of one kind of media.

    Several folders may be chosen if they are parts of one folder; see :func:`strip_parts`.

    Args:
        disk: The files below the root of the dataset, for error messages.
        folders: The folders to choose from.
        media: Kind of the clips, one of ``MEDIA``.
        prefix: Path relative to the root, given by the user as ``data_prefix``. All folders below
            this path are chosen. None chooses the only folder of this kind of media.

    Raises:
        DFERError: If no folder matches, or if several folders match that are not parts of one
            folder.
    """
    if prefix is not None:
        inside = prefix.strip('/')
        kind = 'videos' if media == 'videos' else 'frames'
        found = [
            f
            for f in folders
            if f.media.startswith(kind) and f'{f.path}/'.startswith(f'{inside}/' if inside else '')
        ]
        if not found:
            raise DFERError(
                f'{disk.root / prefix}: the folder holds no {kind} of clips; {_listing(folders)}; '
                'correct data_prefix'
            )
        return found
    found = [f for f in folders if f.media == media]
    groups = {strip_parts(f.path).lower(): strip_parts(f.path) for f in found}
    if not groups:
        raise DFERError(
            f'{disk.root}: the folder holds no {media} of clips; {_listing(folders)}; unpack the '
            'clips (docs/datasets.md shows where), or set media to another kind'
        )
    if len(groups) > 1:
        key = 'video' if media == 'videos' else 'img'
        raise DFERError(
            f'{disk.root}: more than one folder holds {media}: {", ".join(groups.values())}; '
            f'select one with data_prefix=dict({key}=...)'
        )
    return found


def _listing(folders: Sequence[Folder]) -> str:
    """Describe the folders of clips that were found, for an error message."""
    if not folders:
        return 'no folder of numbered clips was found'
    seen = [f'{len(f.clips)} {f.media} in {f.path or "."}' for f in folders]
    return 'found ' + ', '.join(seen[:5]) + (', ...' if len(seen) > 5 else '')


# ---------------------------------------------------------------- label files

# In _SPLIT, "validate" comes before "val", since the first alternative that matches is taken.
_FOLD = re.compile(r'(?:set|split|fold|fd)[_-]?0*(\d)(?!\d)', re.IGNORECASE)
_SPLIT = re.compile(r'(train|test|validate|val)', re.IGNORECASE)


def parse_split(path: str) -> str | None:
    """Return the split that a path names: 'train', 'test', 'val', or None.

    If the path names several splits, the last one counts.
    """
    for name in _nearest_first(path):
        if found := _SPLIT.findall(name):
            return {'validate': 'val'}.get(word := found[-1].lower(), word)
    return None


def parse_fold(path: str) -> int | None:
    """Return the number of the fold that a path names, or None.

    For example, set_3, split03 and single_trainset_3 name fold 3.
    """
    for name in _nearest_first(path):
        if found := _FOLD.findall(name):
            return int(found[-1])
    return None


def _nearest_first(path: str) -> Iterator[str]:
    """Return the file name of a path without its suffix, then its folders, innermost first."""
    names = path.split('/')
    names[-1] = names[-1].rsplit('.', 1)[0]
    # Unlike "train(single-labeled)", the folders "Train & Test Set" and "EmoLabel_DataSplit" do not
    # name a split.
    return (n for n in reversed(names) if not re.search(r'train.*test|datasplit', n, re.IGNORECASE))


def choose_list(disk: Disk, candidates: Sequence[str], what: str) -> Path:
    """Return the path of the only label file among the candidates.

    Args:
        disk: The files below the root of the dataset.
        candidates: Paths of label files, relative to the root.
        what: Description of the wanted label file, for error messages.

    Raises:
        DFERError: If there is no candidate, or more than one.
    """
    if not candidates:
        raise DFERError(
            f'{disk.root}: no label file for {what}; unpack the label files (docs/datasets.md '
            'shows where), or give a label file with ann_file'
        )
    if len(candidates) > 1:
        raise DFERError(
            f'{disk.root}: more than one label file for {what}: {", ".join(candidates)}; '
            'select one with ann_file'
        )
    return disk.root / candidates[0]
