"""Find faces and their parts with uniface and mediapipe, which this package does not require."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import numpy as np

from mmdfer.errors import DFERError, first_line
from mmdfer.faces.face import Box, Face
from mmdfer.faces.model_file import read_model
from mmdfer.levels import PARTS

_NO_DETECTOR = 'choose the face detector centerface'
_NO_PARSER = 'choose the parser polygons'


class UniFace:
    """Find faces with RetinaFace of the package uniface.

    On first use, uniface downloads the weights.

    Args:
        model: Must be None, because uniface chooses the file.

    Raises:
        DFERError: If the package is not installed, or if it cannot load the weights.
    """

    def __init__(self, model: str | os.PathLike | None = None) -> None:
        if model is not None:
            raise DFERError(
                f'{model}: uniface uses its own model; leave out the file, or choose the face '
                'detector centerface or yunet'
            )
        package = _import('uniface', 'uniface[cpu]')
        try:
            self._net = package.RetinaFace()
        except (OSError, RuntimeError) as error:
            raise DFERError(
                f'face detector uniface: its weights cannot be loaded ({first_line(error)}); '
                'check the connection to the internet, or choose the face detector centerface'
            ) from error

    def detect(self, image: np.ndarray) -> list[Face]:
        """Return the faces of a picture (H, W, 3), the one with the highest score first."""
        faces = []
        for found in self._net.detect(np.ascontiguousarray(image[..., ::-1])):  # BGR
            x1, y1, x2, y2 = np.asarray(found.bbox, float).tolist()
            landmarks = tuple((x, y) for x, y in np.asarray(found.landmarks, float).tolist())
            faces.append(Face((x1, y1, x2, y2), float(found.confidence), landmarks))
        return sorted(faces, key=lambda face: -face.score)


# The parts at the class numbers of BiSeNet, whose order is that of yakhyo/face-parsing: background,
# skin, left and right brow, left and right eye, eye glasses, left and right ear, earring, nose,
# mouth, upper lip, lower lip, neck, necklace, cloth, hair, hat.
_BISENET = [
    *('background', 'skin', 'brow', 'brow', 'eye', 'eye', 'background', 'ear', 'ear', 'background'),
    *('nose', 'mouth', 'upper lip', 'lower lip', 'neck', 'background', 'clothes', 'hair'),
    'background',
]
_TO_PARTS = np.array([PARTS.index(part) for part in _BISENET], np.uint8)
_PARSED_MARGIN = 0.5  # around the box of the face, as a fraction of its longer side; our choice


class UniFaceParser:
    """Find the parts of a face with BiSeNet of the package uniface.

    On first use, uniface downloads the weights. The parts are searched in a square around the face,
    and the rest of the picture is background.

    Raises:
        DFERError: If the package is not installed, or if it cannot load the weights.
    """

    def __init__(self) -> None:
        package = _import('uniface', 'uniface[cpu]', _NO_PARSER)
        try:
            self._net = package.BiSeNet()
        except (OSError, RuntimeError) as error:
            raise DFERError(
                f'face parser uniface: its weights cannot be loaded ({first_line(error)}); '
                f'check the connection to the internet, or {_NO_PARSER}'
            ) from error

    def parse(self, image: np.ndarray, box: Box, landmarks: np.ndarray) -> np.ndarray:
        """Return the part at each pixel of a picture (H, W, 3), uint8 (H, W)."""
        height, width = image.shape[:2]
        (x1, y1, x2, y2), margin = box, _PARSED_MARGIN * max(box[2] - box[0], box[3] - box[1])
        rows = slice(max(0, int(y1 - margin)), max(1, min(height, round(y2 + margin))))
        columns = slice(max(0, int(x1 - margin)), max(1, min(width, round(x2 + margin))))
        mask = np.zeros((height, width), np.uint8)
        if (crop := image[rows, columns]).size:
            mask[rows, columns] = _TO_PARTS[self._net.parse(np.ascontiguousarray(crop[..., ::-1]))]
        return mask


class MediaPipe:
    """Find faces with the face detector of the package mediapipe.

    Args:
        model: Path of the model, for example blaze_face_short_range.tflite.

    Raises:
        DFERError: If the package or the file is missing, or if the file is another model.
    """

    def __init__(self, model: str | os.PathLike | None = None) -> None:
        self._package = _import('mediapipe', 'mediapipe')
        where = 'developers.google.com/edge/mediapipe/solutions/vision/face_detector'
        if model is None:
            raise DFERError(
                'face detector mediapipe: the path of the model is required; get '
                f'blaze_face_short_range.tflite from {where}'
            )
        tasks = self._package.tasks
        options = tasks.vision.FaceDetectorOptions(
            base_options=tasks.BaseOptions(model_asset_buffer=read_model(model).tobytes())
        )
        try:
            self._net = tasks.vision.FaceDetector.create_from_options(options)
        except (RuntimeError, ValueError) as error:
            raise DFERError(
                f'{model}: mediapipe cannot run this file as a face detector '
                f'({first_line(error)}); get blaze_face_short_range.tflite from {where}'
            ) from error

    def detect(self, image: np.ndarray) -> list[Face]:
        """Return the faces of a picture (H, W, 3), the one with the highest score first."""
        picture = self._package.Image(
            image_format=self._package.ImageFormat.SRGB, data=np.ascontiguousarray(image)
        )
        faces = []
        for found in self._net.detect(picture).detections:
            box = found.bounding_box
            x, y = float(box.origin_x), float(box.origin_y)
            # mediapipe finds six other points than the five that `Face` has.
            faces.append(Face((x, y, x + box.width, y + box.height), found.categories[0].score))
        return sorted(faces, key=lambda face: -face.score)


def _import(package: str, requirement: str, otherwise: str = _NO_DETECTOR) -> Any:
    """Import a package, or say how to install it."""
    try:
        return import_module(package)
    except ImportError as error:
        raise DFERError(
            f'{package}: the package cannot be imported ({first_line(error)}); run "pip install '
            f'{requirement}", or {otherwise}'
        ) from error
