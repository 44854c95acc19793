"""The text head of Align-DFER: Multi-dimensional Alignment Tokens in place of class names."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmaction.registry import MODELS

from mmdfer.errors import DFERError
from mmdfer.models.backbones.frozen_clip import FrozenCLIP
from mmdfer.models.heads.text_head import TextHead


@MODELS.register_module()
class MATHead(TextHead):
    """Multi-dimensional Alignment Tokens (Align-DFER, Sec. 3.2): what a class is, learned.

    Each class is S sentences of T learnable tokens. A prompt is the start token, the T tokens, a
    full stop and the end token: no class name, no fixed word.

    Ours, where the paper is silent: the tokens are drawn from N(0, 0.02) and are kept, not drawn
    again, in the joint stage; logits are cosines over CLIP's own temperature, which is fixed.

    Args:
        num_classes: C.
        in_channels: As for TextHead.
        text_width: As for TextHead.
        num_sentences: S, 16 in the paper.
        num_tokens: T, 64 in the paper; at most the text tower's context less 3.
        kwargs: As for TextHead.

    Raises:
        DFERError: T exceeds the context, or no text tower was given.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        text_width: int | None = None,
        num_sentences: int = 16,
        num_tokens: int = 64,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, in_channels, text_width, **kwargs)
        self.num_tokens = num_tokens
        if self.clip is not None:
            self.check_context(self.clip)
        # Every sentence starts different: equal ones would stay equal.
        shape = num_classes, num_sentences, num_tokens, self.text_width
        self.tokens = nn.Parameter(torch.empty(shape))
        nn.init.normal_(self.tokens, std=0.02)

    def prompts(self, clip: FrozenCLIP) -> tuple[Tensor, int]:
        """Assembles the prompts.

        Args:
            clip: Whose start, full-stop and end embeddings are used.

        Returns:
            Token embeddings (C, S, T + 3, W), and the position of the end token.
        """
        ids = torch.tensor([clip.start_id, clip.stop_id, clip.end_id], device=self.tokens.device)
        start, stop, end = (
            e.expand(*self.tokens.shape[:2], 1, -1) for e in clip.embed(ids).to(self.tokens.dtype)
        )  # each (C, S, 1, W)
        return torch.cat([start, self.tokens, stop, end], dim=2), self.num_tokens + 2

    def class_parameters(self) -> tuple[str, ...]:
        """Name the tokens: every class has its own."""
        return ('tokens',)

    def check_context(self, clip: FrozenCLIP) -> None:
        """Raises DFERError where T tokens and the three fixed ones exceed the context."""
        if self.num_tokens > (most := clip.context_length - 3):
            raise DFERError(
                f'MATHead: num_tokens={self.num_tokens} does not fit the context of {clip.arch!r}, '
                f'{clip.context_length} positions of which start, full stop and end take 3: '
                f'at most {most}'
            )
