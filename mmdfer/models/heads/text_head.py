"""What the text heads share: prompts become class vectors, and video is compared with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mmaction.models import BaseHead
from mmaction.registry import MODELS

from mmdfer.errors import DFERError
from mmdfer.models.backbones.frozen_clip import FrozenCLIP
from mmdfer.models.json_tensor import from_tensor, to_tensor


class TextHead(BaseHead):
    """A head whose classes are prompts: logits are cosines with their vectors, over a temperature.

    A subclass says what the prompts are (:meth:`prompts`) and how long (:meth:`check_context`).

    In CLIPRecognizer the recognizer's CLIP encodes the prompts. Under any other recognizer the
    head brings a text tower of its own (``text``), maps the features from ``in_channels`` to D,
    and a class is the mean of its sentences.

    The names of the classes travel with the checkpoint; over other names, or another order, it is
    refused.

    Args:
        num_classes: C.
        in_channels: The width of the features; D in CLIPRecognizer, which fills it in.
        text_width: W; filled in by CLIPRecognizer, or read off ``text``.
        text: Config of a FrozenCLIP of the head's own.
        temperature: The cosines' divisor. None is CLIP's own, 1 / logit scale.
        average_clips: How several views of a clip are averaged, as in MMAction2.

    Attributes:
        conditioned: Whether the prompts depend on the clip: then :meth:`encode` reads its video
            vector, and there are class vectors for each clip.
        reads_sentences: Whether CLIPRecognizer gives it the sentences of the classes (C, S, D), in
            place of one vector each.

    Raises:
        DFERError: No text tower was given, or the prompts do not fit its context.
    """

    conditioned = False
    reads_sentences = False

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        text_width: int | None = None,
        text: dict | None = None,
        temperature: float | None = None,
        average_clips: str | None = 'prob',
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, in_channels, average_clips=average_clips, **kwargs)
        self.temperature = temperature
        self.classes: tuple[str, ...] | None = None
        self.clip: FrozenCLIP | None = None if text is None else MODELS.build(text)
        if self.clip is not None:
            self.projection = nn.Linear(in_channels, self.clip.embed_dims)
            text_width = self.clip.text_width
        if text_width is None:
            raise DFERError(
                f'{type(self).__name__} outside CLIPRecognizer needs a text tower of its own: '
                "text=dict(type='FrozenCLIP', arch=...)"
            )
        self.text_width = text_width
        self.register_state_dict_post_hook(TextHead._save_classes)
        self.register_load_state_dict_pre_hook(TextHead._check_classes)

    def init_weights(self) -> None:
        """Leaves what is learned as it was drawn."""

    # ---------------------------------------------------------------- prompts

    def prompts(self, clip: FrozenCLIP) -> tuple[Tensor, int | Tensor]:
        """Assembles the prompts.

        Args:
            clip: Whose token embeddings are used for what is fixed.

        Returns:
            Token embeddings (C, S, L, W), and the position of the end token, one for all or (C, S).
        """
        raise NotImplementedError

    def check_context(self, clip: FrozenCLIP) -> None:
        """Raises DFERError where the prompts exceed the context of ``clip``."""
        raise NotImplementedError

    def encode(self, clip: FrozenCLIP, video: Tensor) -> Tensor:
        """Encodes the prompts.

        Args:
            clip: Whose text tower encodes.
            video: (B, D) video vectors; read by heads that are ``conditioned``.

        Returns:
            Sentences (C, S, D), or of each clip (B, C, S, D).
        """
        return clip.encode_prompts(*self.prompts(clip))

    def class_parameters(self) -> tuple[str, ...]:
        """Name the head's own parameters (C, ...) that belong to one class each."""
        return ()

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
            classes: (classes, D), or of each clip (N, classes, D), from CLIPRecognizer; else the
                head encodes its own prompts.
            logit_scale: CLIP's, from CLIPRecognizer.
            kwargs: What recognizers pass to every head (``fcn_test``, ``loss_aux``).

        Returns:
            Logits (N, classes): cosine / temperature.
        """
        if classes is None:
            assert self.clip is not None
            x = self.projection(pool_features(x, num_segs))
            classes = F.normalize(self.encode(self.clip, x), dim=-1).mean(-2)  # (..., C, D)
            logit_scale = self.clip.logit_scale
        scale = logit_scale if self.temperature is None else 1 / self.temperature
        assert scale is not None  # given with the classes
        # Under autocast too: in bfloat16 a cosine times 100 is off by up to 0.2, and MMAction2
        # passes the logits to numpy, which knows no bfloat16.
        with torch.autocast(x.device.type, enabled=False):
            dtype = torch.promote_types(torch.promote_types(x.dtype, classes.dtype), torch.float32)
            x, classes = (F.normalize(v.to(dtype), dim=-1) for v in (x, classes))
            x = scale * x
            if classes.ndim == 3:
                return torch.einsum('nd,ncd->nc', x, classes)
            return x @ classes.T

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
            raise DFERError(other_classes(self.classes, classes))
        self.classes = classes

    def _save_classes(self, state: dict[str, Tensor], prefix: str, _: Any) -> None:
        """State-dict hook: adds the names."""
        if self.classes is not None:
            state[f'{prefix}classes'] = to_tensor(self.classes)

    def _check_classes(self, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
        """Load hook: takes the names over where none are set, refuses others."""
        if f'{prefix}classes' not in state:
            return
        saved = tuple(from_tensor(state.pop(f'{prefix}classes')))
        if self.classes is not None and saved != self.classes:
            raise DFERError(other_classes(saved, self.classes))
        self.classes = saved


def embed_texts(clip: FrozenCLIP, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Embeds texts between the start and the end token.

    Args:
        clip: Whose tokenizer and token embeddings are used.
        texts: N of them.

    Returns:
        Token embeddings (N, L, W), L that of the longest text, and the end tokens' positions (N,).
        What stands after an end token is padding, which a causal tower never reads.
    """
    rows = [[clip.start_id, *clip.tokenizer.encode(text), clip.end_id] for text in texts]
    device = clip.clip.get_parameter('logit_scale').device
    ids = pad_sequence([torch.tensor(row) for row in rows], batch_first=True)  # (N, L)
    ends = torch.tensor([len(row) - 1 for row in rows], device=device)
    return clip.embed(ids.to(device)), ends


