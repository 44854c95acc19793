"""The text head of DFER-CLIP: a context of each class's own before a description of its face."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmaction.registry import MODELS

from mmdfer.models.heads.class_descriptions import DESCRIPTIONS, describe
from mmdfer.models.heads.coop_head import CoOpHead


@MODELS.register_module()
class DFERCLIPHead(CoOpHead):
    """A prompt is M learned tokens of the class's own, and what its expression looks like.

    Zhao and Patras, "Prompting Visual-Language Models for Dynamic Facial Expression Recognition",
    BMVC 2023, Sec. 3.3: descriptions of facial behaviour in place of names, class-specific context,
    M = 8. From the authors' code: a full stop ends each description, the tokens are drawn from
    N(0, 0.02). The descriptions are ours.

    Args:
        classes: The C names, in the order of the dataset's labels.
        in_channels: As for TextHead.
        num_tokens: M.
        descriptions: A text for each class's name. By default those of this package.
        kwargs: As for CoOpHead.

    Raises:
        DFERError: A class has no description, or a prompt exceeds the context.
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
