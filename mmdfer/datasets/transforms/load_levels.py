"""Provide the transform that reads the semantic levels of a clip and draws them as pictures."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmaction.registry import TRANSFORMS

from mmdfer.errors import DFERError
from mmdfer.levels import (
    CAPTIONS,
    PARTS,
    ClipLevels,
    levels_path,
    read_captions,
    read_levels,
)

# The colour of each part is our choice. The colours are similar to those of a face, because the
# frozen encoder of the frames reads the pictures too.
_COLOURS = {
    'background': (0, 0, 0),
    'hair': (70, 45, 30),
    'neck': (160, 115, 90),
    'clothes': (60, 70, 110),
    'ear': (190, 135, 110),
    'skin': (225, 175, 145),
    'eye': (245, 245, 245),
    'brow': (45, 30, 20),
    'nose': (205, 150, 120),
    'mouth': (75, 15, 25),
    'upper lip': (165, 60, 70),
    'lower lip': (195, 80, 85),
}
PALETTE = np.array([_COLOURS[part] for part in PARTS], np.uint8)
DOT = (0, 255, 0)  # no part has this colour
_SHIFT = 4  # fractional bits of the coordinates for OpenCV
_AGAIN = 'delete the file, and make the levels of this clip again'
# What Flip, crops and rotations write. The levels are those of whole, upright frames.
_MOVED = ('flip', 'crop_bbox', 'rotation')
_LARGEST_ASPECT_ERROR = 0.02  # of the ratio of height to width between the levels and the frames


@TRANSFORMS.register_module()
class LoadLevels(BaseTransform):
    """Read the part masks, landmarks and caption of a clip, and draw masks and landmarks.

    For each sampled frame, one picture is drawn: the parts of the face in the colours of
    ``PALETTE``, and the landmarks as green dots. The pictures have the size of the frames. They are
    appended to ``imgs``, as if the clip had been sampled twice as often. So every later transform
    resizes, crops and flips them exactly like the frames and with the same interpolation, and
    ``PackLevels`` separates them at the end::

        dict(type='ClipInit'),
        dict(type='UniformSample', clip_len=8),
        dict(type='ClipDecode'),
        dict(type='LoadLevels', folder='data/synth/levels'),
        dict(type='Resize', scale=(-1, 69)),
        dict(type='RandomCrop', size=64),
        dict(type='Flip', flip_ratio=0.5),
        dict(type='FormatShape', input_format='NCTHW'),
        dict(type='PackLevels'),

    Transforms that change colours belong before this transform, and those that flip, crop or rotate
    belong after it. Those of this package and of MMAction2 are refused before it, but not what
    TorchVisionWrapper, ImgAug and PytorchVideoWrapper run. docs/levels.md describes the files.

    A clip may lack a level. It is used with the other levels, and ``lacks`` records the missing
    ones, which LevelsHook counts. A clip without any mask and landmark in its sampled frames has
    no pictures. A sample without the key ``clip``, such as a film that ``mmdfer predict`` reads,
    lacks all levels. A file that is damaged or belongs to another clip is an error.

    Required keys: ``imgs``, ``frame_inds``, ``total_frames``, ``num_clips``. Optional: ``clip``,
    the name of the clip in its dataset. Modified keys: ``imgs`` and ``num_clips``, which are twice
    as many if there are pictures. Added keys: ``has_parts``, ``caption`` (None if the clip has
    none), ``lacks`` (a tuple of ``'masks'``, ``'landmarks'`` and ``'caption'``), ``unread`` (those
    of the three that the arguments switch off) and ``frames_without_landmarks`` (a number, 0 if the
    clip lacks the level or does not use it).

    Args:
        folder: The folder of the levels.
        masks: Whether to draw the part masks.
        landmarks: Whether to draw the landmarks.
        captions: Whether to read the captions.
        shuffle_captions: A seed by which each clip gets the caption of another clip of the file, of
            any split, as a control experiment. By default, each clip gets its own caption.
    """

    def __init__(
        self,
        folder: str,
        masks: bool = True,
        landmarks: bool = True,
        captions: bool = True,
        shuffle_captions: int | None = None,
    ) -> None:
        self.folder, self.shuffle_captions = folder, shuffle_captions
        self.masks, self.landmarks, self.captions = masks, landmarks, captions
        self._read: dict[str, str] | None = None

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Append the pictures of the levels to ``results['imgs']``, and add the caption.

        Args:
            results: The sample's dictionary, with the keys that the class requires.

        Returns:
            The same dictionary with the modified and added keys that the class lists.

        Raises:
            DFERError: If a file of levels is damaged, or was made for a clip of another length or
                another aspect ratio, if the folder or the file of captions does not exist, or if
                a transform has flipped, cropped or rotated the frames before.
        """
        if moved := [key for key in _MOVED if key in results]:
            raise DFERError(
                f'LoadLevels: an earlier transform has set {moved[0]}, so the parts would not fit '
                'the frames; put LoadLevels before all transforms that flip, crop or rotate, and '
                'only those of colours before LoadLevels'
            )
        caption, levels = self._find_caption(results.get('clip')), self._sample_levels(results)
        masks, landmarks = (levels.masks, levels.landmarks) if levels else (None, None)
        found = dict(masks=masks, landmarks=landmarks, caption=caption)
        used = dict(masks=self.masks, landmarks=self.landmarks, caption=self.captions)
        unseen = 0 if landmarks is None else int(np.isnan(landmarks).all((1, 2)).sum())
        results.update(
            caption=caption,
            has_parts=levels is not None,
            lacks=tuple(name for name in found if used[name] and found[name] is None),
            unread=tuple(name for name in found if not used[name]),
            frames_without_landmarks=unseen,
        )
        if levels is not None:
            pictures = draw_levels(levels, results['imgs'][0].shape[:2])
            results.update(imgs=[*results['imgs'], *pictures], num_clips=2 * results['num_clips'])
        return results

    @property
    def levels(self) -> tuple[str, ...]:
        """Return the levels that are loaded, by the names that FineCLIPER gives them."""
        return ('parts',) * (self.masks or self.landmarks) + ('caption',) * self.captions

    def list_absent(self, clips: Sequence[str]) -> list[str]:
        """Return one sentence for each kind of level that is loaded and that none of the clips has.

        Args:
            clips: Names of the clips.

        Raises:
            DFERError: If the folder or the file of captions does not exist.
        """
        absent = []
        if 'parts' in self.levels:
            folder = self._check_folder()
            if not any(levels_path(folder, clip).is_file() for clip in clips):
                first = levels_path(folder, clips[0])
                absent.append(f'no clip has masks or landmarks; {first} would be the first file')
        if 'caption' in self.levels and not any(map(self._find_caption, clips)):
            named = next(iter(self._read or {}), None)
            absent.append(
                f'no clip has a caption; the first clip is {clips[0]!r}, and the first clip in '
                f'{Path(self.folder, CAPTIONS)} is {named!r}'
            )
        return absent

    def _sample_levels(self, results: dict[str, Any]) -> ClipLevels | None:
        """Read the masks and landmarks of the sampled frames, as far as they are used and found.

        Returns:
            The levels of the sampled frames, or None if nothing was found in any of them.

        Raises:
            DFERError: If the levels do not fit the clip.
        """
        if results.get('clip') is None or not (self.masks or self.landmarks):
            return None
        path = levels_path(self._check_folder(), results['clip'])
        if (levels := read_levels(path)) is None:
            return None
        _check_fit(path, levels, results)
        numbers = np.asarray(results['frame_inds']).reshape(-1) - results.get('start_index', 0)
        masks, landmarks = levels.masks, levels.landmarks
        if masks is not None:
            masks = masks[numbers] if self.masks and masks[numbers].any() else None
        if landmarks is not None:
            found = self.landmarks and not np.isnan(landmarks[numbers]).all()
            landmarks = landmarks[numbers] if found else None
        nothing = masks is None and landmarks is None
        return None if nothing else replace(levels, masks=masks, landmarks=landmarks)

    def _check_folder(self) -> Path:
        """Return the folder of levels.

        Raises:
            DFERError: If the folder does not exist.
        """
        if not (folder := Path(self.folder)).is_dir():
            raise DFERError(
                f'{folder}: the folder of levels does not exist; make it with mmdfer '
                'prepare_levels, or for the synthetic benchmark with mmdfer make_synthetic '
                '--levels, or correct folder of LoadLevels, or do without levels: masks=False, '
                'landmarks=False and captions=False of LoadLevels'
            )
        return folder

    def _find_caption(self, clip: str | None) -> str | None:
        """Return the caption of a clip, or None if it has none or captions are not used."""
        if clip is None or not self.captions:
            return None
        if self._read is None:
            self._read = captions = read_captions(self._check_folder() / CAPTIONS)
            if self.shuffle_captions is not None:
                order = list(captions)
                random.Random(self.shuffle_captions).shuffle(order)
                # Each clip gets the caption of the next one, and so never its own.
                following = order[1:] + order[:1]
                self._read = {a: captions[b] for a, b in zip(order, following, strict=True)}
        return self._read.get(clip)


