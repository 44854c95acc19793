"""Whether a video file reaches to the end that its container declares.

FFmpeg reads what is left of a file that was cut or overwritten and only logs a message: such a clip
would be shorter than it was, without an error. MP4 and MOV, Matroska and WebM, AVI, GIF and MPEG-TS
say in their own structure where they end, so the structure is followed here, from one length to the
next; the pictures themselves are not read. Of other containers nothing is known.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import BinaryIO

# Boxes at the top level of ISO base media files (ISO/IEC 14496-12) and of QuickTime's.
_BOXES = frozenset(
    b'ftyp styp moov moof mdat free skip wide pnot udta uuid meta mfra sidx ssix prft emsg'.split()
)
# Elements of Matroska (RFC 9559): children of the Segment, and of a Cluster.
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
_GROUP = 0xA0  # of a block and what belongs to it, as a picture's transparency
_IN_GROUP = frozenset([0xA1, 0xA2, 0x75A1, 0x9B, 0xFA, 0xFB, 0xFD, 0xA4, 0x75A2, 0x8E, 0xC8])
_AVI_CHUNK = re.compile(rb'\d\d(?:dc|db|wb|tx|pc|iv)|ix\d\d|JUNK|LIST|idx1|RIFF', re.DOTALL)


def find_damage(path: str) -> str | None:
    """Return what is wrong with the structure of a video file.

    Args:
        path: The file.

    Returns:
        A few words, or None where the structure is whole or the container is none of those above.

    Raises:
        OSError: The file cannot be opened or read.
    """
    with open(path, 'rb') as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(12)
        if size == 0:
            return 'the file is empty'
        if head[4:8] in _BOXES:
            return _follow(_iso_damage, file, size)
        if head[:4] == b'\x1a\x45\xdf\xa3':
            return _follow(_matroska_damage, file, size)
        if head[:4] == b'RIFF' and head[8:12] == b'AVI ':
            return _follow(_avi_damage, file, size)
        if head[:6] in (b'GIF87a', b'GIF89a'):
            return _follow(_gif_damage, file, size)
        return _ts_damage(file, size) if head[:1] == b'\x47' else None


def _follow(find: Callable[[BinaryIO, int], str | None], file: BinaryIO, size: int) -> str | None:
    file.seek(0)
    try:
        return find(file, size)
    except _EndOfFileError:
        return 'the file is cut short'


class _EndOfFileError(Exception):
    """The file ends inside a header."""


def _take(file: BinaryIO, count: int) -> bytes:
    content = file.read(count)
    if len(content) < count:
        raise _EndOfFileError
    return content


def _iso_damage(file: BinaryIO, size: int) -> str | None:
    """Follow the boxes of MP4 and MOV; other content behind the last, as cameras add, is left."""
    seen: set[bytes] = set()
    place = 0
    while place + 8 <= size:
        file.seek(place)
        length, kind = int.from_bytes(_take(file, 4), 'big'), _take(file, 4)
        if kind not in _BOXES:
            # Boxes that are not known may follow the film, but not a fragment of a fragmented file.
            return 'a part of the file is overwritten' if b'moof' in seen else None
        if length == 1:
            length = int.from_bytes(_take(file, 8), 'big')
        elif length == 0:  # to the end of the file
            length = size - place
        if length < 8 or place + length > size:
            return 'the file is cut short'
        seen.add(kind)
        place += length
    return None


def _matroska_damage(file: BinaryIO, size: int) -> str | None:
    """Follow the elements of Matroska and WebM down to the blocks.

    A browser that records a stream does not know the sizes of the Segment and of Clusters when it
    writes them, and leaves them unknown. Such an element ends where one of a higher level begins.
    """
    place, end, in_segment, cluster_end, group_end = 0, size, False, 0, 0
    while place < end:
        file.seek(place)
        element, length, known, header = _element(file)
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


def _element(file: BinaryIO) -> tuple[int, int, bool, int]:
    """Read the header of an EBML element: its id, its length, whether that is known, its bytes."""
    first = _take(file, 1)
    id_bytes = 9 - first[0].bit_length() if first[0] else 1
    element = int.from_bytes(first + _take(file, id_bytes - 1), 'big')
    first = _take(file, 1)
    length_bytes = 9 - first[0].bit_length() if first[0] else 1
    ones = (1 << 7 * length_bytes) - 1
    length = int.from_bytes(first + _take(file, length_bytes - 1), 'big') & ones
    return element, length, length != ones, id_bytes + length_bytes


def _avi_damage(file: BinaryIO, size: int) -> str | None:
    """Follow the chunks of AVI down to the pictures; a RIFF of size 0 was never closed."""
    place = 0
    while place + 8 <= size:
        file.seek(place)
        kind, length = _take(file, 4), int.from_bytes(_take(file, 4), 'little')
        if kind == b'RIFF' and length == 0:
            return None
        if place + 8 + length > size and (kind == b'RIFF' or _AVI_CHUNK.fullmatch(kind)):
            return 'the file is cut short'
        if kind == b'RIFF' or (kind == b'LIST' and _take(file, 4) in (b'movi', b'rec ')):
            place += 12
        elif _AVI_CHUNK.fullmatch(kind):
            place += 8 + length + length % 2
        else:  # what some writers put there is left, but no chunk is called by zeros
            return 'a part of the file is overwritten' if kind == bytes(4) else None
    return None


def _gif_damage(file: BinaryIO, size: int) -> str | None:
    """Follow the blocks of a GIF to its trailer."""
    screen = _take(file, 13)
    _skip_colours(file, screen[10])
    while True:
        kind = _take(file, 1)
        if kind == b'\x3b':
            return None
        if kind == b'\x21':  # an extension
            _take(file, 1)
        elif kind == b'\x2c':  # a picture
            _skip_colours(file, _take(file, 9)[8])
            _take(file, 1)
        else:
            return 'a part of the file is overwritten'
        while length := _take(file, 1)[0]:
            _take(file, length)


def _skip_colours(file: BinaryIO, flags: int) -> None:
    """Pass over the colour table that the flags of a GIF's screen or picture announce."""
    if flags & 0x80:
        _take(file, 3 * 2 ** ((flags & 7) + 1))


def _ts_damage(file: BinaryIO, size: int) -> str | None:
    """Tell an MPEG transport stream that ends inside one of its packets of 188 bytes."""
    file.seek(188)
    if size > 188 and file.read(1) == b'\x47' and size % 188:
        return 'the file is cut short'
    return None
