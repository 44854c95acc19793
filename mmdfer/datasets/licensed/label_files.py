"""Label files of any of the formats in use: their encoding, columns, words and numbers.

The same header stands over labels that count from 0 and from 1, and the same number means another
class in another author's list, so a number is never taken at face value: every way to read it is
tried on the whole file, and the known number of clips of each class decides.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from openpyxl import load_workbook
from openpyxl.utils.exceptions import InvalidFileException

from mmdfer.errors import DFERError

# First lines that are no row: the names of columns.
_HEADER = re.compile(r'(video|clip|file|path|name|id|image|label|class|emotion)', re.IGNORECASE)
_LABEL = re.compile(r'(label|class|emotion)', re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """One clip of a label file.

    Attributes:
        line: Counted from 1.
        path: What the file names the clip by: a path of its author's, or an id.
        label: A word or a number.
        texts: What stands behind the label: captions.
    """

    line: int
    path: str
    label: str
    texts: tuple[str, ...] = ()


def read_text(path: Path) -> str:
    """Decodes a text: UTF-8 and UTF-16 by their marks, else UTF-8, else GB18030 (MAFW's captions).

    Raises:
        DFERError: It is neither, or there is no such file.
    """
    try:
        content = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise DFERError(f'{path}: no such label file; check ann_file and data_root') from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings = ['utf-16']
    else:
        encodings = ['utf-8-sig', 'gb18030']
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b'\n') + 1
            continue
        if '\0' in text:
            line = text[: text.index('\0')].count('\n') + 1
            break
        return text.replace('\r\n', '\n').replace('\r', '\n')
    raise DFERError(
        f'{path}:{line}: is neither UTF-8 nor GB18030 text; unpack the file again, '
        'or save it as UTF-8'
    )


def read_rows(path: Path) -> list[Row]:
    """Reads a label file: by tabs, commas or spaces, with a header or without.

    By spaces it is split from the right, since paths may hold spaces: ``path label``, or
    ``path number_of_frames label``, whose number is not used, since it is often wrong.

    Raises:
        DFERError: A line has not the columns of the others, or the file has no row.
    """
    lines = [(n, line) for n, line in enumerate(read_text(path).split('\n'), 1) if line.strip()]
    if not lines:
        raise DFERError(f'{path}: has no row; unpack the file again')
    split = _splitter(lines[0][1])
    rows = [(number, split(line)) for number, line in lines]
    swapped = False
    if _is_header(rows[0][1]):
        swapped = bool(_LABEL.search(rows[0][1][0])) and not _LABEL.search(rows[0][1][-1])
        rows = rows[1:]
        if not rows:
            raise DFERError(f'{path}: has a header and no row; unpack the file again')
    width = Counter(len(fields) for _, fields in rows).most_common(1)[0][0]
    return [_row(path, number, fields, width, swapped) for number, fields in rows]


def read_table(path: Path) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """The rows of the first sheet of an Excel file, with their lines; empty ones are passed over.

    Raises:
        DFERError: It is no Excel file, or has no row.
    """
    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except (OSError, KeyError, ValueError, BadZipFile, InvalidFileException) as error:
        raise DFERError(
            f'{path}: cannot be read as .xlsx ({error}); unpack the file again'
        ) from None
    rows = enumerate(book.worksheets[0].iter_rows(values_only=True), 1)
    found = False
    for line, row in rows:
        if any(cell is not None for cell in row):
            found = True
            yield line, row
    book.close()
    if not found:
        raise DFERError(f'{path}: has no row; unpack the file again')


def _splitter(first: str) -> Callable[[str], list[str]]:
    """How the lines of a file are split, from its first."""
    for delimiter in ('\t', ',', ';'):
        if delimiter in first:
            return lambda line: [f.strip() for f in next(csv.reader([line], delimiter=delimiter))]
    return _split_at_spaces


def _split_at_spaces(line: str) -> list[str]:
    fields = line.strip().rsplit(maxsplit=2)
    if len(fields) == 3 and not fields[1].isdigit():  # a path with a space, and a label
        fields = line.strip().rsplit(maxsplit=1)
    return fields


def _is_header(fields: Sequence[str]) -> bool:
    """Whether these are names of columns: no number, no path, and known ones at both ends."""
    ends = (fields[0], fields[-1])
    plain = not any(any(c.isdigit() or c in '/\\.' for c in end) for end in ends)
    return len(fields) > 1 and plain and all(_HEADER.search(end) for end in ends)


def _row(path: Path, number: int, fields: list[str], width: int, swapped: bool) -> Row:
    if len(fields) != width or width < 2 or not all(fields[:2]):
        raise DFERError(
            f'{path}:{number}: {" ".join(fields)!r} has not the {max(width, 2)} columns of the '
            'others, a clip and its label first; correct the line or unpack the file again'
        )
    if swapped:
        return Row(number, fields[1], fields[0])
    if width == 3 and fields[1].isdigit():
        return Row(number, fields[0], fields[2])  # the number of frames is not to be trusted
    return Row(number, fields[0], fields[1], tuple(fields[2:]))


# ---------------------------------------------------------------- what the labels mean

#: Words in use for the classes of all datasets.
WORDS = {
    **dict.fromkeys(('happiness', 'happy'), 'happiness'),
    **dict.fromkeys(('sadness', 'sad'), 'sadness'),
    **dict.fromkeys(('anger', 'angry'), 'anger'),
    **{
        word: word
        for word in ('neutral', 'surprise', 'disgust', 'fear')
        + ('contempt', 'anxiety', 'helplessness', 'disappointment')
    },
}


def word_label(path: Path, row: Row, classes: Sequence[str]) -> int:
    """The label that a row's word stands for: ``Happy`` is ``happiness``.

    Raises:
        DFERError: It is none of the classes.
    """
    word = WORDS.get(row.label.lower())
    if word not in classes:
        raise DFERError(
            f'{path}:{row.line}: {row.label!r} is none of {", ".join(classes)}; correct the line'
        )
    return classes.index(word)


def parse_numbers(path: Path, rows: Sequence[Row]) -> list[int] | None:
    """The labels of a file that gives numbers; None of one that gives words.

    Raises:
        DFERError: It gives both.
    """
    numeric = [row.label.isdecimal() for row in rows]
    if not any(numeric):
        return None
    if not all(numeric):
        odd = rows[numeric.index(2 * sum(numeric) < len(rows))]  # of the fewer kind, the first
        raise DFERError(
            f'{path}:{odd.line}: label {odd.label!r} among labels of the other kind, words or '
            'numbers; correct the line or unpack the file again'
        )
    return [int(row.label) for row in rows]


@dataclass(frozen=True)
class Reading:
    """One way to read the numbers of a label file.

    Attributes:
        name: Of the order of classes.
        order: The class that each number stands for, counted from ``base``, as our label.
        base: 0 or 1.
        none: A number that says the clip has no single label.
    """

    name: str
    order: tuple[int, ...]
    base: int
    none: int | None = None

    def fits(self, numbers: set[int]) -> bool:
        """Whether every number means something."""
        known = set(range(self.base, self.base + len(self.order))) | {self.none}
        return numbers <= known

    def label(self, number: int) -> int | None:
        """Our label of a number; None where the clip has no single one."""
        return None if number == self.none else self.order[number - self.base]

    def __str__(self) -> str:
        return f'{self.name} order counted from {self.base}'


def choose_reading(
    path: Path,
    numbers: Sequence[int],
    readings: Sequence[Reading],
    classes: Sequence[str],
    expected: Sequence[int] | None,
) -> Reading:
    """Finds the one way to read a file's numbers.

    Args:
        path: The file.
        numbers: Its labels.
        readings: All the ways there are.
        classes: Names of our labels.
        expected: Known clips of each class in this file. None: unknown, and only one way may then
            be left.

    Raises:
        DFERError: No way or more than one is left; the message shows what each comes to. (The only
            way that fits at all is returned: its counts are compared as any file's are.)
    """
    fitting = [r for r in readings if r.fits(set(numbers))]
    if not fitting:
        odd = next(n for n in numbers if not any(r.fits({n}) for r in readings))
        raise DFERError(f'{path}: label {odd} is none of {_shown(readings)}; correct the file')
    if len(fitting) == 1:
        return fitting[0]
    counts = {r: count_labels([r.label(n) for n in numbers], len(classes)) for r in fitting}
    left = fitting if expected is None else [r for r in fitting if counts[r] == tuple(expected)]
    # Ways that name every clip alike are one: with so few classes the order may not show.
    if left and len({tuple(map(r.label, sorted(set(numbers)))) for r in left}) == 1:
        return left[0]
    read = '; '.join(f'{r} gives {_named(counts[r], classes)}' for r in left or fitting)
    remedy = 'give class_order and label_base' if left else 'unpack the file again'
    known = '' if expected is None else f', where there should be {_named(expected, classes)}'
    raise DFERError(f'{path}: the labels can be read in no single way: {read}{known}; {remedy}')


def count_labels(labels: Sequence[int | None], num_classes: int) -> tuple[int, ...]:
    """Clips of each class; a label of None counts nowhere."""
    found = Counter(labels)
    return tuple(found[label] for label in range(num_classes))


def check_counts(
    path: Path, counts: Sequence[int], expected: Sequence[int], classes: Sequence[str]
) -> None:
    """Compares a file's clips per class with the known ones.

    Args:
        path: The file.
        counts: Clips of each class.
        expected: The same, or one number, their sum.
        classes: Names.

    Raises:
        DFERError: They differ.
    """
    if len(expected) == 1:
        counts, classes = [sum(counts)], ['clips']
    if tuple(counts) != tuple(expected):
        wrong = [i for i, (a, b) in enumerate(zip(counts, expected, strict=True)) if a != b]
        differences = ', '.join(f'{classes[i]} {counts[i]} instead of {expected[i]}' for i in wrong)
        raise DFERError(
            f'{path}: has other numbers of clips than the release: {differences}; unpack it again, '
            'or set check_counts=False if the list is meant to differ (no figure then compares)'
        )


def _named(counts: Sequence[int], classes: Sequence[str]) -> str:
    return ', '.join(f'{name} {count}' for name, count in zip(classes, counts, strict=True))


def _shown(readings: Sequence[Reading]) -> str:
    return ', '.join(f'{r.base}..{r.base + len(r.order) - 1} ({r})' for r in readings)
