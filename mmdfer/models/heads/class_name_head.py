"""The text head of zero-shot CLIP: class names in sentences that somebody wrote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mmaction.registry import MODELS

from mmdfer.errors import DFERError
from mmdfer.models.backbones.frozen_clip import FrozenCLIP
from mmdfer.models.heads.text_head import TextHead, check_length, embed_texts


@MODELS.register_module()
class ClassNameHead(TextHead):
    """Class names in written sentences, as CLIP is used zero-shot; nothing in it trains.

    Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021,
    Sec. 3.1: the sentence around the name, and the mean of several.

    Args:
        classes: The C names, in the order of the dataset's labels.
        in_channels: As for TextHead.
        templates: S sentences; ``{}`` is the name.
        kwargs: As for TextHead.

    Raises:
        DFERError: A template has no ``{}``, or a sentence exceeds the context.
    """

    def __init__(
        self,
        classes: Sequence[str],
        in_channels: int,
        templates: Sequence[str] = ('an expression of {}',),
        **kwargs: Any,
    ) -> None:
        super().__init__(len(classes), in_channels, **kwargs)
        self.set_classes(classes)
        for template in templates:
            if '{}' not in template:
                raise DFERError(
                    f'ClassNameHead: template {template!r} has no {{}} for the name: put one in'
                )
        names = [name.replace('_', ' ') for name in classes]
        self.num_sentences = len(templates)
        self.texts = [template.format(name) for name in names for template in templates]  # C * S
        if self.clip is not None:
            self.check_context(self.clip)

    def prompts(self, clip: FrozenCLIP) -> tuple[Tensor, Tensor]:
        """Embeds the sentences: (C, S, L, W), and the positions of the end tokens (C, S)."""
        embeddings, ends = embed_texts(clip, self.texts)
        shape = self.num_classes, self.num_sentences
        return embeddings.unflatten(0, shape), ends.view(shape)

    def check_context(self, clip: FrozenCLIP) -> None:
        """Raises DFERError where a sentence exceeds the context of ``clip``."""
        check_length('ClassNameHead', clip, self.texts)
