"""The text head of CoOp: a learned context before each class's name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmaction.registry import MODELS

from mmdfer.errors import DFERError
from mmdfer.models.backbones.frozen_clip import FrozenCLIP
from mmdfer.models.heads.text_head import TextHead, check_length, embed_texts


@MODELS.register_module()
class CoOpHead(TextHead):
    """Context Optimization: a prompt is M learned tokens, the class's name and a full stop.

    Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022, Sec. 3.2: the context
    is the same for all classes (unified) or each class's own; the name stands at the end.

    Args:
        classes: The C names, in the order of the dataset's labels.
        in_channels: As for TextHead.
        num_tokens: M, 16 in the paper.
        class_specific: Whether each class has a context of its own.
        texts: C texts to be written after the context in place of the names and full stops.
        kwargs: As for TextHead.

    Raises:
        DFERError: Not one text for each class, or a prompt exceeds the context.
    """

    def __init__(
        self,
        classes: Sequence[str],
        in_channels: int,
        num_tokens: int = 16,
        class_specific: bool = False,
        texts: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(len(classes), in_channels, **kwargs)
        self.set_classes(classes)
        self.num_tokens = num_tokens
        self.texts = [f'{name.replace("_", " ")}.' for name in classes] if texts is None else texts
        if len(self.texts) != len(classes):
            raise DFERError(
                f'{type(self).__name__}: {len(self.texts)} texts for the {len(classes)} classes '
                f'{", ".join(classes)}: give one for each, in their order'
            )
        if self.clip is not None:
            self.check_context(self.clip)
        self.class_specific = class_specific
        contexts = len(classes) if class_specific else 1
        self.tokens = nn.Parameter(torch.empty(contexts, num_tokens, self.text_width))
        nn.init.normal_(self.tokens, std=0.02)

    def prompts(self, clip: FrozenCLIP) -> tuple[Tensor, Tensor]:
        """Assembles the prompts: (C, 1, L, W), and the positions of the end tokens (C, 1)."""
        prompts, ends = self.put_before_texts(clip, self.tokens)
        return prompts[:, None], ends[:, None]

    def put_before_texts(self, clip: FrozenCLIP, contexts: Tensor) -> tuple[Tensor, Tensor]:
        """Puts contexts between the start token and the texts.

        Args:
            clip: Whose token embeddings are used for what is fixed.
            contexts: (..., 1 or C, M, W).

        Returns:
            Token embeddings (..., C, M + longest text, W), and the end tokens' positions (C,).
        """
        fixed, ends = embed_texts(clip, self.texts)  # (C, start + text + end, W)
        fixed = fixed.to(contexts.dtype).expand(*contexts.shape[:-3], -1, -1, -1)
        contexts = contexts.expand(*fixed.shape[:-2], -1, -1)  # (..., C, M, W)
        prompts = torch.cat([fixed[..., :1, :], contexts, fixed[..., 1:, :]], dim=-2)
        return prompts, ends + self.num_tokens

    def class_parameters(self) -> tuple[str, ...]:
        """Name the context where every class has its own."""
        return ('tokens',) if self.class_specific else ()

    def check_context(self, clip: FrozenCLIP) -> None:
        """Raises DFERError where a prompt exceeds the context of ``clip``."""
        check_length(type(self).__name__, clip, self.texts, more=self.num_tokens)
