"""Provide the text head of CoOp, which learns a context before the name of each class."""

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
    """Describe each class by M learned tokens (the context), the class name and a full stop.

    From the paper (Context Optimization; Zhou et al., "Learning to Prompt for Vision-Language
    Models", IJCV 2022, Sec. 3.2): the learned context before the class name, and tokens drawn from
    N(0, 0.02). The context is shared by all classes (unified) or separate for each class
    (class-specific).

    From the authors' code (KaiyangZhou/CoOp): the full stop after the class name.

    Our choice, in the configs: the mean of the frame vectors replaces the image vector of CoOp.

    Args:
        classes: The C class names, in the order of the dataset's labels. Underscores in names
            become spaces.
        in_channels: Width of the features, as for TextHead.
        num_tokens: M, the number of learned tokens. The paper has 16.
        class_specific: Whether each class has a separate context. By default all classes share one.
        texts: C texts that follow the context. By default each is the class name and a full stop.
        kwargs: Passed to TextHead.

    Raises:
        DFERError: If the number of texts differs from the number of classes, or if a prompt exceeds
            the text tower's context.
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
                f'{type(self).__name__}: there are {len(self.texts)} texts for the {len(classes)} '
                f'classes {", ".join(classes)}: set cls_head.texts to one text for each class, in '
                'this order'
            )
        if self.clip is not None:
            self.check_context(self.clip)
        self.class_specific = class_specific
        contexts = len(classes) if class_specific else 1
        self.tokens = nn.Parameter(torch.empty(contexts, num_tokens, self.text_width))
        nn.init.normal_(self.tokens, std=0.02)

    def prompts(self, clip: FrozenCLIP) -> tuple[Tensor, Tensor]:
        """Assemble the prompts of all classes.

        Args:
            clip: CLIP whose tokenizer and token embeddings are used for the texts.

        Returns:
            Token embeddings (C, 1, L, W), and the positions (C, 1) of the end tokens.
        """
        prompts, ends = self.put_before_texts(clip, self.tokens)
        return prompts[:, None], ends[:, None]

    def put_before_texts(self, clip: FrozenCLIP, contexts: Tensor) -> tuple[Tensor, Tensor]:
        """Insert contexts between the start token and the texts.

        Args:
            clip: CLIP whose tokenizer and token embeddings are used for the texts.
            contexts: Contexts (..., 1, M, W) shared by the classes, or (..., C, M, W).

        Returns:
            Token embeddings (..., C, L, W) of the prompts, where L is M plus the length of the
            longest text with its start and end token, and the positions (C,) of the end tokens.
        """
        fixed, ends = embed_texts(clip, self.texts)  # (C, start + text + end, W)
        fixed = fixed.to(contexts.dtype).expand(*contexts.shape[:-3], -1, -1, -1)
        contexts = contexts.expand(*fixed.shape[:-2], -1, -1)  # (..., C, M, W)
        prompts = torch.cat([fixed[..., :1, :], contexts, fixed[..., 1:, :]], dim=-2)
        return prompts, ends + self.num_tokens

    def class_parameters(self) -> tuple[str, ...]:
        """Return the name of the context if it is separate for each class, else nothing."""
        return ('tokens',) if self.class_specific else ()

    def check_context(self, clip: FrozenCLIP) -> None:
        """Raise DFERError if a prompt exceeds the context of the text tower of ``clip``."""
        check_length(type(self).__name__, clip, self.texts, more=self.num_tokens)
