"""DFEW: 11,697 single-labelled film clips, seven expressions, five folds.

Jiang et al., "DFEW: A Large-Scale Database for Recognizing Dynamic Facial Expressions in the Wild",
ACM MM 2020. Layouts and traps: docs/datasets.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mmaction.registry import DATASETS

from mmdfer.datasets.licensed.base import Listed, ListedDataset, group_lists, parse_clip_number
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

# Clips of each class in the release's five folds.
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
# In the release 0 says that annotators did not agree; copies count from 0 under the same header.
_FROM_ONE = Reading("DFEW's", _ORDER, base=1, none=0)
_FROM_ZERO = Reading("DFEW's", _ORDER, base=0)

_OFFICIAL = re.compile(
    r'(^|/)(train|test)([\s_(-]*single[-_ ]label(l?ed)?\)?)?/set_[1-5]\.csv$', re.IGNORECASE
)
# train_set_1.csv, DFEW_set_1_train.txt, set_1_train.txt, single_trainset_1.csv, split01/train.csv
_OTHER = re.compile(
    r'(set|split)_?0?[1-5](_(train|test|validate)\.txt|\.csv|/\w+\.csv)$', re.IGNORECASE
)


@DATASETS.register_module()
class DFEW(ListedDataset):
    """DFEW as released, or by the lists that other authors made of it.

    Args:
        data_root, split, fold, media, ann_file, data_prefix, check_counts: As for ListedDataset.
        label_base: What the numbers of ``ann_file`` count from, 0 or 1, where it is not to be found
            out.
        soft_labels: In training, the share of the annotators' votes for each class, a float tensor
            (7,), in place of the label; from the release's ``annotation.xlsx``.
        kwargs: As for DFERDataset.
    """

    METAINFO = dict(classes=CLASSES, dataset='DFEW')
    COUNTS = COUNTS
    MEDIA = ('frames', 'frames16', 'videos')

    def __init__(
        self, *args: Any, label_base: int | None = None, soft_labels: bool = False, **kwargs: Any
    ) -> None:
        if label_base not in (None, 0, 1):
            raise DFERError(f'DFEW: label_base={label_base!r} is none of 0, 1, None')
        self.label_base, self.soft_labels = label_base, soft_labels
        super().__init__(*args, **kwargs)

    def parse_clip(self, path: str) -> str:
        """``/any/where/00001``, ``1.mp4`` or ``1`` -> ``00001``."""
        return parse_clip_number(path)

    def find_lists(self, disk: Disk) -> dict[tuple[str, int], list[str]]:
        """The release's where they are; else those of one other author."""
        return group_lists(disk, _OFFICIAL, _OTHER)

    def convert_labels(self, path: Path, rows: Sequence[Row], key: str) -> list[int | None]:
        """Numbers in DFEW's order, counted from 1 or 0; or words."""
        numbers = parse_numbers(path, rows)
        if numbers is None:
            self.readings[path] = 'words'
            return [word_label(path, row, CLASSES) for row in rows]
        readings = [r for r in (_FROM_ONE, _FROM_ZERO) if self.label_base in (None, r.base)]
        expected = self.counts.get(key) if self.check_counts else None
        if expected is None and self.label_base is None:
            # Nothing to compare with: a 7 tells that 1 comes first, a 0 without a 7 that 0 does.
            readings = [_FROM_ONE] if 7 in numbers else readings
            readings = [_FROM_ZERO] if 0 in numbers and 7 not in numbers else readings
        reading = choose_reading(path, numbers, readings, CLASSES, expected)
        self.readings[path] = str(reading)
        return [reading.label(number) for number in numbers]

    def read_lists(self, disk: Disk) -> list[Listed]:
        """Reads the lists, and the votes where they are asked for."""
        self.votes = read_votes(disk) if self.soft_labels else {}
        return super().read_lists(disk)

    def more(self, clip: Listed) -> dict[str, Any]:
        """The votes."""
        if not self.soft_labels:
            return {}
        if clip.clip not in self.votes:
            raise DFERError(f'{clip.source}: clip {clip.clip} has no votes in annotation.xlsx')
        return dict(votes=self.votes[clip.clip])

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """The annotation of a clip; its label a float tensor of votes where asked for."""
        info = super().get_data_info(idx)
        if self.soft_labels and not self.test_mode:
            # MMAction2 casts lists and arrays to integers, and leaves a tensor as it is.
            info['label'] = torch.tensor(info['votes'])
        return info


def read_votes(disk: Disk) -> dict[str, list[float]]:
    """The share of votes for each class, by clip, from the release's ``annotation.xlsx``.

    Its first seven columns are DFEW's classes in order, whatever their headers; the clip's number
    is in the column ``order``, and not the row's.

    Raises:
        DFERError: The file is not there, or a row makes no sense.
    """
    found = [disk.root / t for t in disk.lists if t.rsplit('/', 1)[-1] == 'annotation.xlsx']
    if len(found) != 1:
        raise DFERError(
            f'{disk.root}: soft labels need the one annotation.xlsx of Annotation/annotation.zip; '
            f'there are {len(found)}'
        )
    rows = read_table(found[0])
    names = [str(name).strip().lower() for name in next(rows)[1]]
    if 'order' not in names[7:]:
        raise DFERError(
            f'{found[0]}:1: has no column "order" behind seven of votes; unpack it again'
        )
    votes: dict[str, list[float]] = {}
    for line, row in rows:
        cells, clip = row[:7], row[names.index('order')]
        if not all(isinstance(v, int | float) and v >= 0 for v in cells) or sum(cells) <= 0:
            raise DFERError(f'{found[0]}:{line}: {cells} are no votes; unpack the file again')
        if not isinstance(clip, int) or f'{clip:05d}' in votes:
            raise DFERError(
                f'{found[0]}:{line}: order {clip!r} is no number or was there before; '
                'unpack the file again'
            )
        votes[f'{clip:05d}'] = [vote / sum(cells) for vote in cells]
    return votes
