"""Provide the classes and functions that users of the package call from Python."""

from mmdfer.apis.inferencer import DFERInferencer
from mmdfer.apis.publish import publish_model
from mmdfer.apis.zero_shot import run_zero_shot

__all__ = ['DFERInferencer', 'publish_model', 'run_zero_shot']
