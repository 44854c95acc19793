"""FERV39k: 38,935 clips of 22 scenes, seven expressions, one split.

Wang et al., "FERV39k: A Large-Scale Multi-Scene Dataset for Facial Expression Recognition in
Videos", CVPR 2022. Layouts and traps: docs/datasets.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmaction.registry import DATASETS

from mmdfer.datasets.licensed.base import (
    Listed,
    ListedDataset,
    check_agreement,
    group_lists,
    index_clips,
)
from mmdfer.datasets.licensed.discovery import Disk, Folder, choose_folders, choose_list
from mmdfer.datasets.licensed.label_files import (
    WORDS,
    Reading,
    Row,
    check_counts,
    count_labels,
    parse_numbers,
    word_label,
)
from mmdfer.errors import DFERError

# The order of DFEW, in which the papers' tables stand.
CLASSES = ('happiness', 'sadness', 'neutral', 'anger', 'surprise', 'disgust', 'fear')
# fmt: off
SCENES = (
    'Action', 'Argue', 'Business', 'Conflict', 'Contest', 'Crime', 'Crisis', 'DailyLife',
    'ElegantArt', 'Experiment', 'History', 'Interview', 'Liveshow', 'Medicine', 'OfficialEvent',
    'ScholarReport', 'School', 'Social', 'Speech', 'Talkshow', 'Terror', 'War',
)
# fmt: on
COUNTS: dict[str, Sequence[int]] = {
    'train': (5854, 5523, 7790, 5906, 2502, 1833, 1680),
    'test': (1473, 1393, 1958, 1487, 638, 467, 431),
}

_SCENES = {scene.lower(): scene for scene in SCENES}
# The release's folders of emotions, by class.
_FOLDERS = dict(
    zip(CLASSES, ('Happy', 'Sad', 'Neutral', 'Angry', 'Surprise', 'Disgust', 'Fear'), strict=True)
)
_ORDERS = {
    'dfew': Reading("DFEW's", tuple(range(7)), base=0),
    'alphabetical': Reading(
        'alphabetical', tuple(CLASSES.index(name) for name in sorted(CLASSES)), base=0
    ),
}

_OFFICIAL = re.compile(r'(^|/)(train|test)_all\.csv$', re.IGNORECASE)
# FERV39K_train.txt, train.csv
_OTHER = re.compile(r'(^|/)(ferv39k_)?(train|test|val)\.(csv|txt)$', re.IGNORECASE)
_SCENE_LIST = re.compile(r'(^|/)(train|test)_([a-z]+)\.csv$', re.IGNORECASE)


@DATASETS.register_module()
class FERV39k(ListedDataset):
    """FERV39k as released, or by the lists that other authors made of it.

    The class is the folder's word in ``Action/Sad/0010``; what a list says beside it must agree.

    Args:
        data_root, split, media, ann_file, data_prefix, check_counts: As for ListedDataset.
        scenes: Of ``SCENES``, those to read; all by default.
        kwargs: As for DFERDataset.
    """

    METAINFO = dict(classes=CLASSES, dataset='FERV39k')
    COUNTS = COUNTS
    FOLDS = 0

    def __init__(self, *args: Any, scenes: Sequence[str] | None = None, **kwargs: Any) -> None:
        unknown = sorted(set(scenes or ()) - set(SCENES))
        if unknown or isinstance(scenes, str) or (scenes is not None and not scenes):
            raise DFERError(f'FERV39k: scenes={scenes!r} is no list out of {", ".join(SCENES)}')
        self.scenes = tuple(SCENES if scenes is None else scenes)
        super().__init__(*args, **kwargs)

    def parse_clip(self, path: str) -> str:
        """``/any/where/Action/Sad/0010.mp4`` -> ``Action/Sad/0010``."""
        return clip_name(path)

    def find_lists(self, disk: Disk) -> dict[tuple[str, int], list[str]]:
        """The lists of all scenes together."""
        return group_lists(disk, _OFFICIAL, _OTHER)

    def read_lists(self, disk: Disk) -> list[Listed]:
        """The clips of the scenes asked for; from the lists of these where there is no other."""
        if self.ann_file or self.find_lists(disk):
            listed = super().read_lists(disk)
        else:
            for scene in self.scenes:
                texts = self._scene_lists(disk).get((self.split, scene), [])
                choose_list(disk, texts, f'FERV39k {self.split}, {scene}')
            listed = self.read_all(disk)[self.split, 0]
        return [clip for clip in listed if clip.clip.partition('/')[0] in self.scenes]

    def read_all(self, disk: Disk) -> dict[tuple[str, int], list[Listed]]:
        """The lists of all scenes together, or those of one each put together."""
        if self.find_lists(disk):
            return super().read_all(disk)
        found = self._scene_lists(disk)
        read: dict[tuple[str, int], list[Listed]] = {}
        # Apart they have no known numbers of clips; those of all scenes together do.
        check, self.check_counts = self.check_counts, False
        for (split, _), texts in sorted(found.items()):
            if len(texts) == 1:
                listed = self.read_list(disk.root / texts[0], split, 0)
                read.setdefault((split, 0), []).extend(listed)
        self.check_counts = check
        check_agreement(read)
        for split, _ in read:
            if check and all((split, scene) in found for scene in SCENES):
                counts = count_labels([clip.label for clip in read[split, 0]], len(CLASSES))
                where = (disk.root / found[split, SCENES[0]][0]).parent
                check_counts(where, counts, self.counts[split], CLASSES)
        return read

    def _scene_lists(self, disk: Disk) -> dict[tuple[str, str], list[str]]:
        """The label files of one scene each, by split and scene."""
        found: dict[tuple[str, str], list[str]] = {}
        for text in disk.lists:
            if (match := _SCENE_LIST.search(text)) and (scene := _SCENES.get(match[3].lower())):
                found.setdefault((match[2].lower(), scene), []).append(text)
        return found

    def convert_labels(self, path: Path, rows: Sequence[Row], key: str) -> list[int | None]:
        """The word in each path, which the label beside it must confirm."""
        labels = [_path_label(path, row) for row in rows]
        numbers = parse_numbers(path, rows)
        if numbers is None:
            read = 'the label beside it'
            said = [word_label(path, row, CLASSES) for row in rows]
        else:
            read, said = _best_reading(path, rows, numbers, labels)
        for row, label, other in zip(rows, labels, said, strict=True):
            if label != other:
                raise DFERError(
                    f'{path}:{row.line}: {row.path} is {CLASSES[label]} by its folder and '
                    f'{CLASSES[other]} by {read}, {row.label!r}; unpack the file again'
                )
        self.readings[path] = f'the word in each path, and {read}'
        return list(labels)

    def find_clips(self, disk: Disk) -> dict[str, str]:
        """Path of each clip's folder or video, by the clip's name."""
        found = [folder for f in disk.folders if (folder := self._by_name(f)) is not None]
        folders = choose_folders(disk, found, self.media, self.prefix)
        return index_clips(pair for folder in folders for pair in folder.clips.items())

    def _by_name(self, folder: Folder) -> Folder | None:
        """The folder that holds a scene's folder, for a folder of clips of one emotion in it."""
        root, scene, emotion = [''] * (2 - folder.path.count('/')) + folder.path.rsplit('/', 2)
        if scene.lower() not in _SCENES or WORDS.get(emotion.lower()) not in CLASSES:
            return None
        # 3_ClipsforScenImages has the same folders, of whole scenes.
        if self.prefix is None and re.search(r'scene?images', root, re.IGNORECASE):
            return None
        clips = {clip_name(f'{scene}/{emotion}/{n}'): path for n, path in folder.clips.items()}
        return Folder(root, folder.media, clips)


