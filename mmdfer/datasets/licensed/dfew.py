"""Define the dataset DFEW: 11,697 single-labelled clips from films, seven classes, five folds.

Jiang et al., "DFEW: A Large-Scale Database for Recognizing Dynamic Facial Expressions in the Wild",
ACM MM 2020. docs/datasets.md describes the layout on disk and known pitfalls.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mmaction.registry import DATASETS

from mmdfer.datasets.licensed.base import (
    FACE_CROP,
    Listed,
    ListedDataset,
    group_lists,
    parse_clip_number,
)
from mmdfer.datasets.licensed.discovery import Disk
from mmdfer.datasets.licensed.label_files import (
    Reading,
    Row,
    choose_reading,
    parse_numbers,
    read_table,
    word_label,
)
from mmdfer.errors import DFERError

CLASSES = ('happiness', 'sadness', 'neutral', 'anger', 'surprise', 'disgust', 'fear')

# Number of clips of each class in the five folds of the release.
COUNTS: dict[str, Sequence[int]] = {
    'train/1': (1956, 1515, 2135, 1738, 1175, 116, 721),
    'train/2': (1956, 1515, 2135, 1738, 1175, 116, 721),
    'train/3': (1956, 1515, 2135, 1738, 1175, 116, 722),
    'train/4': (1956, 1515, 2135, 1739, 1175, 116, 722),
    'train/5': (1956, 1516, 2136, 1739, 1176, 116, 722),
    'test/1': (489, 379, 534, 435, 294, 29, 181),
    'test/2': (489, 379, 534, 435, 294, 29, 181),
    'test/3': (489, 379, 534, 435, 294, 29, 180),
    'test/4': (489, 379, 534, 434, 294, 29, 180),
    'test/5': (489, 378, 533, 434, 293, 29, 180),
}

_ORDER = tuple(range(len(CLASSES)))
# The release counts classes from 1, and 0 means that the annotators did not agree. Label files of
# other authors have the same header but count from 0.
_FROM_ONE = Reading("DFEW's", _ORDER, base=1, none=0)
_FROM_ZERO = Reading("DFEW's", _ORDER, base=0)

_OFFICIAL = re.compile(
    r'(^|/)(train|test)([\s_(-]*single[-_ ]label(l?ed)?\)?)?/set_[1-5]\.csv$', re.IGNORECASE
)
# Examples of file names that other authors use: train_set_1.csv, DFEW_set_1_train.txt,
# set_1_train.txt, single_trainset_1.csv, split01/train.csv.
_OTHER = re.compile(
    r'(set|split)_?0?[1-5](_(train|test|validate)\.txt|\.csv|/\w+\.csv)$', re.IGNORECASE
)


@DATASETS.register_module()
class DFEW(ListedDataset):
    """Load DFEW with the label files of the release or of other authors.

    Args:
        data_root, split, fold, media, ann_file, data_prefix, check_counts: Arguments of
            ListedDataset.
        label_base: Number of the first class in ``ann_file``, 0 or 1. By default, the number is
            derived from the known numbers of clips.
        soft_labels: Whether the training label of a clip is the share of the annotators' votes for
            each class, a float tensor (7,), instead of a class index. The votes are read from the
            release's ``annotation.xlsx``.
        kwargs: Further arguments of DFERDataset.
    """

    METAINFO = dict(classes=CLASSES, dataset='DFEW', face_crop=FACE_CROP)
    COUNTS = COUNTS
    MEDIA = ('frames', 'frames16', 'videos')

    def __init__(
        self, *args: Any, label_base: int | None = None, soft_labels: bool = False, **kwargs: Any
    ) -> None:
        if label_base not in (None, 0, 1):
            raise DFERError(f'DFEW: label_base must be 0, 1 or None, got {label_base!r}')
        self.label_base, self.soft_labels = label_base, soft_labels
        super().__init__(*args, **kwargs)

    def parse_clip(self, path: str) -> str:
        """Convert ``/any/where/00001``, ``1.mp4`` or ``1`` to the clip name ``00001``."""
        return parse_clip_number(path)

    def find_lists(self, disk: Disk) -> dict[tuple[str, int], list[str]]:
        """Find the label files of the release or, if there are none, those of another author."""
        return group_lists(disk, _OFFICIAL, _OTHER)

    def convert_labels(self, path: Path, rows: Sequence[Row], key: str) -> list[int | None]:
        """Convert labels to class indices, from words or from numbers that count from 1 or 0."""
        numbers = parse_numbers(path, rows)
        if numbers is None:
            self.readings[path] = 'words'
            return [word_label(path, row, CLASSES) for row in rows]
        readings = [r for r in (_FROM_ONE, _FROM_ZERO) if self.label_base in (None, r.base)]
        expected = self.counts.get(key) if self.check_counts else None
        if expected is None and self.label_base is None:
            # The numbers of clips are unknown. A 7 shows that the labels count from 1. A 0 without
            # any 7 shows that the labels count from 0.
            readings = [_FROM_ONE] if 7 in numbers else readings
            readings = [_FROM_ZERO] if 0 in numbers and 7 not in numbers else readings
        reading = choose_reading(path, numbers, readings, CLASSES, expected)
        self.readings[path] = str(reading)
        return [reading.label(number) for number in numbers]

    def read_lists(self, disk: Disk) -> list[Listed]:
        """Read the label files and, for soft labels, the annotators' votes."""
        self.votes = read_votes(disk) if self.soft_labels else {}
        return super().read_lists(disk)

    def more(self, clip: Listed) -> dict[str, Any]:
        """Return the annotators' votes for a clip if ``soft_labels`` is set."""
        if not self.soft_labels:
            return {}
        if clip.clip not in self.votes:
            raise DFERError(
                f'{clip.source}: clip {clip.clip} has no votes in annotation.xlsx; unpack '
                'Annotation/annotation.zip again, or set soft_labels=False'
            )
        return dict(votes=self.votes[clip.clip])

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Return the annotation of a clip; with soft labels, the label is a float tensor (7,)."""
        info = super().get_data_info(idx)
        if self.soft_labels and not self.test_mode:
            # MMAction2 casts lists and arrays to integers, but leaves a tensor unchanged.
            info['label'] = torch.tensor(info['votes'])
        return info


def read_votes(disk: Disk) -> dict[str, list[float]]:
    """Read the annotators' votes from the release's ``annotation.xlsx``.

    The first seven columns hold the votes for DFEW's classes in order, whatever the headers of the
    columns are. The column ``order`` holds the number of the clip, which is not the number of the
    row.

    Returns:
        The share of the votes for each class, as seven numbers that sum to 1, for each clip.

    Raises:
        DFERError: If there is no such file or more than one, or a row cannot be interpreted.
    """
    found = [disk.root / t for t in disk.lists if t.rsplit('/', 1)[-1] == 'annotation.xlsx']
    if len(found) != 1:
        raise DFERError(
            f'{disk.root}: soft_labels=True requires exactly one file annotation.xlsx, found '
            f'{len(found)}; unpack Annotation/annotation.zip once'
        )
    rows = read_table(found[0])
    names = [str(name).strip().lower() for name in next(rows)[1]]
    if 'order' not in names[7:]:
        raise DFERError(
            f'{found[0]}:1: there is no column "order" after seven columns of votes; '
            'unpack the file again'
        )
    votes: dict[str, list[float]] = {}
    for line, row in rows:
        cells, clip = row[:7], row[names.index('order')]
        if not all(isinstance(v, int | float) and v >= 0 for v in cells) or sum(cells) <= 0:
            raise DFERError(
                f'{found[0]}:{line}: {cells} are not seven numbers of votes; unpack the file again'
            )
        if not isinstance(clip, int) or f'{clip:05d}' in votes:
            raise DFERError(
                f'{found[0]}:{line}: order {clip!r} is not a number or occurs in an earlier row; '
                'unpack the file again'
            )
        votes[f'{clip:05d}'] = [vote / sum(cells) for vote in cells]
    return votes
