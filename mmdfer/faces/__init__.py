"""Find faces in films, follow them from frame to frame, crop them, and find their parts."""

from .build import DETECTORS, PARSERS, build_detector, build_parser
from .face import Box, Face, FaceDetector, WholePicture
from .face_mesh import FaceMesh
from .face_parts import LandmarkFinder, LandmarkPolygons, PartParser
from .pictures import crop_face
from .tracking import TrackedFace, follow_faces

__all__ = [
    'DETECTORS',
    'PARSERS',
    'Box',
    'Face',
    'FaceDetector',
    'FaceMesh',
    'LandmarkFinder',
    'LandmarkPolygons',
    'PartParser',
    'TrackedFace',
    'WholePicture',
    'build_detector',
    'build_parser',
    'crop_face',
    'follow_faces',
]
