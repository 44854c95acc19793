"""Read the label files that different authors distribute, in different encodings and formats.

The labels count from 0 in some files and from 1 in others, under the same header. The same number
may also mean different classes in the files of different authors. Therefore every known
interpretation of the numbers is tried on the whole file, and the interpretation that gives the
known number of clips of each class is chosen.
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

from mmdfer.datasets.class_names import WORDS
from mmdfer.errors import DFERError

# Words in the first line that show that the line holds the names of the columns.
_HEADER = re.compile(r'(video|clip|file|path|name|id|image|label|class|emotion)', re.IGNORECASE)
_LABEL = re.compile(r'(label|class|emotion)', re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """Hold one clip of a label file as it is written there.

    Attributes:
        line: Number of the line, counted from 1.
        path: Path or id of the clip. A path may be one on the disk of the file's author.
        label: Label of the clip, a word or a number.
        texts: Columns after the label, which hold captions.
    """

    line: int
    path: str
    label: str
    texts: tuple[str, ...] = ()


def read_text(path: Path) -> str:
    """Read a text file as UTF-16, UTF-8 or GB18030.

    UTF-16 is recognised by its byte order mark. Any other file is decoded as UTF-8 or, if that
    fails, as GB18030, the encoding of MAFW's Chinese captions.

    Returns:
        The text, with a line feed at the end of each line.

    Raises:
        DFERError: If the file is missing, or is text in none of these encodings.
    """
    try:
        content = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise DFERError(f'{path}: no such label file; correct ann_file or data_root') from None
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
        f'{path}:{line}: the line is neither UTF-8 nor GB18030 text; unpack the file again, '
        'or save it as UTF-8'
    )


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a label file with columns that tabs, commas, semicolons or spaces separate.

    A header is skipped if there is one. Lines with spaces have the form ``path label`` or
    ``path number_of_frames label``. They are split from the right, since a path may contain spaces.
    The number of frames is ignored, since it is wrong in many files.

    Raises:
        DFERError: If the file has no row, or a line has another number of columns than the others.
    """
    lines = [(n, line) for n, line in enumerate(read_text(path).split('\n'), 1) if line.strip()]
    if not lines:
        raise DFERError(f'{path}: the file is empty; unpack the file again')
    split = _splitter(lines[0][1])
    rows = [(number, split(line)) for number, line in lines]
    swapped = False
    if _is_header(rows[0][1]):
        swapped = bool(_LABEL.search(rows[0][1][0])) and not _LABEL.search(rows[0][1][-1])
        rows = rows[1:]
        if not rows:
            raise DFERError(f'{path}: the file has a header but no rows; unpack the file again')
    width = Counter(len(fields) for _, fields in rows).most_common(1)[0][0]
    return [_row(path, number, fields, width, swapped) for number, fields in rows]


