"""Provide the text head of zero-shot CLIP, which puts class names into fixed sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mmaction.registry import MODELS

from mmdfer.models.backbones.frozen_clip import FrozenCLIP
from mmdfer.models.heads.text_head import TextHead, check_length, embed_texts, fill_templates


@MODELS.register_module()
class ClassNameHead(TextHead):
    """Describe each class by its name in fixed sentences, as in zero-shot classification with CLIP.

    The head has no trainable parameters. In CLIPRecognizer without a neck, or with one that does
    not override ``text``, a class vector is the mean of the vectors of its sentences.

    From the paper (Radford et al., "Learning Transferable Visual Models From Natural Language
    Supervision", 2021, Sec. 3.1.4): a sentence around the class name, and the mean over several
    sentences.

    Args:
        classes: The C class names, in the order of the dataset's labels. Underscores in names
            become spaces.
        in_channels: Width of the features, as for TextHead.
        templates: S sentences in which ``{}`` is replaced by the class name. The default is the
            sentence that Align-DFER's comparison with CLIP uses.
        kwargs: Passed to TextHead.

    Raises:
        DFERError: If a template has no ``{}``, or if a sentence exceeds the text tower's context.
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
        self.num_sentences = len(templates)
        sentences = fill_templates('ClassNameHead', templates, classes)
        self.texts = [text for own in sentences for text in own]  # C * S
        if self.clip is not None:
            self.check_context(self.clip)

    def prompts(self, clip: FrozenCLIP) -> tuple[Tensor, Tensor]:
        """Embed the sentences of all classes.

        Args:
            clip: CLIP whose tokenizer and token embeddings are used.

        Returns:
            Token embeddings (C, S, L, W), and the positions (C, S) of the end tokens.
        """
        embeddings, ends = embed_texts(clip, self.texts)
        shape = self.num_classes, self.num_sentences
        return embeddings.unflatten(0, shape), ends.view(shape)

    def check_context(self, clip: FrozenCLIP) -> None:
        """Raise DFERError if a sentence exceeds the context of the text tower of ``clip``."""
        check_length('ClassNameHead', clip, self.texts)
