"""MAFW: 9,172 clips of one expression out of eleven, or 8,996 of one or several, five folds.

Liu et al., "MAFW: A Large-scale, Multi-modal, Compound Affective Database for Dynamic Facial
Expression Recognition in the Wild", ACM MM 2022. Layouts and traps: docs/datasets.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmaction.registry import DATASETS

from mmdfer.datasets.licensed.base import Listed, ListedDataset, group_lists, parse_clip_number
from mmdfer.datasets.licensed.discovery import Disk
from mmdfer.datasets.licensed.label_files import (
    WORDS,
    Reading,
    Row,
    choose_reading,
    parse_numbers,
    read_rows,
    word_label,
)
from mmdfer.errors import DFERError

# The order of the paper and of the release's tables.
# fmt: off
CLASSES = (
    'anger', 'disgust', 'fear', 'happiness', 'neutral', 'sadness', 'surprise', 'contempt',
    'anxiety', 'helplessness', 'disappointment',
)
# fmt: on
_TOTALS = (1390, 639, 625, 1242, 1138, 1470, 1072, 236, 916, 262, 182)
_TESTS = {
    1: (278, 128, 125, 249, 228, 294, 215, 48, 184, 53, 37),
    2: (278, 128, 125, 249, 228, 294, 215, 47, 183, 53, 37),
    3: (278, 128, 125, 248, 228, 294, 214, 47, 183, 52, 36),
    4: (278, 128, 125, 248, 227, 294, 214, 47, 183, 52, 36),
    5: (278, 127, 125, 248, 227, 294, 214, 47, 183, 52, 36),
}
# Of the other lists the numbers of clips are known, not those of each class.
_SIZES = {
    'single/with_caption': ((6423, 1611), (6425, 1609), (6429, 1605), (6429, 1605), (6430, 1604)),
    'compound/no_caption': ((7178, 1818), (7187, 1809), (7198, 1798), (7208, 1788), (7213, 1783)),
    # Known are folds 1 and 5: those without captions less the neutral clips, as in the single
    # lists. The others follow in the same way.
    'compound/with_caption': ((6268, 1590), (6277, 1581), (6288, 1570), (6297, 1561), (6302, 1556)),
}
COUNTS: dict[str, Sequence[int]] = {
    **{f'single/no_caption/test/{fold}': test for fold, test in _TESTS.items()},
    **{
        f'single/no_caption/train/{fold}': tuple(a - b for a, b in zip(_TOTALS, test, strict=True))
        for fold, test in _TESTS.items()
    },
    **{
        f'{name}/{split}/{fold}': (sizes[split == 'test'],)
        for name, folds in _SIZES.items()
        for fold, sizes in enumerate(folds, 1)
        for split in ('train', 'test')
    },
}

# fmt: off
_ORDERS = {
    'official': CLASSES,
    'dfew': (
        'happiness', 'sadness', 'neutral', 'anger', 'surprise', 'disgust', 'fear', 'contempt',
        'anxiety', 'helplessness', 'disappointment',
    ),
    'alphabetical': tuple(sorted(CLASSES)),
}
# fmt: on
_READINGS = {
    name: [Reading(name, tuple(map(CLASSES.index, order)), base) for base in (0, 1)]
    for name, order in _ORDERS.items()
}

# MAFW_set_1_train.txt, MAFW_set_1_train_faces.txt, set_1/train.csv, single/split01/train.csv
_OTHER = re.compile(
    r'(set|split)_?0?[1-5](_(train|test)(_faces)?\.txt|/(train|test|val)\.csv)$', re.IGNORECASE
)


@DATASETS.register_module()
class MAFW(ListedDataset):
    """MAFW as released, or by the lists that other authors made of it.

    Args:
        data_root, split, fold, media, ann_file, data_prefix, check_counts: As for ListedDataset.
        labels: ``single``, one of eleven expressions; or ``compound``, one of 43 that are single or
            several at once. The folds of the two do not match: never test one on the other's.
        captions: Whether to read the lists with captions, which hold fewer clips and none that is
            neutral. The English text is then the entry ``caption``, the Chinese ``caption_zh``.
        class_order: What the numbers of ``ann_file`` stand for, ``official``, ``dfew`` or
            ``alphabetical``, where it is not to be found out.
        kwargs: As for DFERDataset.
    """

    METAINFO = dict(classes=CLASSES, dataset='MAFW')
    COUNTS = COUNTS

    def __init__(
        self,
        *args: Any,
        labels: str = 'single',
        captions: bool = False,
        class_order: str | None = None,
        **kwargs: Any,
    ) -> None:
        if labels not in ('single', 'compound'):
            raise DFERError(f'MAFW: labels={labels!r} is none of single, compound')
        if class_order not in (None, *_ORDERS):
            raise DFERError(f'MAFW: class_order={class_order!r} is none of {", ".join(_ORDERS)}')
        if labels == 'compound' and kwargs.get('ann_file'):
            raise DFERError(
                "MAFW: compound labels are known only from the release's ten lists together: "
                'leave ann_file out'
            )
        self.labels, self.captions, self.class_order = labels, captions, class_order
        super().__init__(*args, **kwargs)

    def parse_clip(self, path: str) -> str:
        """``/any/where/00025`` or ``00025.mp4`` -> ``00025``."""
        return parse_clip_number(path)

    def counts_key(self, split: str, fold: int) -> str:
        """As ``single/no_caption/train/1``."""
        return f'{self._kind}/{split}/{fold}'

    @property
    def _kind(self) -> str:
        return f'{self.labels}/{"with" if self.captions else "no"}_caption'

    def find_lists(self, disk: Disk) -> dict[tuple[str, int], list[str]]:
        """The release's where they are; else those of one other author."""
        kind = re.escape(self._kind)
        official = re.compile(rf'(^|/){kind}(_new)?/set_[1-5]/(train|test)\.txt$', re.IGNORECASE)
        plain = self._kind == 'single/no_caption'
        return group_lists(disk, official, _OTHER if plain else official)

    def read_all(self, disk: Disk) -> dict[tuple[str, int], list[Listed]]:
        """Reads the lists; compound classes are all that occur in any fold, single ones first."""
        if self.labels == 'compound':
            paths = [disk.root / p[0] for p in self.find_lists(disk).values() if len(p) == 1]
            found = {_parts(path, row) for path in paths for row in read_rows(path)}
            several = sorted(parts for parts in found if len(parts) > 1)
            names = ('_'.join(CLASSES[i] for i in parts) for parts in several)
            self._metainfo['classes'] = (*CLASSES, *names)
        return super().read_all(disk)

    def convert_labels(self, path: Path, rows: Sequence[Row], key: str) -> list[int | None]:
        """Words where the file has them; else numbers, in the order that fits the known counts."""
        if self.captions and any(len(row.texts) != 2 for row in rows):
            raise DFERError(f'{path}: has no captions; give captions=False or another list')
        if self.labels == 'compound':
            self.readings[path] = 'words'
            classes = self.metainfo['classes']
            return [classes.index('_'.join(CLASSES[i] for i in _parts(path, row))) for row in rows]
        numbers = parse_numbers(path, rows)
        if numbers is None:
            self.readings[path] = 'words'
            return [word_label(path, row, CLASSES) for row in rows]
        orders = _READINGS if self.class_order is None else [self.class_order]
        readings = [reading for name in orders for reading in _READINGS[name]]
        expected = self.counts.get(key) if self.check_counts else None
        reading = choose_reading(path, numbers, readings, CLASSES, expected)
        self.readings[path] = str(reading)
        return [reading.label(number) for number in numbers]

    def more(self, clip: Listed) -> dict[str, Any]:
        """The captions."""
        return (
            dict(zip(('caption_zh', 'caption'), clip.texts, strict=True)) if self.captions else {}
        )


def _parts(path: Path, row: Row) -> tuple[int, ...]:
    """The expressions of a compound label, ``anger_disgust``, in MAFW's order.

    Raises:
        DFERError: One of them is no expression, or is there twice.
    """
    words = [WORDS.get(word.lower()) for word in row.label.split('_')]
    if not set(words) <= set(CLASSES) or len(set(words)) != len(words):
        raise DFERError(
            f'{path}:{row.line}: {row.label!r} is not made of {", ".join(CLASSES)}; '
            'correct the line'
        )
    return tuple(sorted(CLASSES.index(word) for word in words))