def _check_fit(path: Path, levels: ClipLevels, results: dict[str, Any]) -> None:
    """Raise DFERError unless the levels have the length and the aspect ratio of the clip.

    The frames of a clip of mixed sizes have no common aspect ratio. ClipDecode stretches them to
    the largest sampled frame, which need not be the largest frame of the clip.
    """
    if len(levels) != results['total_frames']:
        raise DFERError(
            f'{path}: has the levels of {len(levels)} frames, but the clip {results["filename"]} '
            f'has {results["total_frames"]} frames; {_AGAIN}'
        )
    if levels.mixed:
        return
    height, width = results['imgs'][0].shape[:2]
    if abs(levels.size[0] * width / (levels.size[1] * height) - 1) > _LARGEST_ASPECT_ERROR:
        raise DFERError(
            f'{path}: was made for frames of {levels.size[0]} x {levels.size[1]} pixels, but the '
            f'frames of {results["filename"]} have {height} x {width} pixels, which is another '
            f'aspect ratio; {_AGAIN}'
        )


def draw_levels(levels: ClipLevels, shape: tuple[int, int]) -> list[np.ndarray]:
    """Draw the masks and the landmarks of frames as pictures.

    Masks are resized to the size of the pictures without interpolation. Without masks, the ground
    is black. A dot has a radius of 1/112 of the shorter side of the picture, and of one pixel at
    least. A landmark with NaN or outside the frame is not drawn.

    Args:
        levels: The masks or landmarks, or both, of N frames.
        shape: Height and width of the pictures in pixels, to which the levels are scaled.

    Returns:
        One RGB uint8 array (H, W, 3) of this height and width for each frame.
    """
    pictures = []
    for number in range(len(levels)):
        picture = np.zeros((*shape, 3), np.uint8)
        if levels.masks is not None:
            exact = cv2.INTER_NEAREST_EXACT
            picture = PALETTE[cv2.resize(levels.masks[number], shape[::-1], interpolation=exact)]
        if levels.landmarks is not None:
            scale = np.divide(shape, levels.size)[::-1]
            _draw_dots(picture, (levels.landmarks[number] + 0.5) * scale - 0.5)
        pictures.append(picture)
    return pictures


def _draw_dots(picture: np.ndarray, points: np.ndarray) -> None:
    """Draw points (68, 2) in pixels into a picture, unless they are NaN or outside of it."""
    height, width = picture.shape[:2]
    radius = round(max(1.0, min(height, width) / 112) * 2**_SHIFT)
    inside = ((points > -1) & (points < (width, height))).all(1)  # False for NaN
    for x, y in np.rint(points[inside] * 2**_SHIFT).astype(int).tolist():
        cv2.circle(picture, (x, y), radius, DOT, cv2.FILLED, cv2.LINE_AA, _SHIFT)