def clip_name(path: str) -> str:
    """``Scene/Emotion/0010``, in the release's spelling.

    Raises:
        ValueError: The path does not end so.
    """
    parts = re.sub(r'\.\w{2,4}$', '', path).split('/')[-3:]
    if len(parts) == 3:
        scene, emotion = _SCENES.get(parts[0].lower()), WORDS.get(parts[1].lower())
        if scene and emotion in _FOLDERS and re.fullmatch(r'\d{1,4}', parts[2]):
            return f'{scene}/{_FOLDERS[emotion]}/{int(parts[2]):04d}'
    raise ValueError('is no path like Action/Sad/0010')


def _path_label(path: Path, row: Row) -> int:
    return CLASSES.index(WORDS[clip_name(row.path.replace('\\', '/')).split('/')[1].lower()])


def _best_reading(
    path: Path, rows: Sequence[Row], numbers: Sequence[int], labels: Sequence[int]
) -> tuple[str, list[int]]:
    """The order of classes that a list's numbers agree with best, and what they say in it."""
    for row, number in zip(rows, numbers, strict=True):
        if number >= len(CLASSES):
            raise DFERError(f'{path}:{row.line}: label {number} is none of 0..6; correct the line')
    said = {str(r): [r.order[n - r.base] for n in numbers] for r in _ORDERS.values()}
    name = max(said, key=lambda n: sum(a == b for a, b in zip(said[n], labels, strict=True)))
    return f'its number in {name}', said[name]