def check_length(owner: str, clip: FrozenCLIP, texts: Sequence[str], more: int = 0) -> None:
    """Raises DFERError where a text with ``more`` tokens beside it exceeds the context."""
    for text in texts:
        length = len(clip.tokenizer.encode(text)) + 2 + more  # start and end
        if length > clip.context_length:
            raise DFERError(
                f'{owner}: {text!r} makes a prompt of {length} positions, the context of '
                f'{clip.arch!r} has {clip.context_length}: shorten the text'
                + (f' or the {more} learnable tokens' if more else '')
            )


def other_classes(saved: Sequence[str], ours: Sequence[str]) -> str:
    """Say that a checkpoint is of other classes, and how to train from it all the same."""
    return (
        f'the checkpoint was trained on the classes ({", ".join(saved)}), the dataset has '
        f'({", ".join(ours)}): names and order must be the same; to train on new classes from '
        'its other weights, give it as load_from and set '
        'default_hooks.class_names.new_classes=True'
    )


def pool_features(x: Tensor, num_segs: int | None) -> Tensor:
    """Average features (N, C), (N, C, T, h, w) or (N * T, C, h, w) to (N, C)."""
    if x.ndim == 5:
        return x.mean((2, 3, 4))
    if x.ndim == 4:
        x = x.mean((2, 3))  # (N * T, C)
        return x.view(-1, num_segs or 1, x.shape[1]).mean(1)
    return x
