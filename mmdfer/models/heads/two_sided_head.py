"""Provide the text head of FineCLIPER, which affirms and denies each class in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmaction.registry import MODELS

from mmdfer.errors import DFERError
from mmdfer.models.backbones.frozen_clip import FrozenCLIP
from mmdfer.models.heads.text_head import TextHead, check_length, embed_texts, fill_templates

Score = Literal['difference', 'positive']
Loss = Literal['softmax', 'pairs']


@MODELS.register_module()
class TwoSidedHead(TextHead):
    """Compare a clip with sentences that affirm a class and with sentences that deny it.

    Each class has a positive vector, from sentences such as "A person with an expression of
    {class}.", and a negative vector, from sentences such as "A person with an expression of no
    {class}.". Let s+ and s- be the cosines of a clip with both vectors of a class, divided by the
    temperature. The score of the class has one of two forms:

    - ``'difference'``: s+ - s-.
    - ``'positive'``: s+. With the loss ``'softmax'`` the negative sentences are then not used.

    The loss has one of two forms:

    - ``'softmax'``: cross-entropy over the scores of the C classes.
    - ``'pairs'``: cross-entropy over the C values of s+, plus the cross-entropy over the two values
      (s+, s-) of the true class, in which s+ is the correct one.

    From the paper (FineCLIPER, arXiv 2407.02157): both default sentences, and supervision from the
    similarity to both. No public code exists.

    Our choice, because the equations could not be read: both forms of the score and of the loss;
    the vector of a side is the mean over its sentences, or what the text side of the neck makes of
    them, as in every head; in a mixed batch, the second part of ``'pairs'`` is averaged over the
    classes with their shares in the label; an optional learned context as in CoOp, which both sides
    of a class share.

    Args:
        classes: The C class names, in the order of the dataset's labels. Underscores in names
            become spaces.
        in_channels: Width of the features, as for TextHead.
        positive: S sentences that affirm a class, in which ``{}`` is replaced by the class name.
        negative: S sentences that deny a class, in which ``{}`` is replaced by the class name.
        score: Form of the score, ``'difference'`` or ``'positive'``.
        loss: Form of the loss, ``'softmax'`` or ``'pairs'``.
        num_tokens: M, the number of learned tokens before each sentence. 0 means that the head has
            no trainable parameters.
        class_specific: Whether each class has separate learned tokens. By default all classes share
            them.
        kwargs: Passed to TextHead.

    Raises:
        DFERError: If a form is unknown, if the numbers of positive and negative sentences differ,
            if a template has no ``{}``, or if a sentence exceeds the text tower's context.
    """

    def __init__(
        self,
        classes: Sequence[str],
        in_channels: int,
        positive: Sequence[str] = ('A person with an expression of {}.',),
        negative: Sequence[str] = ('A person with an expression of no {}.',),
        score: Score = 'difference',
        loss: Loss = 'softmax',
        num_tokens: int = 0,
        class_specific: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(len(classes), in_channels, **kwargs)
        self.set_classes(classes)
        _check_form('score', score, get_args(Score))
        _check_form('loss', loss, get_args(Loss))
        self.score_form, self.loss_form = score, loss
        self.num_tokens, self.class_specific = num_tokens, class_specific
        self.texts = self._write_texts(positive, negative)  # sides * C rows of S sentences
        if self.clip is not None:
            self.check_context(self.clip)
        self.tokens: nn.Parameter | None = None
        if num_tokens:
            contexts = len(classes) if class_specific else 1
            self.tokens = nn.Parameter(torch.empty(contexts, num_tokens, self.text_width))
            nn.init.normal_(self.tokens, std=0.02)

    def _write_texts(self, positive: Sequence[str], negative: Sequence[str]) -> list[list[str]]:
        """Return the sentences of the sides in use: those of all classes, side by side."""
        if len(positive) != len(negative) or not positive:
            raise DFERError(
                f'TwoSidedHead: there are {len(positive)} positive and {len(negative)} negative '
                'templates: set cls_head.positive and cls_head.negative to equal numbers of '
                'templates, at least one each'
            )
        one_sided = (self.score_form, self.loss_form) == ('positive', 'softmax')
        sides = [positive] if one_sided else [positive, negative]
        assert self.classes is not None
        return [row for side in sides for row in fill_templates('TwoSidedHead', side, self.classes)]

    # ---------------------------------------------------------------- prompts

    def prompts(self, clip: FrozenCLIP) -> tuple[Tensor, Tensor]:
        """Assemble the prompts of both sides of all classes.

        CLIPRecognizer treats each side of a class as a class of its own, so that a neck and the
        encoding on several ranks need no special case.

        Args:
            clip: CLIP whose tokenizer and token embeddings are used.

        Returns:
            Token embeddings (2 * C, S, L, W), first those of the positive sides, and the positions
            (2 * C, S) of the end tokens. Without negative sides the first axis has length C.
        """
        shape = len(self.texts), len(self.texts[0])
        fixed, ends = embed_texts(clip, [text for row in self.texts for text in row])
        fixed, ends = fixed.unflatten(0, shape), ends.view(shape)
        if self.tokens is None:
            return fixed, ends
        fixed = fixed.to(self.tokens.dtype)
        tokens = self.tokens.expand(self.num_classes, -1, -1)  # (C, M, W)
        tokens = tokens.repeat(len(self.texts) // self.num_classes, 1, 1)  # (2 * C, M, W)
        tokens = tokens[:, None].expand(-1, shape[1], -1, -1)
        prompts = torch.cat([fixed[..., :1, :], tokens, fixed[..., 1:, :]], dim=-2)
        return prompts, ends + self.num_tokens

    def class_parameters(self) -> tuple[str, ...]:
        """Return the name of the learned tokens if each class has its own, else nothing."""
        return ('tokens',) if self.num_tokens and self.class_specific else ()

    def check_context(self, clip: FrozenCLIP) -> None:
        """Raise DFERError if a prompt exceeds the context of the text tower of ``clip``."""
        texts = [text for row in self.texts for text in row]
        check_length('TwoSidedHead', clip, texts, more=self.num_tokens)

    # ----------------------------------------------------------------- logits

    def compare(
        self,
        x: Tensor,
        num_segs: int | None = None,
        classes: Tensor | None = None,
        logit_scale: float | None = None,
    ) -> Tensor:
        """Return s+ and s- of each class, of shape (N, 2, C).

        Args:
            x: Video vectors or features, as for TextHead.
            num_segs: Number of frames T under Recognizer2D, as for TextHead.
            classes: Vectors of both sides (2 * C, D) from CLIPRecognizer, or ``None``.
            logit_scale: CLIP's logit scale from CLIPRecognizer, or ``None``.

        Returns:
            Similarities (N, 2, C), or (N, 1, C) without negative sides.
        """
        flat = super().compare(x, num_segs, classes, logit_scale)  # (N, 2 * C)
        return flat.unflatten(1, (-1, self.num_classes))

    def score(self, similarities: Tensor) -> Tensor:
        """Return the scores (N, C) from similarities (N, 2, C), in the form of the config."""
        if self.score_form == 'positive':
            return similarities[:, 0]
        return similarities[:, 0] - similarities[:, 1]

    def loss_of_similarities(
        self, similarities: Tensor, data_samples: Sequence[Any]
    ) -> dict[str, Tensor]:
        """Compute the loss in the form of the config, and the accuracy of the scores.

        Args:
            similarities: Similarities (N, 2, C) from :meth:`compare`.
            data_samples: Samples of the batch, with their labels, which may be mixed.

        Returns:
            A dict with ``loss_cls``, with ``loss_pairs`` if the loss has the form ``'pairs'``, and
            with the accuracies.
        """
        scored = super().loss_of_similarities(similarities, data_samples)
        if self.loss_form == 'softmax':
            return scored
        positive, negative = similarities.unbind(1)
        accuracies = {key: value for key, value in scored.items() if key.endswith('_acc')}
        # softplus(s- - s+) is the cross-entropy over (s+, s-) whose correct entry is s+.
        pairs = F.softplus(negative - positive) * self._read_shares(data_samples, positive)
        return {
            **self.loss_by_feat(positive, data_samples),
            **accuracies,
            'loss_pairs': pairs.sum(1).mean(),
        }

    def _read_shares(self, data_samples: Sequence[Any], logits: Tensor) -> Tensor:
        """Return the share (N, C) of each class in the labels, as one-hot rows for single labels.

        Args:
            data_samples: Samples of the batch, with single labels or mixed labels.
            logits: Logits (N, C), whose dtype and device are used.
        """
        labels = torch.stack([sample.gt_label for sample in data_samples]).to(logits.device)
        if labels.shape[1] == 1:
            labels = F.one_hot(labels[:, 0], self.num_classes)
        return labels.to(logits.dtype)


def _check_form(option: str, value: str, known: tuple[str, ...]) -> None:
    """Raise DFERError if an option of the head has an unknown value."""
    if value not in known:
        names = ' or '.join(map(repr, known))
        raise DFERError(f'TwoSidedHead: cls_head.{option} must be {names}, got {value!r}')
