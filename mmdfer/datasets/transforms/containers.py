"""Check from the structure of its container whether a video file is complete.

FFmpeg decodes the remaining part of a truncated or overwritten file and only logs a message. The
clip would then silently be shorter than the original. The formats MP4 and MOV, Matroska and WebM,
AVI, GIF and MPEG-TS store the length of each of their parts. This module follows these lengths from
one part to the next, to the end of the file, and does not decode any frame. Files of other formats
are not checked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import BinaryIO

# Types of the top-level boxes of ISO base media files (ISO/IEC 14496-12) and QuickTime files.
_BOXES = frozenset(
    b'ftyp styp moov moof mdat free skip wide pnot udta uuid meta mfra sidx ssix prft emsg'.split()
)
# Ids of Matroska elements (RFC 9559): children of the Segment, of a Cluster and of a BlockGroup.
_SEGMENT = 0x18538067
_CLUSTER = 0x1F43B675
_VOID, _CRC = 0xEC, 0xBF
_IN_SEGMENT = frozenset(
    [
        0x114D9B74,
        0x1549A966,
        0x1654AE6B,
        0x1C53BB6B,
        0x1941A469,
        0x1043A770,
        0x1254C367,
        _VOID,
        _CRC,
    ]
)
_IN_CLUSTER = frozenset([0xE7, 0xA3, 0xAB, 0xA7, 0xAF, 0x5854])
_GROUP = 0xA0  # BlockGroup: a block with its additional data, for example the alpha channel
_IN_GROUP = frozenset([0xA1, 0xA2, 0x75A1, 0x9B, 0xFA, 0xFB, 0xFD, 0xA4, 0x75A2, 0x8E, 0xC8])
_AVI_CHUNK = re.compile(rb'\d\d(?:dc|db|wb|tx|pc|iv)|ix\d\d|JUNK|LIST|idx1|RIFF', re.DOTALL)


def find_damage(path: str) -> str | None:
    """Return a description of the damage in the structure of a video file.

    Args:
        path: Path of the video file.

    Returns:
        A short description, for example ``'the file is cut short'``. None if the structure is
        complete, or if the container is not a format that this module checks.

    Raises:
        OSError: If the file cannot be opened or read.
    """
    with open(path, 'rb') as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(12)
        if size == 0:
            return 'the file is empty'
        if head[4:8] in _BOXES:
            return _check_structure(_find_iso_damage, file, size)
        if head[:4] == b'\x1a\x45\xdf\xa3':
            return _check_structure(_find_matroska_damage, file, size)
        if head[:4] == b'RIFF' and head[8:12] == b'AVI ':
            return _check_structure(_find_avi_damage, file, size)
        if head[:6] in (b'GIF87a', b'GIF89a'):
            return _check_structure(_find_gif_damage, file, size)
        return _find_ts_damage(file, size) if head[:1] == b'\x47' else None


def _check_structure(
    find: Callable[[BinaryIO, int], str | None], file: BinaryIO, size: int
) -> str | None:
    """Return the damage that a format's check finds from the start of the file, or None.

    A file that ends inside a header is cut short.
    """
    file.seek(0)
    try:
        return find(file, size)
    except _EndOfFileError:
        return 'the file is cut short'


class _EndOfFileError(Exception):
    """Signal that the file ends inside a header."""


def _read_exactly(file: BinaryIO, count: int) -> bytes:
    """Read ``count`` bytes, and raise _EndOfFileError if the file has fewer left."""
    content = file.read(count)
    if len(content) < count:
        raise _EndOfFileError
    return content


def _find_iso_damage(file: BinaryIO, size: int) -> str | None:
    """Find damage in an MP4 or MOV file by following its boxes to the end of the file.

    Cameras may append other content after the boxes. The check stops there without an error.
    """
    seen: set[bytes] = set()
    place = 0
    while place + 8 <= size:
        file.seek(place)
        length, kind = int.from_bytes(_read_exactly(file, 4), 'big'), _read_exactly(file, 4)
        if kind not in _BOXES:
            # Unknown boxes may follow the video, but not a fragment (moof) of a fragmented file.
            return 'a part of the file is overwritten' if b'moof' in seen else None
        if length == 1:  # the length is stored in the next 8 bytes
            length = int.from_bytes(_read_exactly(file, 8), 'big')
        elif length == 0:  # the box extends to the end of the file
            length = size - place
        if length < 8 or place + length > size:
            return 'the file is cut short'
        seen.add(kind)
        place += length
    return None


def _find_matroska_damage(file: BinaryIO, size: int) -> str | None:
    """Find damage in a Matroska or WebM file by following its elements down to the blocks.

    A browser that records a stream does not know the sizes of the Segment and of the Clusters when
    the browser writes their headers, so the sizes are marked as unknown. An element of unknown size
    ends where an element of a higher level begins.
    """
    place, end, in_segment, cluster_end, group_end = 0, size, False, 0, 0
    while place < end:
        file.seek(place)
        element, length, known, header = _read_element(file)
        inside = place + header
        if known and inside + length > size:
            return 'the file is cut short'
        if not in_segment:  # the EBML header, then the Segment
            in_segment = element == _SEGMENT
            end = inside + length if in_segment and known else size
            place = inside if in_segment else inside + length
        elif element == _CLUSTER:
            cluster_end = inside + length if known else size
            place = inside
        elif element == _GROUP and place < cluster_end:
            group_end = inside + length
            place = inside
        elif (
            element in _IN_SEGMENT
            or (element in _IN_CLUSTER and place < cluster_end)
            or (element in _IN_GROUP and inside + length <= group_end)
        ):
            place = inside + length
        else:
            return 'a part of the file is overwritten'
    return None


def _read_element(file: BinaryIO) -> tuple[int, int, bool, int]:
    """Read the header of an EBML element.

    Returns:
        The element's id, the length of its content in bytes, whether this length is known, and the
        number of bytes of the header.
    """
    first = _read_exactly(file, 1)
    id_bytes = 9 - first[0].bit_length() if first[0] else 1
    element = int.from_bytes(first + _read_exactly(file, id_bytes - 1), 'big')
    first = _read_exactly(file, 1)
    length_bytes = 9 - first[0].bit_length() if first[0] else 1
    ones = (1 << 7 * length_bytes) - 1
    length = int.from_bytes(first + _read_exactly(file, length_bytes - 1), 'big') & ones
    return element, length, length != ones, id_bytes + length_bytes


def _find_avi_damage(file: BinaryIO, size: int) -> str | None:
    """Find damage in an AVI file by following its chunks down to the frames.

    A RIFF chunk of length 0 means that the writer never closed the file. Such a file is accepted.
    """
    place = 0
    while place + 8 <= size:
        file.seek(place)
        kind, length = _read_exactly(file, 4), int.from_bytes(_read_exactly(file, 4), 'little')
        if kind == b'RIFF' and length == 0:
            return None
        if place + 8 + length > size and (kind == b'RIFF' or _AVI_CHUNK.fullmatch(kind)):
            return 'the file is cut short'
        if kind == b'RIFF' or (kind == b'LIST' and _read_exactly(file, 4) in (b'movi', b'rec ')):
            place += 12
        elif _AVI_CHUNK.fullmatch(kind):
            place += 8 + length + length % 2
        else:  # Some writers add chunks of their own, but no writer names a chunk by four zeros.
            return 'a part of the file is overwritten' if kind == bytes(4) else None
    return None


def _find_gif_damage(file: BinaryIO, size: int) -> str | None:
    """Find damage in a GIF file by following its blocks to the trailer, which marks the end."""
    screen = _read_exactly(file, 13)
    _skip_colours(file, screen[10])
    while True:
        kind = _read_exactly(file, 1)
        if kind == b'\x3b':  # the trailer
            return None
        if kind == b'\x21':  # an extension
            _read_exactly(file, 1)
        elif kind == b'\x2c':  # an image
            _skip_colours(file, _read_exactly(file, 9)[8])
            _read_exactly(file, 1)
        else:
            return 'a part of the file is overwritten'
        while length := _read_exactly(file, 1)[0]:
            _read_exactly(file, length)


def _skip_colours(file: BinaryIO, flags: int) -> None:
    """Skip the colour table of a GIF's screen or image, if its flags announce a table."""
    if flags & 0x80:
        _read_exactly(file, 3 * 2 ** ((flags & 7) + 1))


def _find_ts_damage(file: BinaryIO, size: int) -> str | None:
    """Find out whether an MPEG transport stream ends inside one of its packets of 188 bytes."""
    file.seek(188)
    if size > 188 and file.read(1) == b'\x47' and size % 188:
        return 'the file is cut short'
    return None
