"""Where a dataset's label files, pictures and videos lie below the folder that a user names.

Downloads are unpacked in many ways: in parts, one folder too deep, renamed. A folder of clips is
known by what is in it, and a label file by the words and numbers of its path. Two candidates that
could both be meant are an error: which one is read would change the figures.
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
# clip_224x224_part_3, part1, clip_224x224-002 (as Google Drive splits archives)
_PART = re.compile(r'([_-]?part[_-]?\d+(-\d+)*|-\d{3})$', re.IGNORECASE)
_SIXTEEN = re.compile(r'16f|16frames|[_x]16$', re.IGNORECASE)


@dataclass
class Folder:
    """A folder that holds clips: subfolders of pictures, or videos, named by number.

    Attributes:
        path: Below the root, with ``/``.
        media: One of ``MEDIA``.
        clips: Number of the clip -> path of its folder or video.
    """

    path: str
    media: str
    clips: dict[str, str] = field(repr=False)


@dataclass
class Disk:
    """What lies below a root.

    Attributes:
        root: The folder.
        lists: Label files and other texts and tables, by path below the root.
        folders: Folders of clips.
    """

    root: Path
    lists: list[str]
    folders: list[Folder]


def look(root: str | os.PathLike) -> Disk:
    """Looks through a root, six folders deep; hidden files and folders are passed over.

    Raises:
        DFERError: There is no such folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise DFERError(
            f'{root}: no such folder; give the folder that holds the dataset, in training with '
            '--cfg-options data_root=DIR, or the folder above it as the environment variable '
            'MMDFER_DATA (docs/datasets.md shows what lies where)'
        )
    disk = Disk(root, [], [])
    _look_into(disk, '', _DEPTH)
    disk.lists.sort()
    disk.folders.sort(key=lambda folder: folder.path)
    return disk


def _look_into(disk: Disk, path: str, depth: int) -> None:
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
    """What folders that are parts of one have in common.

    ``clip_224x224/clip_224x224_part_3`` and ``clip_224x224`` are both of ``clip_224x224``.
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
    """The folders of one kind of media: of the only group of that kind, or those under ``prefix``.

    Args:
        disk: Where they were found.
        folders: Those to choose from; ``path`` is that of the clips' common root.
        media: One of ``MEDIA``.
        prefix: A path below the root that the user gave.

    Raises:
        DFERError: There is none, or more than one group.
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
                f'{disk.root / prefix}: holds no {kind} of clips; {_listing(folders)}; '
                'correct data_prefix'
            )
        return found
    found = [f for f in folders if f.media == media]
    groups = {strip_parts(f.path).lower(): strip_parts(f.path) for f in found}
    if not groups:
        raise DFERError(
            f'{disk.root}: holds no {media} of clips; {_listing(folders)}; unpack them '
            '(docs/datasets.md shows where), or choose other media'
        )
    if len(groups) > 1:
        key = 'video' if media == 'videos' else 'img'
        raise DFERError(
            f'{disk.root}: more than one folder holds {media}: {", ".join(groups.values())}; '
            f'say which one is meant with data_prefix=dict({key}=...)'
        )
    return found


def _listing(folders: Sequence[Folder]) -> str:
    if not folders:
        return 'no folder of numbered clips was found'
    seen = [f'{len(f.clips)} {f.media} in {f.path or "."}' for f in folders]
    return 'found are ' + ', '.join(seen[:5]) + (', ...' if len(seen) > 5 else '')


# ---------------------------------------------------------------- label files

# Longest first: "trainset_1" is a fold of "train".
_FOLD = re.compile(r'(?:set|split|fold|fd)[_-]?0*(\d)(?!\d)', re.IGNORECASE)
_SPLIT = re.compile(r'(train|test|validate|val)', re.IGNORECASE)


def parse_split(path: str) -> str | None:
    """The split that a path names, its last word first: 'train', 'test', 'val' or None."""
    for name in _nearest_first(path):
        if found := _SPLIT.findall(name):
            return {'validate': 'val'}.get(word := found[-1].lower(), word)
    return None


def parse_fold(path: str) -> int | None:
    """The fold that a path names, as in set_3, split03 or single_trainset_3."""
    for name in _nearest_first(path):
        if found := _FOLD.findall(name):
            return int(found[-1])
    return None


def _nearest_first(path: str) -> Iterator[str]:
    """The names of a path, last first; of the file without its suffix."""
    names = path.split('/')
    names[-1] = names[-1].rsplit('.', 1)[0]
    # "train(single-labeled)" is about a split; "Train & Test Set" and "EmoLabel_DataSplit" are not.
    return (n for n in reversed(names) if not re.search(r'train.*test|datasplit', n, re.IGNORECASE))


def choose_list(disk: Disk, candidates: Sequence[str], what: str) -> Path:
    """The only one of ``candidates``.

    Raises:
        DFERError: There is none, or more than one.
    """
    if not candidates:
        raise DFERError(
            f'{disk.root}: no label file for {what}; unpack it (docs/datasets.md shows where), '
            'or name one with ann_file'
        )
    if len(candidates) > 1:
        raise DFERError(
            f'{disk.root}: more than one label file for {what}: {", ".join(candidates)}; '
            'say which one is meant with ann_file'
        )
    return disk.root / candidates[0]
