"""Refuse hooks of earlier versions with a message that says what replaces them."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook

from mmaction.registry import HOOKS

from mmdfer.errors import DFERError


@HOOKS.register_module()
class EncodeOnceHook(Hook):
    """Refuse EncodeOnceHook of version 0.1, which the dataset wrapper EncodedClips has replaced.

    Raises:
        DFERError: Always. The message says how to change the config.
    """

    def __init__(self, **_: Any) -> None:
        raise DFERError(
            'custom_hooks: EncodeOnceHook was removed in version 0.2. Delete it, and wrap the '
            "dataset of each loader as dict(type='EncodedClips', dataset=dict(...)), or base the "
            'config on _base_/datasets/<dataset>_encoded.py'
        )
