"""The text head: Multi-dimensional Alignment Tokens in place of class names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmaction.models import BaseHead
from mmaction.registry import MODELS

from mmdfer.errors import DFERError
from mmdfer.models.clip import FrozenCLIP
from mmdfer.models.identity import from_tensor, to_tensor


@MODELS.register_module()
class MATHead(BaseHead):
    """Multi-dimensional Alignment Tokens (Align-DFER, Sec. 3.1): what a class is, learned.

    Each class is S sentences of T learnable tokens. A prompt is the start token, the T tokens, a
    full stop and the end token: no class name, no fixed word.

    In CLIPRecognizer the recognizer's CLIP encodes the prompts. Under any other recognizer the
    head brings a text tower of its own (``text``), maps the features from ``in_channels`` to D,
    and a class is the mean of its sentences.

    The names of the classes travel with the checkpoint; over other names, or another order, it is
    refused.

    Args:
        num_classes: C.
        in_channels: The width of the features; D in CLIPRecognizer, which fills it in.
        text_width: W; filled in by CLIPRecognizer, or read off ``text``.
        num_sentences: S, 16 in the paper.
        num_tokens: T, 64 in the paper; at most the text tower's context less 3.
        text: Config of a FrozenCLIP of the head's own.
        temperature: The cosines' divisor. None is CLIP's own, 1 / logit scale.
        average_clips: How several views of a clip are averaged, as in MMAction2.

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
        text: dict | None = None,
        temperature: float | None = None,
        average_clips: str | None = 'prob',
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, in_channels, average_clips=average_clips, **kwargs)
        self.num_tokens, self.temperature = num_tokens, temperature
        self.classes: tuple[str, ...] | None = None
        if text is not None:
            self.clip: FrozenCLIP = MODELS.build(text)
            self.projection = nn.Linear(in_channels, self.clip.embed_dims)
            text_width = self.clip.text_width
            self.check_context(self.clip)
        if text_width is None:
            raise DFERError(
                'MATHead outside CLIPRecognizer needs a text tower of its own: '
                "text=dict(type='FrozenCLIP', arch=...)"
            )
        # Every sentence starts different: equal ones would stay equal.
        self.tokens = nn.Parameter(torch.empty(num_classes, num_sentences, num_tokens, text_width))
        nn.init.normal_(self.tokens, std=0.02)
        self.register_state_dict_post_hook(MATHead._save_classes)
        self.register_load_state_dict_pre_hook(MATHead._check_classes)

    def init_weights(self) -> None:
        """Leaves the tokens as they were drawn."""

    # ---------------------------------------------------------------- prompts

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

    def check_context(self, clip: FrozenCLIP) -> None:
        """Raises DFERError where T tokens and the three fixed ones exceed the context."""
        if self.num_tokens > (most := clip.context_length - 3):
            raise DFERError(
                f'MATHead: num_tokens={self.num_tokens} does not fit the context of {clip.arch!r}, '
                f'{clip.context_length} positions of which start, full stop and end take 3: '
                f'at most {most}'
            )

    # ----------------------------------------------------------------- logits

    def forward(
        self,
        x: Tensor,
        num_segs: int | None = None,
        classes: Tensor | None = None,
        logit_scale: float | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Compares video vectors with class vectors.

        Args:
            x: (N, D) video vectors; or features that are pooled over space and time first:
                (N * T, C, h, w) with T given as ``num_segs``, or (N, C, T, h, w).
            num_segs: T under Recognizer2D.
            classes: (classes, D) from CLIPRecognizer; else the head encodes its own prompts.
            logit_scale: CLIP's, from CLIPRecognizer.
            kwargs: What recognizers pass to every head (``fcn_test``, ``loss_aux``).

        Returns:
            Logits (N, classes): cosine / temperature.
        """
        if classes is None:
            x = self.projection(_pool(x, num_segs))
            classes = self.clip.encode_prompts(*self.prompts(self.clip))  # (C, S, D)
            classes = F.normalize(classes, dim=-1).mean(1)
            logit_scale = self.clip.logit_scale
        scale = logit_scale if self.temperature is None else 1 / self.temperature
        # Under autocast too: in bfloat16 a cosine times 100 is off by up to 0.2, and MMAction2
        # passes the logits to numpy, which knows no bfloat16.
        with torch.autocast(x.device.type, enabled=False):
            x, classes = (v.to(torch.promote_types(v.dtype, torch.float32)) for v in (x, classes))
            return scale * F.normalize(x, dim=-1) @ F.normalize(classes, dim=-1).T

    # ------------------------------------------------------------ class names

    def set_classes(self, classes: Sequence[str]) -> None:
        """Names the classes, in the order of the logits.

        Raises:
            DFERError: Another number of them, or other names than those already set.
        """
        classes = tuple(classes)
        if len(classes) != self.num_classes:
            raise DFERError(
                f'the dataset names {len(classes)} classes ({", ".join(classes)}), the head has '
                f'num_classes={self.num_classes}'
            )
        if self.classes is not None and classes != self.classes:
            raise DFERError(_other_classes(self.classes, classes))
        self.classes = classes

    def _save_classes(self, state: dict[str, Tensor], prefix: str, _: Any) -> None:
        """State-dict hook: adds the names."""
        if self.classes is not None:
            state[f'{prefix}classes'] = to_tensor(self.classes)

    def _check_classes(self, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
        """Load hook: takes the names over where none are set, refuses others."""
        saved = state.pop(f'{prefix}classes', None)
        if saved is None:
            return
        saved = tuple(from_tensor(saved))
        if self.classes is not None and saved != self.classes:
            raise DFERError(_other_classes(saved, self.classes))
        self.classes = saved


def _other_classes(saved: Sequence[str], ours: Sequence[str]) -> str:
    return (
        f'the checkpoint was trained on the classes ({", ".join(saved)}), the dataset has '
        f'({", ".join(ours)}): names and order must be the same'
    )


def _pool(x: Tensor, num_segs: int | None) -> Tensor:
    """(N, C), (N, C, T, h, w) or (N * T, C, h, w) -> (N, C)."""
    if x.ndim == 5:
        return x.mean((2, 3, 4))
    if x.ndim == 4:
        x = x.mean((2, 3))  # (N * T, C)
        return x.view(-1, num_segs or 1, x.shape[1]).mean(1)
    return x