def read_table(path: Path) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield the line number and the cells of each row that is not empty in an Excel file.

    Only the first sheet of the file is read.

    Raises:
        DFERError: If the file is not an Excel file, or has no rows.
    """
    # Imported here because most label files are text files.
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

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
        raise DFERError(f'{path}: the file has no rows; unpack the file again')


def _splitter(first: str) -> Callable[[str], list[str]]:
    """Return the function that splits a line into columns, chosen by the first line of the file."""
    for delimiter in ('\t', ',', ';'):
        if delimiter in first:
            return lambda line: [f.strip() for f in next(csv.reader([line], delimiter=delimiter))]
    return _split_at_spaces


def _split_at_spaces(line: str) -> list[str]:
    """Split ``path label`` or ``path number label`` into columns; the path may contain spaces."""
    fields = line.strip().rsplit(maxsplit=2)
    if len(fields) == 3 and not fields[1].isdigit():  # the second field belongs to the path
        fields = line.strip().rsplit(maxsplit=1)
    return fields


def _is_header(fields: Sequence[str]) -> bool:
    """Return whether a line holds names of columns.

    It does if its first and its last field contain a known name, and neither contains a digit or a
    character of a path.
    """
    ends = (fields[0], fields[-1])
    plain = not any(any(c.isdigit() or c in '/\\.' for c in end) for end in ends)
    return len(fields) > 1 and plain and all(_HEADER.search(end) for end in ends)


def _row(path: Path, number: int, fields: list[str], width: int, swapped: bool) -> Row:
    """Convert the columns of a line to a Row.

    Args:
        path: Path of the label file, for error messages.
        number: Number of the line.
        fields: The columns of the line.
        width: Number of columns that most lines of the file have.
        swapped: Whether the label is in the first column and the clip in the second one.

    Raises:
        DFERError: If the line does not have that number of columns.
    """
    if len(fields) != width or width < 2 or not all(fields[:2]):
        raise DFERError(
            f'{path}:{number}: {" ".join(fields)!r} does not have {max(width, 2)} columns that '
            'begin with a clip and its label; correct the line, or unpack the file again'
        )
    if swapped:
        return Row(number, fields[1], fields[0])
    if width == 3 and fields[1].isdigit():
        return Row(number, fields[0], fields[2])  # column 1 is a number of frames, often wrong
    return Row(number, fields[0], fields[1], tuple(fields[2:]))


# ---------------------------------------------------------------- interpreting labels


def word_label(path: Path, row: Row, classes: Sequence[str]) -> int:
    """Convert the label of a row from a word to a class index; ``Happy`` means ``happiness``.

    Args:
        path: Path of the label file, for error messages.
        row: The row of the label file.
        classes: Names of the classes of the dataset, in order.

    Raises:
        DFERError: If the word does not name one of the classes.
    """
    word = WORDS.get(row.label.lower())
    if word not in classes:
        raise DFERError(
            f'{path}:{row.line}: the label must be one of {", ".join(classes)}, '
            f'got {row.label!r}; correct the line'
        )
    return classes.index(word)


def parse_numbers(path: Path, rows: Sequence[Row]) -> list[int] | None:
    """Convert the labels of all rows to integers.

    Returns:
        The labels, or None if the labels of the file are words.

    Raises:
        DFERError: If some labels are words and others are numbers.
    """
    numeric = [row.label.isdecimal() for row in rows]
    if not any(numeric):
        return None
    if not all(numeric):
        # The message names the first row of the rarer kind.
        odd = rows[numeric.index(2 * sum(numeric) < len(rows))]
        raise DFERError(
            f'{path}:{odd.line}: the labels mix words and numbers, here {odd.label!r}; '
            'correct the line, or unpack the file again'
        )
    return [int(row.label) for row in rows]


@dataclass(frozen=True)
class Reading:
    """Describe one interpretation of the numbers in a label file as classes.

    Attributes:
        name: Name of the order of classes, for example ``alphabetical``.
        order: Class index in this package that each number means, beginning with the number
            ``base``.
        base: Number of the first class in the label file, 0 or 1.
        none: Number that marks a clip on which the annotators did not agree, or None if the label
            file has no such number.
    """

    name: str
    order: tuple[int, ...]
    base: int
    none: int | None = None

    def fits(self, numbers: set[int]) -> bool:
        """Return whether this interpretation assigns a meaning to every number."""
        known = set(range(self.base, self.base + len(self.order))) | {self.none}
        return numbers <= known

    def label(self, number: int) -> int | None:
        """Convert a number to a class index, or to None if the annotators did not agree."""
        return None if number == self.none else self.order[number - self.base]

    def __str__(self) -> str:
        """Return a description for reports and error messages."""
        return f'{self.name} order counted from {self.base}'


def choose_reading(
    path: Path,
    numbers: Sequence[int],
    readings: Sequence[Reading],
    classes: Sequence[str],
    expected: Sequence[int] | None,
) -> Reading:
    """Choose the interpretation of the numbers in a label file that gives the expected counts.

    If only one interpretation assigns a meaning to every number, it is returned without comparing
    counts. The caller compares them with :func:`check_counts`.

    Args:
        path: Path of the label file, for error messages.
        numbers: The label of each row.
        readings: The interpretations to choose from.
        classes: Names of the classes of the dataset, in order.
        expected: Known number of clips of each class in this label file. None if the numbers are
            unknown.

    Raises:
        DFERError: If no interpretation is possible, or more than one. The message shows the number
            of clips of each class that each interpretation gives.
    """
    fitting = [r for r in readings if r.fits(set(numbers))]
    if not fitting:
        odd = next(n for n in numbers if not any(r.fits({n}) for r in readings))
        raise DFERError(
            f'{path}: every label must be one of {_shown(readings)}, got {odd}; correct the file'
        )
    if len(fitting) == 1:
        return fitting[0]
    counts = {r: count_labels([r.label(n) for n in numbers], len(classes)) for r in fitting}
    left = fitting if expected is None else [r for r in fitting if counts[r] == tuple(expected)]
    # Interpretations that give every clip the same label are equivalent. This happens if the file
    # has clips of few classes.
    if left and len({tuple(map(r.label, sorted(set(numbers)))) for r in left}) == 1:
        return left[0]
    read = '; '.join(f'{r} gives {_named(counts[r], classes)}' for r in left or fitting)
    remedy = 'set class_order (MAFW) or label_base (DFEW)' if left else 'unpack the file again'
    known = '' if expected is None else f', but expected are {_named(expected, classes)}'
    raise DFERError(
        f'{path}: the numbers of the labels are ambiguous or wrong: {read}{known}; {remedy}'
    )


def count_labels(labels: Sequence[int | None], num_classes: int) -> tuple[int, ...]:
    """Count the clips of each class. Labels of None are not counted."""
    found = Counter(labels)
    return tuple(found[label] for label in range(num_classes))


def check_counts(
    path: Path, counts: Sequence[int], expected: Sequence[int], classes: Sequence[str]
) -> None:
    """Check that a label file has as many clips of each class as the release.

    Args:
        path: Path of the label file, for error messages.
        counts: Number of clips of each class in the label file.
        expected: Number of clips of each class in the release, or their sum as the only element.
        classes: Names of the classes, in order.

    Raises:
        DFERError: If the numbers differ.
    """
    if len(expected) == 1:
        counts, classes = [sum(counts)], ['clips']
    if tuple(counts) != tuple(expected):
        wrong = [i for i, (a, b) in enumerate(zip(counts, expected, strict=True)) if a != b]
        differences = ', '.join(f'{classes[i]} {counts[i]} instead of {expected[i]}' for i in wrong)
        raise DFERError(
            f'{path}: the numbers of clips differ from the release: {differences}; unpack the file '
            'again, or set check_counts=False if the file is meant to differ (results are then '
            'not comparable with published ones)'
        )


def _named(counts: Sequence[int], classes: Sequence[str]) -> str:
    """Write the number of clips of each class as text, such as ``anger 12, fear 3``."""
    return ', '.join(f'{name} {count}' for name, count in zip(classes, counts, strict=True))


def _shown(readings: Sequence[Reading]) -> str:
    """Write the range of numbers of each interpretation as text, with its name."""
    return ', '.join(f'{r.base}..{r.base + len(r.order) - 1} ({r})' for r in readings)
