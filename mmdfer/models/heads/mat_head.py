"""Provide the text head of Align-DFER, which learns tokens in place of class names."""

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
    """Describe each class by the Multi-dimensional Alignment Tokens (MAT) of Align-DFER, Sec. 3.2.

    Each class has S sentences of T learnable tokens. The prompt of a sentence consists of the start
    token, the T tokens, a full stop and the end token. It contains no class name and no other fixed
    word.

    From the paper: the tokens, S = 16 and T = 64.

    Our choice, because the paper does not say it: the tokens are drawn from N(0, 0.02); they are
    kept, and not drawn again, in the joint stage; logits are cosines divided by CLIP's own
    temperature, which is fixed.

    Args:
        num_classes: C, the number of classes.
        in_channels: Width of the features, as for TextHead.
        text_width: W, as for TextHead.
        num_sentences: S, the number of sentences of each class.
        num_tokens: T, the number of tokens in a sentence. It is at most the context of the text
            tower minus 3.
        kwargs: Passed to TextHead.

    Raises:
        DFERError: If a prompt exceeds the text tower's context, or if the head has no text tower
            outside CLIPRecognizer.
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
        # The sentences of a class must start from different values, because equal sentences would
        # get equal gradients and stay equal.
        shape = num_classes, num_sentences, num_tokens, self.text_width
        self.tokens = nn.Parameter(torch.empty(shape))
        nn.init.normal_(self.tokens, std=0.02)

    def prompts(self, clip: FrozenCLIP) -> tuple[Tensor, int]:
        """Assemble the prompts of all classes.

        Args:
            clip: CLIP whose embeddings of the start token, full stop and end token are used.

        Returns:
            Token embeddings (C, S, T + 3, W), and the position of the end token, the same in all.
        """
        ids = torch.tensor([clip.start_id, clip.stop_id, clip.end_id], device=self.tokens.device)
        start, stop, end = (
            e.expand(*self.tokens.shape[:2], 1, -1) for e in clip.embed(ids).to(self.tokens.dtype)
        )  # each (C, S, 1, W)
        return torch.cat([start, self.tokens, stop, end], dim=2), self.num_tokens + 2

    def class_parameters(self) -> tuple[str, ...]:
        """Return the name of the tokens, which are separate for each class."""
        return ('tokens',)

    def check_context(self, clip: FrozenCLIP) -> None:
        """Raise DFERError if T tokens and the three fixed tokens exceed the context of ``clip``."""
        if self.num_tokens > (most := clip.context_length - 3):
            raise DFERError(
                f'MATHead: num_tokens={self.num_tokens} does not fit the context of {clip.arch!r}, '
                f'which has {clip.context_length} positions; the start token, full stop and end '
                f'token take 3 of them: set num_tokens to at most {most}'
            )
