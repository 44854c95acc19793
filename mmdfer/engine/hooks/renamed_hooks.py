"""Names of hooks that no longer exist, each refused with the name that replaces it."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook

from mmaction.registry import HOOKS

from mmdfer.errors import DFERError


@HOOKS.register_module()
class EncodeOnceHook(Hook):
    """Refuse the hook of version 0.1, in whose place the dataset wrapper EncodedClips came.

    Raises:
        DFERError: Always.
    """

    def __init__(self, **_: Any) -> None:
        raise DFERError(
            'custom_hooks: EncodeOnceHook is gone since version 0.2: take it out, and wrap the '
            "dataset of each loader as dict(type='EncodedClips', dataset=dict(...)), or base the "
            'config on _base_/datasets/<dataset>_encoded.py'
        )
