"""Provide the text head of DFER-CLIP: learned tokens before a description of each expression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmaction.registry import MODELS

from mmdfer.models.heads.class_descriptions import DESCRIPTIONS, describe
from mmdfer.models.heads.coop_head import CoOpHead


@MODELS.register_module()
class DFERCLIPHead(CoOpHead):
    """Describe each class by M learned tokens and a text about how its expression looks.

    From the paper (Zhao and Patras, "Prompting Visual-Language Models for Dynamic Facial Expression
    Recognition", BMVC 2023, Sec. 3.3): descriptions of facial behaviour instead of class names, a
    separate context for each class, M = 8.

    From the authors' code: a full stop ends each description, and the tokens are drawn from N(0,
    0.02).

    Our choice: the descriptions, in ``class_descriptions.py``.

    Args:
        classes: The C class names, in the order of the dataset's labels.
        in_channels: Width of the features, as for TextHead.
        num_tokens: M, the number of learned tokens.
        descriptions: Text for each class name. The default is this package's descriptions.
        kwargs: Passed to CoOpHead.

    Raises:
        DFERError: If a class has no description, or if a prompt exceeds the text tower's context.
    """

    def __init__(
        self,
        classes: Sequence[str],
        in_channels: int,
        num_tokens: int = 8,
        descriptions: dict[str, str] = DESCRIPTIONS,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            classes,
            in_channels,
            num_tokens=num_tokens,
            class_specific=True,
            texts=[f'{text.rstrip(".")}.' for text in describe(classes, descriptions)],
            **kwargs,
        )
