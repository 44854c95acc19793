"""Read a user's own clips from CSV files."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

from mmaction.registry import DATASETS

from mmdfer.datasets.base import DFERDataset
from mmdfer.errors import DFERError

COLUMNS = ('clip', 'label')
FACES = 'faces.json'  # in which prepare_faces records how it cropped the faces
_SHOWN = 5


@DATASETS.register_module()
class CSVDataset(DFERDataset):
    """Read clips and labels of your own from a folder of this form.

    ::

        data_root/
          classes.txt      one class name per line; the order of the lines is that of the logits
          train.csv        a header "clip,label", then one clip per line
          test.csv
          ...              videos, or folders of frames, which each show one cropped face

    A clip is the path of a video or of a folder of pictures, relative to ``data_root`` or absolute.
    A label is one of the class names. Further columns are ignored.

    Args:
        data_root: Folder of the dataset.
        split: Name of the CSV file without ``.csv``, for example ``'train'``.
        kwargs: Arguments of DFERDataset.

    Raises:
        DFERError: If a file or a column is missing, a label is not among the classes, a clip is
            listed twice, or a clip does not exist.
    """

    def __init__(self, data_root: str = 'data/custom', split: str = 'train', **kwargs: Any) -> None:
        self.root = Path(data_root)
        kwargs.setdefault('metainfo', read_meta(self.root))
        super().__init__(ann_file=str(self.root / f'{split}.csv'), **kwargs)

    @classmethod
    def check_root(cls, data_root: str) -> None:
        """Raise DFERError if ``data_root`` has no usable ``classes.txt``."""
        read_classes(Path(data_root, 'classes.txt'))

    @property
    def source(self) -> dict[str, Any]:
        """Return the folder of the dataset, and how ``prepare_faces`` cropped its faces.

        Two datasets of this class may use the same clip names, and only the folder tells them
        apart.
        """
        crops = _read_crops(self.root / FACES)
        return {**super().source, 'root': str(self.root.resolve()), 'crops': crops}

    def load_data_list(self) -> list[dict[str, Any]]:
        """Return the entry of each line: ``filename``, ``label`` and ``clip``."""
        numbers = {name: number for number, name in enumerate(self.metainfo['classes'])}
        data: dict[str, dict[str, Any]] = {}
        missing = []
        for line, row in read_labels(Path(self.ann_file)):
            clip, label = row['clip'].rstrip('/'), row['label']
            where = f'{self.ann_file}, line {line}'
            if label not in numbers:
                raise DFERError(
                    f'{where}: label {label!r} is not a class of {self.root / "classes.txt"} '
                    f'({", ".join(numbers)}); correct the label, or add the class'
                )
            if clip in data:
                raise DFERError(f'{where}: the clip {clip!r} is listed twice; remove one line')
            path = self.root / clip
            if not path.exists():
                missing.append(f'{clip} (line {line})')
            data[clip] = dict(filename=str(path), label=numbers[label], clip=clip)
        if missing:
            more = ', ...' if len(missing) > _SHOWN else ''
            raise DFERError(
                f'{self.ann_file}: {len(missing)} of {len(data)} clips do not exist in '
                f'{self.root}: {", ".join(missing[:_SHOWN])}{more}; correct the paths, or remove '
                'the lines'
            )
        return list(data.values())


def read_meta(root: Path) -> dict[str, Any]:
    """Return the class names, and the margin and size of the face crops if they are recorded."""
    meta: dict[str, Any] = dict(classes=read_classes(root / 'classes.txt'))
    if (recorded := _read_crops(root / FACES)) is not None:
        meta['face_crop'] = {key: recorded[key] for key in ('margin', 'size')}
    return meta


def _read_crops(path: Path) -> dict[str, Any] | None:
    """Return the settings of ``prepare_faces``, or None if the file does not exist.

    Raises:
        DFERError: If the file is not the record of ``prepare_faces``.
    """
    if not path.is_file():
        return None
    try:
        recorded = json.loads(path.read_text())
    except ValueError:
        recorded = None
    if not isinstance(recorded, dict) or not recorded.keys() >= {'margin', 'size'}:
        raise DFERError(
            f'{path}: is not the record of prepare_faces; delete it, or prepare the dataset again'
        )
    return recorded


def read_classes(path: Path) -> tuple[str, ...]:
    """Return the class names of a text file with one name per line.

    Raises:
        DFERError: If the file cannot be read, names fewer than two classes, or names one twice.
    """
    names = tuple(line.strip() for line in _read_text(path).splitlines() if line.strip())
    if len(names) < 2 or len(set(names)) < len(names):
        raise DFERError(
            f'{path}: {len(names)} class names, {len(set(names))} of them different; '
            'write each of at least two class names on a line of its own'
        )
    return names


def read_labels(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Read a CSV file of clips and labels.

    Returns:
        The number of each line, and its clip and label by the name of the column.

    Raises:
        DFERError: If the file cannot be read, or if a column or a value is missing.
    """
    reader = csv.DictReader(_read_text(path).splitlines(), skipinitialspace=True)
    header = [name.strip() for name in reader.fieldnames or ()]
    if not set(COLUMNS) <= set(header):
        raise DFERError(
            f'{path}, line 1: the header is {",".join(header)!r}, but must have the columns '
            'clip and label'
        )
    reader.fieldnames = header
    rows = []
    for row in reader:
        values = {name: (row[name] or '').strip() for name in COLUMNS}
        if not all(values.values()):
            raise DFERError(f'{path}, line {reader.line_num}: the clip or its label is missing')
        rows.append((reader.line_num, values))
    if not rows:
        raise DFERError(f'{path}: the file lists no clip; write one line "clip,label" for each')
    return rows


def _read_text(path: Path) -> str:
    try:
        # Spreadsheet programs write a byte order mark, which utf-8-sig removes.
        return path.read_text(encoding='utf-8-sig')
    except FileNotFoundError:
        raise DFERError(
            f'{path}: the file does not exist; a dataset of your own has classes.txt, train.csv '
            f'and test.csv in {os.fspath(path.parent)}'
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DFERError(f'{path}: cannot be read as UTF-8 text ({error})') from None
