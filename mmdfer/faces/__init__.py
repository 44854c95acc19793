"""Find faces in films, follow them from frame to frame, and crop them."""

from .build import DETECTORS, build_detector
from .face import Box, Face, FaceDetector, WholePicture
from .pictures import crop_face
from .tracking import TrackedFace, follow_faces

__all__ = [
    'DETECTORS',
    'Box',
    'Face',
    'FaceDetector',
    'TrackedFace',
    'WholePicture',
    'build_detector',
    'crop_face',
    'follow_faces',
]
