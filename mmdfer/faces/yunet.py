"""Find faces with YuNet, a small net that OpenCV runs on the CPU.

Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research, 2023.
OpenCV contains the code (`cv2.FaceDetectorYN`), but not the model.
"""

from __future__ import annotations

import os

import cv2
import numpy as np

from mmdfer.errors import DFERError
from mmdfer.faces.face import Face
from mmdfer.faces.model_file import read_model
from mmdfer.faces.pictures import shrink

_OVERLAP = 0.3  # of two boxes with a larger intersection over union, the worse one is dropped
_MOST_FACES = 5000  # OpenCV's default


class YuNet:
    """Find faces with YuNet.

    Args:
        model: Path of the model, for example face_detection_yunet_2023mar.onnx.
        size: Pixels to which the longer side of a picture is reduced.
        threshold: The lowest score of a face.

    Raises:
        DFERError: If the file is missing, or if it is another model.
    """

    def __init__(
        self, model: str | os.PathLike | None = None, size: int = 480, threshold: float = 0.6
    ) -> None:
        if model is None:
            raise DFERError(
                'face detector yunet: the path of the model is required; get '
                'face_detection_yunet_2023mar.onnx from github.com/opencv/opencv_zoo'
            )
        self.size = size
        content, no_config = read_model(model), np.empty(0, np.uint8)
        try:
            self._net = cv2.FaceDetectorYN.create(
                'onnx', content, no_config, (size, size), threshold, _OVERLAP, _MOST_FACES
            )
            self.detect(np.zeros((size, size, 3), np.uint8))
        except cv2.error as error:
            raise DFERError(
                f'{model}: OpenCV cannot run this file as YuNet ({error.err}); '
                'get face_detection_yunet_2023mar.onnx from github.com/opencv/opencv_zoo'
            ) from error

    def detect(self, image: np.ndarray) -> list[Face]:
        """Return the faces of a picture (H, W, 3), the one with the highest score first."""
        small, factor = shrink(image, self.size)
        self._net.setInputSize((small.shape[1], small.shape[0]))
        # Each row is x, y, width and height of a face, x and y of its five points, and its score.
        _, rows = self._net.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        faces = []
        for row in () if rows is None else rows.tolist():
            x, y, width, height, *points = (value / factor for value in row[:-1])
            landmarks = tuple(zip(points[::2], points[1::2], strict=True))
            faces.append(Face((x, y, x + width, y + height), row[-1], landmarks))
        return sorted(faces, key=lambda face: -face.score)
