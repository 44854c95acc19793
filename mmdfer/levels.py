"""Read and write the files of the semantic levels of clips: part masks, landmarks and captions.

A folder of levels has one file for each clip, and one file with the captions of all clips::

    LEVELS/train/00001.npz     part masks and landmarks of the clip train/00001
    LEVELS/captions.jsonl      {"clip": "train/00001", "caption": "a face with lips part"}

docs/levels.md describes the format, which is our choice, so that any other tool can write it. A
file that does not exist means that the clip lacks the level. A file that exists and is damaged is
an error.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from tokenize import TokenError

import numpy as np

from mmdfer.errors import DFERError, first_line
from mmdfer.files import decode_text, read_patiently, write_aside

#: The parts of a face. The values of a mask are indices into this tuple.
PARTS: tuple[str, ...] = (
    'background',
    'hair',
    'neck',
    'clothes',
    'ear',
    'skin',
    'eye',
    'brow',
    'nose',
    'mouth',
    'upper lip',
    'lower lip',
)
NUM_LANDMARKS = 68  # in the layout of iBUG 300-W
CAPTIONS = 'captions.jsonl'

# The errors that zipfile and numpy raise for a file that is not an intact npz file.
_DAMAGED = (
    ValueError,
    EOFError,
    IndexError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TokenError,
    TypeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
# The compressions that numpy writes. Others have errors of their own if the file is damaged.
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_REMEDY = 'write the file again, or delete it to use the clip without masks and landmarks'


@dataclass(frozen=True, eq=False)
class ClipLevels:
    """Hold the part masks and the landmarks of all frames of a clip.

    Attributes:
        size: Height and width (H, W) of the frames in pixels.
        masks: Part masks (T, H, W), uint8 indices into ``PARTS``, or None.
        landmarks: Landmarks (T, 68, 2), float32, as x and y in pixels of the frame, where (0, 0)
            is the centre of the upper left pixel. NaN marks a landmark that was not found. None if
            the clip has no landmarks at all.
        mixed: Whether the frames of the clip have different sizes, of which ``size`` is one.

    Raises:
        ValueError: If an array has another type, shape or range.
    """

    size: tuple[int, int]
    masks: np.ndarray | None = None
    landmarks: np.ndarray | None = None
    mixed: bool = False

    def __post_init__(self) -> None:
        """Check the arrays."""
        if self.masks is None and self.landmarks is None:
            raise ValueError('it has neither the array masks nor the array landmarks')
        if self.masks is not None:
            _check_masks(self.masks, self.size)
        if self.landmarks is not None:
            _check_landmarks(self.landmarks)
        if len(lengths := self._lengths()) == 2 and lengths[0] != lengths[1]:
            raise ValueError(f'masks has {lengths[0]} frames and landmarks {lengths[1]}')

    def __len__(self) -> int:
        """Return the number of frames T."""
        return self._lengths()[0]

    def _lengths(self) -> list[int]:
        """Return the number of frames of each array that is not None."""
        return [len(array) for array in (self.masks, self.landmarks) if array is not None]


def _check_masks(masks: np.ndarray, size: tuple[int, int]) -> None:
    """Raise ValueError unless the masks have the type, the shape and the range of the format."""
    if masks.dtype != np.uint8 or masks.ndim != 3 or not len(masks):
        raise ValueError(f'masks is {_describe(masks)}, but must be uint8 (T, H, W)')
    if masks.shape[1:] != size:
        raise ValueError(f'masks is {_describe(masks)}, but size is {size[0]} x {size[1]}')
    if masks.max() >= len(PARTS):
        raise ValueError(f'masks has the part {masks.max()}, but parts are 0..{len(PARTS) - 1}')


def _check_landmarks(landmarks: np.ndarray) -> None:
    """Raise ValueError unless the landmarks have the type and the shape of the format."""
    shape = (len(landmarks) if landmarks.ndim else 0, NUM_LANDMARKS, 2)
    if landmarks.dtype != np.float32 or landmarks.shape != shape or not len(landmarks):
        raise ValueError(
            f'landmarks is {_describe(landmarks)}, but must be float32 (T, {NUM_LANDMARKS}, 2)'
        )
    if np.isinf(landmarks).any():
        raise ValueError('landmarks has infinite values; mark landmarks that were not found by NaN')


def _describe(array: np.ndarray) -> str:
    """Return the type and the shape of an array in words."""
    return f'{array.dtype} {array.shape}'


# Masks and landmarks ------------------------------------------------------------------------------


def levels_path(folder: str | Path, clip: str) -> Path:
    """Return the path of the masks and landmarks of a clip.

    Args:
        folder: The folder of levels.
        clip: Name of the clip in its dataset, for example ``'train/00001'`` or ``'a/b.mp4'``.

    Raises:
        DFERError: If the path would not be inside the folder.
    """
    _check_clip_name(clip, f'clip {clip!r}')
    return Path(folder, f'{clip}.npz')


def _check_clip_name(clip: str, where: str) -> None:
    """Raise DFERError if the name of a clip, used as a path, would leave the folder of levels."""
    parts = PurePosixPath(clip).parts
    inside = parts and '..' not in parts and '\0' not in clip and '\\' not in clip
    if not inside or clip.startswith('/') or PureWindowsPath(clip).drive:
        raise DFERError(
            f'{where}: the name leads out of the folder of levels; name the clip by a path that is '
            'relative to the folder of the dataset, with / and without ..'
        )


def write_levels(path: str | Path, levels: ClipLevels) -> None:
    """Write the masks and landmarks of a clip to a compressed npz file.

    Args:
        path: The file, as returned by :func:`levels_path`.
        levels: The masks and landmarks.

    Raises:
        WriteError: If the file cannot be written.
    """
    arrays = dict(size=np.array(levels.size, np.int64))
    if levels.mixed:
        arrays['mixed'] = np.array(True)
    for name in ('masks', 'landmarks'):
        if (array := getattr(levels, name)) is not None:
            arrays[name] = array
    content = io.BytesIO()
    # The keys are the names above, so none sets savez's own argument allow_pickle.
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    with write_aside(path) as aside:
        aside.write_bytes(content.getvalue())


def read_levels(path: str | Path) -> ClipLevels | None:
    """Read the masks and landmarks of a clip.

    Args:
        path: The file, as returned by :func:`levels_path`.

    Returns:
        The masks and landmarks, or None if the file does not exist.

    Raises:
        DFERError: If the file cannot be read, is damaged, or has another format.
    """
    path = Path(path)
    try:
        content = read_patiently(path.read_bytes, path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DFERError(f'{path}: cannot be read ({error.strerror}); {_REMEDY}') from None
    try:
        return _parse_levels(content)
    except _DAMAGED as error:
        reason = first_line(error)
        raise DFERError(f'{path}: is not a file of levels ({reason}); {_REMEDY}') from None
    except MemoryError as error:
        raise DFERError(
            f'{path}: there is not enough memory for its arrays ({first_line(error)}); use fewer '
            'workers, cut the clip into shorter ones, or write the file again if it is damaged'
        ) from None


def _parse_levels(content: bytes) -> ClipLevels:
    """Return the masks and landmarks in the content of an npz file.

    Raises:
        ValueError: If an array is missing, or has another type, shape or range. Any other error of
            ``_DAMAGED`` is raised if the content is not an intact npz file.
    """
    if not content:
        raise ValueError('the file is empty')
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = set(archive.namelist())

        def read(name: str) -> np.ndarray | None:
            if f'{name}.npy' not in names:
                return None
            if archive.getinfo(f'{name}.npy').compress_type not in _COMPRESSIONS:
                raise ValueError(f'{name} is compressed in another way than numpy does it')
            # `archive.read` compares the checksum before numpy sees the bytes.
            stored = io.BytesIO(archive.read(f'{name}.npy'))
            return np.lib.format.read_array(stored, allow_pickle=False)

        size, masks, landmarks = read('size'), read('masks'), read('landmarks')
        mixed = read('mixed')
    if size is None:
        raise ValueError('it has no array size, the height and the width of the frames')
    if size.shape != (2,) or size.dtype.kind not in 'iu' or size.min() < 1:
        raise ValueError(f'size is {_describe(size)}, but must be two positive integers (H, W)')
    if mixed is not None and (mixed.shape or mixed.dtype != bool):
        raise ValueError(f'mixed is {_describe(mixed)}, but must be a single truth value')
    return ClipLevels((int(size[0]), int(size[1])), masks, landmarks, bool(mixed))


# Captions -----------------------------------------------------------------------------------------


def write_captions(path: str | Path, captions: Mapping[str, str]) -> None:
    """Write the captions of clips, one JSON object a line, in UTF-8.

    Args:
        path: The file, usually ``captions.jsonl`` in the folder of levels.
        captions: The caption of each clip by the name of the clip.

    Raises:
        WriteError: If the file cannot be written.
    """
    content = ''.join(f'{format_caption(*pair)}\n' for pair in captions.items())
    with write_aside(path) as aside:
        aside.write_bytes(content.encode())


def format_caption(clip: str, caption: str) -> str:
    """Return the line of a clip in a file of captions, without the line break."""
    return json.dumps(dict(clip=clip, caption=caption), ensure_ascii=False)


def read_captions(path: str | Path) -> dict[str, str]:
    """Read the captions of clips.

    Args:
        path: The file.

    Returns:
        The caption of each clip by the name of the clip.

    Raises:
        DFERError: If the file does not exist or is not UTF-8, or if a line is not a JSON object
            with a caption for a clip that no line before has.
    """
    path, captions = Path(path), {}
    for number, line in enumerate(_read_text(path).split('\n'), 1):
        if not line.strip():
            continue
        clip, caption = _parse_caption(line, f'{path}, line {number}')
        if clip in captions:
            raise DFERError(
                f'{path}, line {number}: the clip {clip!r} has a second caption; remove one line'
            )
        captions[clip] = caption
    if not captions:
        raise DFERError(f'{path}: the file has no caption; write one line for each clip')
    return captions


def _read_text(path: Path) -> str:
    """Return the text of a caption file in UTF-8, with or without a byte order mark."""
    try:
        return decode_text(read_patiently(path.read_bytes, path), path)
    except FileNotFoundError:
        raise DFERError(
            f'{path}: the file does not exist; write the captions there, or set captions=False in '
            'LoadLevels'
        ) from None
    except OSError as error:
        raise DFERError(f'{path}: cannot be read ({error.strerror}); correct the path') from None


def _parse_caption(line: str, where: str) -> tuple[str, str]:
    """Return the clip and the caption of a line.

    Raises:
        DFERError: If the line has another form; ``where`` names the file and the line.
    """
    try:
        row = json.loads(line)
        clip, caption = row['clip'], row['caption']
        f'{clip}{caption}'.encode()  # fails for half of a surrogate pair, which JSON allows
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DFERError(
            f'{where}: is not a JSON object with "clip" and "caption"; write for example '
            '{"clip": "train/00001", "caption": "the lips part"}'
        ) from None
    if not (isinstance(clip, str) and isinstance(caption, str) and caption.strip()):
        raise DFERError(
            f'{where}: the clip or the caption is not a text, or is empty; correct the line, or '
            'remove it to use the clip without a caption'
        )
    _check_clip_name(clip, where)
    return clip, ' '.join(caption.split())
