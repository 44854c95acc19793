"""Read the model files of face detectors."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from mmdfer.errors import DFERError
from mmdfer.files import read_patiently


def read_model(path: str | os.PathLike) -> np.ndarray:
    """Return the content of a model file, uint8 (bytes,).

    The content is given to other packages rather than the path, because OpenCV cannot open every
    path on Windows.

    Raises:
        DFERError: If there is no such file.
    """
    if not os.path.isfile(path):
        raise DFERError(f'{path}: the file of the face detector does not exist; correct the path')
    return np.frombuffer(read_patiently(Path(path).read_bytes, path), np.uint8)
