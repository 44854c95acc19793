"""Python functions for users of the package."""

from mmdfer.apis.publish import publish_model

__all__ = ['publish_model']
