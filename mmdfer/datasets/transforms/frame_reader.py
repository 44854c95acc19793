"""Clips in a pipeline: listing or opening, sampling and decoding them, from folders and videos.

MMAction2's RawframeDataset names frames by a template and so cannot read numbers with gaps, which
DFEW's have (its frames without a face are gone), nor count frames that a list counts wrongly. Its
video decoders give other frames than those asked for from some files (see docs/videos.md).
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mmdfer.errors import UnreadableClipError
from mmdfer.files import FileSystemError, read_patiently

_PICTURE = re.compile(r'(?!\.).*?\d+\.(?:jpe?g|png|bmp)', re.IGNORECASE)
_NUMBERS = re.compile(r'\d+')
# A name that ends in two numbers, as face croppers write them: #_#, frame#_face#.
_PAIR = re.compile(r'(?P<frame>.*#)(?P<face>[_-][A-Za-z]*[_-]?#)')

# What Pillow raises on bytes that are no whole picture.
NO_PICTURE = (
    OSError,
    SyntaxError,
    ValueError,
    IndexError,
    struct.error,
    Image.DecompressionBombError,
)


# ---------------------------------------------------------------- folders


def list_frames(folder: str | os.PathLike) -> list[str]:
    """Return the pictures of a folder, one for each frame, in the order of the frames' numbers.

    The number at the end of a name is the frame's: 2.jpg stands before 10.jpg, 00001_00007.jpg is
    frame 7. Face croppers add a number for the face: in 0012_0.jpg, frame12_face0.jpg and
    face0_frame12.jpg that is 0. Of a frame with several faces only the one with the lowest number
    is returned (0001.jpg before 0001_2.jpg): otherwise the clip would jump between persons.

    Left out are hidden files, other files (Thumbs.db, ``._1.jpg``) and pictures whose name does not
    end in a number.

    Raises:
        FileSystemError: The folder cannot be listed for now.
        OSError: There is no such folder.
    """
    names = read_patiently(lambda: os.listdir(folder), folder)
    stems = {name: name.rpartition('.')[0] for name in names if _PICTURE.fullmatch(name)}
    numbers = {name: [int(n) for n in _NUMBERS.findall(stem)] for name, stem in stems.items()}
    patterns = {_NUMBERS.sub('#', stem) for stem in stems.values()}
    if (faces := _faces(patterns, numbers)) is not None:
        lowest: dict[int, str] = {}
        for name in sorted(faces, key=lambda name: faces[name]):
            lowest.setdefault(faces[name][0], name)
        return list(lowest.values())
    if len(patterns) == 1:
        return sorted(numbers, key=lambda name: (numbers[name], name))
    return sorted(numbers, key=lambda name: (numbers[name][-1], name))


def _faces(patterns: set[str], numbers: dict[str, list[int]]) -> dict[str, tuple[int, int]] | None:
    """Return the frame's and the face's number of each name; None where names number no faces.

    Args:
        patterns: The names without their suffix, each number replaced by ``#``.
        numbers: The numbers of each name.
    """
    pairs = {pattern: match for pattern in patterns if (match := _PAIR.fullmatch(pattern))}
    if len(pairs) != 1:
        return None
    ((pattern, match),) = pairs.items()
    if not patterns <= {pattern, match['frame']}:  # 0001 beside 0001_2 is its first face
        return None
    length = pattern.count('#')
    ends = {name: n[-2:] if len(n) == length else [n[-1], -1] for name, n in numbers.items()}
    first, second = (len({end[place] for end in ends.values()}) for place in (0, 1))
    if 'face' in match['frame'].lower() and 'face' not in match['face'].lower():
        return {name: (frame, face) for name, (face, frame) in ends.items()}
    # With a constant first number, and where the second takes more values, it is the frame's.
    if first == 1 or second > first:
        return None
    return {name: (frame, face) for name, (frame, face) in ends.items()}


def folder_of_frames(path: str) -> str | None:
    """Return the folder that holds a clip's pictures: ``path``, or the one of the same name inside.

    Returns:
        None where there is no picture that has a byte: not the clip's size but its entries count.
    """
    for folder in (path, os.path.join(path, os.path.basename(path))):
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if _PICTURE.fullmatch(entry.name) and entry.stat().st_size > 0:
                        return folder
        except (FileNotFoundError, NotADirectoryError):
            continue
    return None


def read_picture(path: str | os.PathLike) -> np.ndarray:
    """Decode a picture to RGB, uint8 (H, W, 3); of 16 bits a channel, the upper 8.

    Pillow decodes: where a file is cut short, OpenCV fills the rest with grey in most releases. A
    picture is turned as its EXIF tag says; transparency is ignored.

    Raises:
        FileSystemError: The file cannot be read for now; it may be whole.
        OSError, ValueError: Or another of ``NO_PICTURE``, if it is no whole picture.
    """
    content = read_patiently(Path(path).read_bytes, path)
    with Image.open(BytesIO(content)) as picture:
        if picture.mode.startswith('I'):  # grey of 16 bits, which Pillow would cut off at 255
            grey = (np.asarray(picture) >> 8).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=2)
        ImageOps.exif_transpose(picture, in_place=True)
        return np.array(picture if picture.mode == 'RGB' else picture.convert('RGB'))


class FolderReader:
    """Read the pictures of a folder by their place, each at most once.

    Args:
        folder: The folder.

    Attributes:
        unreadable: Names of the pictures that the last ``read`` tried in vain.

    Raises:
        UnreadableClipError: There is no picture in the folder.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder, self.names = os.fspath(folder), list_frames(folder)
        self.unreadable: list[str] = []
        if not self.names:
            raise UnreadableClipError(
                f'{folder}: holds no picture whose name ends in a number; unpack it again'
            )

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.names)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield all pictures in order; for one that cannot be read, the nearest that can."""
        pictures: dict[int, np.ndarray | None] = {}
        for place in range(len(self)):
            yield self._nearest(place, pictures)
            pictures = {p: picture for p, picture in pictures.items() if p >= place}

    def read(self, places: Sequence[int]) -> list[np.ndarray]:
        """Return the pictures at some places.

        The nearest readable picture takes the place of one that is not, of two equally near the
        earlier.

        Args:
            places: Each in 0..len - 1, in any order.

        Returns:
            RGB uint8 (H, W, 3) for each.

        Raises:
            UnreadableClipError: No picture of the folder can be read.
        """
        self.unreadable = []
        pictures: dict[int, np.ndarray | None] = {}
        return [self._nearest(int(place), pictures) for place in places]

    def _nearest(self, place: int, pictures: dict[int, np.ndarray | None]) -> np.ndarray:
        for distance in range(len(self)):
            for i in dict.fromkeys((place - distance, place + distance)):
                if 0 <= i < len(self) and (picture := self._read(i, pictures)) is not None:
                    return picture
        raise UnreadableClipError(
            f'{self.folder}: none of its {len(self)} pictures can be read; unpack it again'
        )

    def _read(self, place: int, pictures: dict[int, np.ndarray | None]) -> np.ndarray | None:
        if place not in pictures:
            try:
                pictures[place] = read_picture(Path(self.folder, self.names[place]))
            except NO_PICTURE as error:
                if isinstance(error, FileSystemError):
                    raise
                pictures[place] = None
                self.unreadable.append(self.names[place])
        return pictures[place]
