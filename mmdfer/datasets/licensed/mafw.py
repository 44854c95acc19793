"""Define the dataset MAFW: 9,172 clips with one of eleven classes, in five folds.

A second set of folds has compound labels: 8,996 clips that show one or several expressions.

Liu et al., "MAFW: A Large-scale, Multi-modal, Compound Affective Database for Dynamic Facial
Expression Recognition in the Wild", ACM MM 2022. docs/datasets.md describes the layout on disk and
known pitfalls.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine import dist

from mmaction.registry import DATASETS

from mmdfer.datasets.class_names import WORDS
from mmdfer.datasets.licensed.base import (
    FACE_CROP,
    Listed,
    ListedDataset,
    group_lists,
    parse_clip_number,
)
from mmdfer.datasets.licensed.discovery import Disk, look
from mmdfer.datasets.licensed.label_files import (
    Reading,
    Row,
    choose_reading,
    parse_numbers,
    read_rows,
    word_label,
)
from mmdfer.errors import DFERError
from mmdfer.levels import CAPTIONS, write_captions

# The order of classes in the paper and in the release's tables.
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
# For these label files, only the total numbers of training and test clips are known.
_SIZES = {
    'single/with_caption': ((6423, 1611), (6425, 1609), (6429, 1605), (6429, 1605), (6430, 1604)),
    'compound/no_caption': ((7178, 1818), (7187, 1809), (7198, 1798), (7208, 1788), (7213, 1783)),
    # The numbers of folds 1 and 5 are known: they are those without captions minus the neutral
    # clips, as in the single lists. The numbers of the other folds are computed in the same way.
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

# Examples of file names that other authors use: MAFW_set_1_train.txt,
# MAFW_set_1_train_faces.txt, set_1/train.csv, single/split01/train.csv.
_OTHER = re.compile(
    r'(set|split)_?0?[1-5](_(train|test)(_faces)?\.txt|/(train|test|val)\.csv)$', re.IGNORECASE
)


@DATASETS.register_module()
class MAFW(ListedDataset):
    """Load MAFW with the label files of the release or of other authors.

    Args:
        data_root, split, fold, media, ann_file, data_prefix, check_counts: Arguments of
            ListedDataset.
        labels: Kind of labels: ``single`` for one of eleven expressions, or ``compound`` for one of
            43 classes, each a single expression or a combination of several. The folds of the two
            kinds differ: never test a model on a fold of the other kind than it was trained on,
            because its training clips may be among the test clips.
        captions: Whether to use the label files with captions, which have fewer clips and no
            neutral ones. Each entry then holds the English text as ``caption`` and the Chinese text
            as ``caption_zh``.
        levels: Folder of the masks, landmarks and captions that LoadLevels reads (docs/levels.md).
            If it has no ``captions.jsonl``, the English captions of the release are written there.
            Only clips that are not neutral have one, so what a model learns from them needs care
            (docs/methods.md). By default, nothing is written.
        class_order: Order of the classes that the numbers in ``ann_file`` mean: ``official``,
            ``dfew`` or ``alphabetical``. By default, the order is derived from the known numbers of
            clips.
        kwargs: Further arguments of DFERDataset.
    """

    METAINFO = dict(classes=CLASSES, dataset='MAFW', face_crop=FACE_CROP)
    COUNTS = COUNTS
    TEST_CAPTIONS = False  # in the release, only clips that are not neutral have one

    def __init__(
        self,
        *args: Any,
        labels: str = 'single',
        captions: bool = False,
        levels: str | None = None,
        class_order: str | None = None,
        **kwargs: Any,
    ) -> None:
        if labels not in ('single', 'compound'):
            raise DFERError(f"MAFW: labels must be 'single' or 'compound', got {labels!r}")
        if class_order not in (None, *_ORDERS):
            raise DFERError(
                f'MAFW: class_order must be one of {", ".join(_ORDERS)}, got {class_order!r}'
            )
        if labels == 'compound' and kwargs.get('ann_file'):
            raise DFERError(
                "MAFW: labels='compound' requires all ten label files of the release, since they "
                'define the classes together; remove ann_file'
            )
        self.labels, self.captions, self.class_order = labels, captions, class_order
        self.levels = levels
        super().__init__(*args, **kwargs)

    def full_init(self) -> None:
        """Read the label files, and write the captions of the release if they are missing."""
        if self._fully_initialized:
            return
        super().full_init()
        if self.levels is not None:
            if dist.is_main_process():
                self._write_captions(Path(self.levels, CAPTIONS))
            dist.barrier()

    def _write_captions(self, path: Path) -> None:
        """Write the English captions of all clips of the release, unless the file exists.

        The label files of the folds repeat the captions. The first file that lists a clip counts.

        Raises:
            DFERError: If there are no label files with captions.
        """
        if path.exists():
            return
        released = copy.copy(self)
        released.captions, released.readings = True, {}
        released._metainfo = copy.deepcopy(self.METAINFO)
        disk = look(self.data_root or '.')
        captions: dict[str, str] = {}
        for listed in released.read_all(disk).values():
            for clip in listed:
                if text := clip.texts[1].strip():
                    captions.setdefault(clip.clip, text)
        if not captions:
            raise DFERError(
                f'{disk.root}: no label file with captions, from which {path} could be written; '
                f'unpack {released._kind} of the release, or set levels=None and captions=False in '
                'LoadLevels'
            )
        write_captions(path, captions)

    def parse_clip(self, path: str) -> str:
        """Convert ``/any/where/00025`` or ``00025.mp4`` to the clip name ``00025``."""
        return parse_clip_number(path)

    def counts_key(self, split: str, fold: int) -> str:
        """Return the key into ``COUNTS``, for example ``single/no_caption/train/1``."""
        return f'{self._kind}/{split}/{fold}'

    @property
    def _kind(self) -> str:
        """Return the release's folder of the selected label files, such as single/no_caption."""
        return f'{self.labels}/{"with" if self.captions else "no"}_caption'

    def find_lists(self, disk: Disk) -> dict[tuple[str, int], list[str]]:
        """Find the label files of the release or, for single labels, those of another author."""
        kind = re.escape(self._kind)
        official = re.compile(rf'(^|/){kind}(_new)?/set_[1-5]/(train|test)\.txt$', re.IGNORECASE)
        plain = self._kind == 'single/no_caption'
        return group_lists(disk, official, _OTHER if plain else official)

    def read_all(self, disk: Disk) -> dict[tuple[str, int], list[Listed]]:
        """Read the label files of all folds, after setting the classes for compound labels.

        The compound classes are the eleven single expressions, followed by all combinations that
        occur in any fold, in sorted order.
        """
        if self.labels == 'compound':
            paths = [disk.root / p[0] for p in self.find_lists(disk).values() if len(p) == 1]
            found = {_parts(path, row) for path in paths for row in read_rows(path)}
            several = sorted(parts for parts in found if len(parts) > 1)
            names = ('_'.join(CLASSES[i] for i in parts) for parts in several)
            self._metainfo['classes'] = (*CLASSES, *names)
        return super().read_all(disk)

    def convert_labels(self, path: Path, rows: Sequence[Row], key: str) -> list[int | None]:
        """Convert labels to class indices, from words, or from numbers of an unknown class order.

        The order of classes is the one that gives the known number of clips of each class.
        """
        if self.captions and any(len(row.texts) != 2 for row in rows):
            raise DFERError(
                f'{path}: the label file has no captions; set captions=False, or give another file'
            )
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
        """Return the Chinese and the English caption of a clip if ``captions`` is set."""
        return (
            dict(zip(('caption_zh', 'caption'), clip.texts, strict=True)) if self.captions else {}
        )


def _parts(path: Path, row: Row) -> tuple[int, ...]:
    """Split a compound label such as ``anger_disgust`` into indices of MAFW's eleven classes.

    Returns:
        The indices, in ascending order.

    Raises:
        DFERError: If a part of the label does not name an expression, or occurs twice.
    """
    words = [WORDS.get(word.lower()) for word in row.label.split('_')]
    if not set(words) <= set(CLASSES) or len(set(words)) != len(words):
        raise DFERError(
            f'{path}:{row.line}: label {row.label!r} must be one or more of '
            f'{", ".join(CLASSES)}, joined by "_", each at most once; correct the line'
        )
    return tuple(sorted(CLASSES.index(word) for word in words))
