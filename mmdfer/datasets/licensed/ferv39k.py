"""Define the dataset FERV39k: 38,935 clips of 22 scenes, seven classes, a single split.

Wang et al., "FERV39k: A Large-Scale Multi-Scene Dataset for Facial Expression Recognition in
Videos", CVPR 2022. docs/datasets.md describes the layout on disk and known pitfalls.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmaction.registry import DATASETS

from mmdfer.datasets.class_names import WORDS
from mmdfer.datasets.licensed.base import (
    FACE_CROP,
    Listed,
    ListedDataset,
    check_agreement,
    group_lists,
    index_clips,
)
from mmdfer.datasets.licensed.discovery import Disk, Folder, choose_folders, choose_list
from mmdfer.datasets.licensed.label_files import (
    Reading,
    Row,
    check_counts,
    count_labels,
    parse_numbers,
    word_label,
)
from mmdfer.errors import DFERError

# The order of DFEW's classes, which the papers' tables use.
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
# Name of the folder that the release uses for each class.
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
# Examples of file names that other authors use: FERV39K_train.txt, train.csv.
_OTHER = re.compile(r'(^|/)(ferv39k_)?(train|test|val)\.(csv|txt)$', re.IGNORECASE)
_SCENE_LIST = re.compile(r'(^|/)(train|test)_([a-z]+)\.csv$', re.IGNORECASE)


@DATASETS.register_module()
class FERV39k(ListedDataset):
    """Load FERV39k with the label files of the release or of other authors.

    The class of a clip is the emotion in its path, such as ``Sad`` in ``Action/Sad/0010``. The
    label that the label file gives for the clip must agree.

    Args:
        data_root, split, media, ann_file, data_prefix, check_counts: Arguments of ListedDataset.
        scenes: Scenes to read, a list of names out of ``SCENES``. By default, all scenes.
        kwargs: Further arguments of DFERDataset.
    """

    METAINFO = dict(classes=CLASSES, dataset='FERV39k', face_crop=FACE_CROP)
    COUNTS = COUNTS
    FOLDS = 0

    def __init__(self, *args: Any, scenes: Sequence[str] | None = None, **kwargs: Any) -> None:
        unknown = sorted(set(scenes or ()) - set(SCENES))
        if unknown or isinstance(scenes, str) or (scenes is not None and not scenes):
            raise DFERError(
                f'FERV39k: scenes must be a list of names out of {", ".join(SCENES)}, '
                f'got {scenes!r}'
            )
        self.scenes = tuple(SCENES if scenes is None else scenes)
        super().__init__(*args, **kwargs)

    def parse_clip(self, path: str) -> str:
        """Convert ``/any/where/Action/Sad/0010.mp4`` to the clip name ``Action/Sad/0010``."""
        return clip_name(path)

    def find_lists(self, disk: Disk) -> dict[tuple[str, int], list[str]]:
        """Find the label files that list the clips of all scenes together."""
        return group_lists(disk, _OFFICIAL, _OTHER)

    def read_lists(self, disk: Disk) -> list[Listed]:
        """Read the clips of the requested scenes.

        The clips are read from the label file of all scenes. If there is none, they are read from
        the label files of the single scenes.
        """
        if self.ann_file or self.find_lists(disk):
            listed = super().read_lists(disk)
        else:
            for scene in self.scenes:
                texts = self._scene_lists(disk).get((self.split, scene), [])
                choose_list(disk, texts, f'FERV39k {self.split}, {scene}')
            listed = self.read_all(disk)[self.split, 0]
        return [clip for clip in listed if clip.clip.partition('/')[0] in self.scenes]

    def read_all(self, disk: Disk) -> dict[tuple[str, int], list[Listed]]:
        """Return the clips of each split and fold.

        The label files of all scenes together are read or, if there are none, those of each scene.
        """
        if self.find_lists(disk):
            return super().read_all(disk)
        found = self._scene_lists(disk)
        read: dict[tuple[str, int], list[Listed]] = {}
        # The numbers of clips are known for all scenes together, but not for a single scene.
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
        """Find the label files that list a single scene, keyed by split and scene."""
        found: dict[tuple[str, str], list[str]] = {}
        for text in disk.lists:
            if (match := _SCENE_LIST.search(text)) and (scene := _SCENES.get(match[3].lower())):
                found.setdefault((match[2].lower(), scene), []).append(text)
        return found

    def convert_labels(self, path: Path, rows: Sequence[Row], key: str) -> list[int | None]:
        """Return the class index of the emotion in each path, after comparing it with the label.

        Raises:
            DFERError: If the label of a row is another class than the emotion in its path.
        """
        labels = [_path_label(path, row) for row in rows]
        numbers = parse_numbers(path, rows)
        if numbers is None:
            read = 'its label'
            said = [word_label(path, row, CLASSES) for row in rows]
        else:
            read, said = _best_reading(path, rows, numbers, labels)
        for row, label, other in zip(rows, labels, said, strict=True):
            if label != other:
                raise DFERError(
                    f'{path}:{row.line}: {row.path} is {CLASSES[label]} according to its folder, '
                    f'but {CLASSES[other]} according to {read}, {row.label!r}; '
                    'unpack the file again'
                )
        self.readings[path] = f'the emotion in each path, confirmed by {read}'
        return list(labels)

    def find_clips(self, disk: Disk) -> dict[str, str]:
        """Return the path of the folder or video of each clip on disk, keyed by clip name."""
        found = [folder for f in disk.folders if (folder := self._by_name(f)) is not None]
        folders = choose_folders(disk, found, self.media, self.prefix)
        return index_clips(pair for folder in folders for pair in folder.clips.items())

    def _by_name(self, folder: Folder) -> Folder | None:
        """Convert a folder ``ROOT/Action/Sad`` to a folder ``ROOT`` with full clip names.

        Args:
            folder: A folder whose clips are named by number.

        Returns:
            The folder with clips named as in ``Action/Sad/0010``, or None if its path does not end
            in a scene and an emotion.
        """
        root, scene, emotion = [''] * (2 - folder.path.count('/')) + folder.path.rsplit('/', 2)
        if scene.lower() not in _SCENES or WORDS.get(emotion.lower()) not in CLASSES:
            return None
        # 3_ClipsforScenImages has the same subfolders, but its pictures are not cut to the face.
        if self.prefix is None and re.search(r'scene?images', root, re.IGNORECASE):
            return None
        clips = {clip_name(f'{scene}/{emotion}/{n}'): path for n, path in folder.clips.items()}
        return Folder(root, folder.media, clips)


def clip_name(path: str) -> str:
    """Return the end of a path as a clip name ``Scene/Emotion/0010``, in the release's spelling.

    Raises:
        ValueError: If the path does not end in a scene, an emotion and a number.
    """
    parts = re.sub(r'\.\w{2,4}$', '', path).split('/')[-3:]
    if len(parts) == 3:
        scene, emotion = _SCENES.get(parts[0].lower()), WORDS.get(parts[1].lower())
        if scene and emotion in _FOLDERS and re.fullmatch(r'\d{1,4}', parts[2]):
            return f'{scene}/{_FOLDERS[emotion]}/{int(parts[2]):04d}'
    raise ValueError('is not a path like Action/Sad/0010')


def _path_label(path: Path, row: Row) -> int:
    """Return the index of the class that the emotion in a row's path names."""
    return CLASSES.index(WORDS[clip_name(row.path.replace('\\', '/')).split('/')[1].lower()])


def _best_reading(
    path: Path, rows: Sequence[Row], numbers: Sequence[int], labels: Sequence[int]
) -> tuple[str, list[int]]:
    """Find the order of classes in which the numbers of a label file agree best with its paths.

    Args:
        path: Path of the label file, for error messages.
        rows: The rows of the label file.
        numbers: The label of each row, a number.
        labels: The class index of each row according to its path.

    Returns:
        A description of the order, and the class index of each row according to its number.

    Raises:
        DFERError: If a number is not between 0 and 6.
    """
    for row, number in zip(rows, numbers, strict=True):
        if number >= len(CLASSES):
            raise DFERError(
                f'{path}:{row.line}: the label must be between 0 and 6, got {number}; '
                'correct the line'
            )
    said = {str(r): [r.order[n - r.base] for n in numbers] for r in _ORDERS.values()}
    name = max(said, key=lambda n: sum(a == b for a, b in zip(said[n], labels, strict=True)))
    return f'its number in {name}', said[name]
