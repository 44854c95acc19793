"""Provide the classes and functions that users of the package call from Python."""

from mmdfer.apis.inferencer import DFERInferencer
from mmdfer.apis.publish import publish_model

__all__ = ['DFERInferencer', 'publish_model']
