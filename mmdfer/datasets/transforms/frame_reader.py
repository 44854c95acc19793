"""List and read the frames of a clip that is stored as a folder of pictures.

MMAction2's RawframeDataset builds the names of frames from a template. So the numbers must have no
gaps, but the numbers of DFEW have: its frames without a face were removed. RawframeDataset also
takes the number of frames from the label file, where the number may be wrong. Here the folder is
listed instead. Clips that are videos are read by video_reader.py.
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
# A name that ends in two numbers, as face croppers write it: #_# or frame#_face#.
_PAIR = re.compile(r'(?P<frame>.*#)(?P<face>[_-][A-Za-z]*[_-]?#)')

# The errors that Pillow raises if a file is not a complete picture.
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
    """Return the names of a folder's pictures, one for each frame, sorted by frame number.

    The number at the end of a name is the frame number: 2.jpg comes before 10.jpg, and
    00001_00007.jpg is frame 7. Face croppers add a number for the face, which is 0 in 0012_0.jpg,
    frame12_face0.jpg and face0_frame12.jpg. If a frame has several faces, only the face with the
    lowest number is returned (0001.jpg rather than 0001_2.jpg). Otherwise the clip would jump
    between persons.

    Hidden files (``._1.jpg``), files of other types (Thumbs.db) and pictures with a name that does
    not end in a number are left out.

    Args:
        folder: The folder of a clip's pictures.

    Returns:
        File names without the folder.

    Raises:
        FileSystemError: If the file system temporarily fails to list the folder.
        OSError: If the folder does not exist.
    """
    names = read_patiently(lambda: os.listdir(folder), folder)
    stems = {name: name.rpartition('.')[0] for name in names if _PICTURE.fullmatch(name)}
    numbers = {name: [int(n) for n in _NUMBERS.findall(stem)] for name, stem in stems.items()}
    patterns = {_NUMBERS.sub('#', stem) for stem in stems.values()}
    if (faces := _parse_face_numbers(patterns, numbers)) is not None:
        lowest: dict[int, str] = {}
        for name in sorted(faces, key=lambda name: faces[name]):
            lowest.setdefault(faces[name][0], name)
        return list(lowest.values())
    if len(patterns) == 1:
        return sorted(numbers, key=lambda name: (numbers[name], name))
    return sorted(numbers, key=lambda name: (numbers[name][-1], name))


def _parse_face_numbers(
    patterns: set[str], numbers: dict[str, list[int]]
) -> dict[str, tuple[int, int]] | None:
    """Find the frame number and the face number in each name.

    Args:
        patterns: The different forms of the names: without suffix, and with ``#`` for each number.
        numbers: All numbers in each name, by name.

    Returns:
        The pair (frame number, face number) by name, or None if the names contain no face numbers.
        The face number is -1 in a name that has only a frame number.
    """
    pairs = {pattern: match for pattern in patterns if (match := _PAIR.fullmatch(pattern))}
    if len(pairs) != 1:
        return None
    ((pattern, match),) = pairs.items()
    # A name without a face number may occur too: 0001 next to 0001_2 is the first face of frame 1.
    if not patterns <= {pattern, match['frame']}:
        return None
    length = pattern.count('#')
    ends = {name: n[-2:] if len(n) == length else [n[-1], -1] for name, n in numbers.items()}
    first, second = (len({end[place] for end in ends.values()}) for place in (0, 1))
    if 'face' in match['frame'].lower() and 'face' not in match['face'].lower():
        return {name: (frame, face) for name, (face, frame) in ends.items()}
    # If the first number is constant or the second takes more values, the second is the frame
    # number, and the names contain no face number.
    if first == 1 or second > first:
        return None
    return {name: (frame, face) for name, (frame, face) in ends.items()}


def find_frame_folder(path: str) -> str | None:
    """Return the folder with a clip's pictures: ``path``, or the folder of the same name inside.

    The search stops at the first picture that is not empty, so that a folder of many pictures costs
    no more time than a folder of one.

    Args:
        path: The folder in which the clip is expected.

    Returns:
        The folder, or None if neither folder contains a picture that is not empty.
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
    """Decode a picture file to RGB.

    Pillow is used because most releases of OpenCV fill the missing part of a truncated file with
    grey instead of raising an error. The picture is rotated as its EXIF tag says. Transparency is
    ignored. If a channel has 16 bits, the upper 8 bits are returned.

    Args:
        path: Path of the picture file.

    Returns:
        The picture, RGB uint8 (H, W, 3).

    Raises:
        FileSystemError: If the file system temporarily fails to read the file. The file itself may
            be intact.
        OSError: If the file is not a complete picture. Any other error of ``NO_PICTURE``, for
            example ValueError, can be raised for the same reason.
    """
    content = read_patiently(Path(path).read_bytes, path)
    with Image.open(BytesIO(content)) as picture:
        if picture.mode.startswith('I'):  # 16-bit grey, which convert() would clip at 255
            grey = (np.asarray(picture) >> 8).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=2)
        ImageOps.exif_transpose(picture, in_place=True)
        return np.array(picture if picture.mode == 'RGB' else picture.convert('RGB'))


class FolderReader:
    """Read the frames of a clip from a folder of pictures.

    Frame i is picture i of ``list_frames``. One call of ``read`` reads each picture at most once.

    Args:
        folder: The folder of the clip's pictures.

    Attributes:
        unreadable: Names of the pictures that the last call of ``read`` could not decode.

    Raises:
        UnreadableClipError: If the folder contains no picture.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder, self.names = os.fspath(folder), list_frames(folder)
        self.unreadable: list[str] = []
        if not self.names:
            raise UnreadableClipError(
                f'{folder}: holds no picture with a name that ends in a number; unpack the clip '
                'again'
            )

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.names)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield all frames in order, replacing an unreadable frame by the nearest readable one."""
        pictures: dict[int, np.ndarray | None] = {}
        for place in range(len(self)):
            yield self._read_nearest(place, pictures)
            pictures = {p: picture for p, picture in pictures.items() if p >= place}

    def read(self, places: Sequence[int]) -> list[np.ndarray]:
        """Return the frames at the given places.

        A picture that cannot be read is replaced by the nearest readable picture. If two are
        equally near, the earlier one is used.

        Args:
            places: Indices of the frames, each in 0..len - 1, in any order.

        Returns:
            One RGB uint8 array (H, W, 3) for each place.

        Raises:
            UnreadableClipError: If no picture of the folder can be read.
        """
        self.unreadable = []
        pictures: dict[int, np.ndarray | None] = {}
        return [self._read_nearest(int(place), pictures) for place in places]

    def _read_nearest(self, place: int, pictures: dict[int, np.ndarray | None]) -> np.ndarray:
        """Return the readable picture nearest to a place, using and filling the read pictures."""
        for distance in range(len(self)):
            for i in dict.fromkeys((place - distance, place + distance)):
                if 0 <= i < len(self) and (picture := self._read(i, pictures)) is not None:
                    return picture
        raise UnreadableClipError(
            f'{self.folder}: none of its {len(self)} pictures can be read; unpack the clip again'
        )

    def _read(self, place: int, pictures: dict[int, np.ndarray | None]) -> np.ndarray | None:
        """Return the picture at a place, or None if the picture cannot be read."""
        if place not in pictures:
            try:
                pictures[place] = read_picture(Path(self.folder, self.names[place]))
            except NO_PICTURE as error:
                if isinstance(error, FileSystemError):
                    raise
                pictures[place] = None
                self.unreadable.append(self.names[place])
        return pictures[place]
