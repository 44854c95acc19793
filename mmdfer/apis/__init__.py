"""Provide the functions that users of the package call from Python."""

from mmdfer.apis.publish import publish_model

__all__ = ['publish_model']
