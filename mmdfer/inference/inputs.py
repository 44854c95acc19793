"""Find the films that a command line names, and read lists of clips and boxes."""

from __future__ import annotations

import csv
import glob
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmdfer.datasets.transforms.frame_reader import list_frames
from mmdfer.errors import DFERError
from mmdfer.faces import Box

_VIDEO = re.compile(r'\.(3gp|avi|flv|m4v|mkv|mov|mp4|mpe?g|mts|ts|webm|wmv)', re.IGNORECASE)


def find_films(inputs: Sequence[str]) -> list[str]:
    """Return the films that inputs name.

    A pattern, such as ``films/*.mp4``, is replaced by the files that match it, and a folder of
    videos by its videos. Everything else is returned unchanged: files, folders of frames, numbers
    of cameras, and paths that do not exist.

    Args:
        inputs: Paths, patterns and camera numbers.

    Raises:
        DFERError: If a pattern matches no file.
    """
    found: list[str] = []
    for text in inputs:
        if glob.has_magic(text) and not _exists(text):
            matches = sorted(glob.glob(text, recursive=True))
            if not matches:
                raise DFERError(f'{text}: no file matches this pattern; correct it')
            found += matches
        else:
            found += _list_videos(Path(text)) or [text]
    return found


def choose_name(stem: str, taken: set[str]) -> str:
    """Return a name for the files of a film that no other film has, and add it to ``taken``.

    Args:
        stem: The name to begin with. A number is added if it is taken.
        taken: The names of the other films in lower case, because some file systems ignore case.
    """
    number, name = 1, stem
    while name.lower() in taken:
        number += 1
        name = f'{stem}_{number}'
    taken.add(name.lower())
    return name


def _exists(path: str) -> bool:
    """Return whether a path exists. A loop of symbolic links does not exist."""
    try:
        return Path(path).exists()
    except OSError:
        return False


def _list_videos(folder: Path) -> list[str]:
    """Return the paths of the videos of a folder without pictures, or an empty list."""
    try:
        if not folder.is_dir() or list_frames(folder):
            return []
        return [str(p) for p in sorted(folder.iterdir()) if _VIDEO.fullmatch(p.suffix)]
    except OSError:
        return []


def read_clip_list(path: Path) -> list[str]:
    """Read the paths of clips from a CSV file with a column ``clip``.

    This is the file that :class:`mmdfer.datasets.CSVDataset` reads; it needs no labels here.

    Args:
        path: The file. Clips are relative to its folder, or absolute.

    Raises:
        DFERError: If the file cannot be read, has no column ``clip``, or lists no clip.
    """
    rows = list(_read_rows(path))
    if rows and 'clip' not in rows[0]:
        raise DFERError(
            f'{path}, line 1: the header is {",".join(rows[0])!r}, but must have a column clip'
        )
    clips = [str(path.parent / clip) for row in rows if (clip := (row['clip'] or '').strip())]
    if not clips:
        raise DFERError(f'{path}: the file lists no clip; write the path of one clip in each line')
    return clips


def read_boxes(path: Path) -> list[tuple[float, Box]]:
    """Read the boxes of a face from a CSV file with the columns time, x1, y1, x2 and y2.

    Args:
        path: The file. Times are in seconds, and edges in pixels of the film.

    Returns:
        The times and boxes, in the order of time.

    Raises:
        DFERError: If the file cannot be read, or if a column or a number is missing.
    """
    boxes = []
    for line, row in enumerate(_read_rows(path), 2):
        try:
            x1, y1, x2, y2 = (float(row[key]) for key in ('x1', 'y1', 'x2', 'y2'))
            boxes.append((float(row['time']), (x1, y1, x2, y2)))
        except (KeyError, TypeError, ValueError):
            raise DFERError(
                f'{path}, line {line}: needs a number in each of the columns time, x1, y1, x2, y2'
            ) from None
    if not boxes:
        raise DFERError(f'{path}: the file has no boxes')
    return sorted(boxes)


def _read_rows(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV file by column.

    Raises:
        DFERError: If the file is missing or is not UTF-8 text.
    """
    try:
        text = path.read_text(encoding='utf-8-sig')
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, 'strerror', None) or 'it is not UTF-8 text'
        raise DFERError(f'{path}: cannot be read: {reason}; give a CSV file') from None
    yield from csv.DictReader(text.splitlines(), skipinitialspace=True)
