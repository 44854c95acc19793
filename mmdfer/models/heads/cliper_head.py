"""Provide the text head of CLIPER: several learned descriptors for each class, and two losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmaction.registry import MODELS

from mmdfer.models.backbones.frozen_clip import FrozenCLIP
from mmdfer.models.heads.text_head import TextHead, check_length, embed_texts, pool_features
from mmdfer.models.losses.labels import read_single_labels


@MODELS.register_module()
class CLIPERHead(TextHead):
    """Compare a clip with K learned descriptors of each class (CLIPER, arXiv 2303.00193).

    A descriptor is a prompt of a fixed prefix, M learned tokens and a full stop. It does not
    contain the class name. Let z be the C * K cosines of a clip with the descriptors, divided by
    the temperature. The score of a class is the mean of the K values of z that belong to the class.
    The loss is the sum of two cross-entropies:

    - *margin*: cross-entropy over C logits. The logit of the true class is the least of its K
      values of z. The logit of every other class is the greatest of its K values.
    - *fine-grained*: cross-entropy over 1 + (C - 1) K logits, which are the greatest value of the
      true class and all K values of every other class. A clip gets a larger weight if fewer clips
      of its class in the batch have the same best descriptor, so that training uses all descriptors
      (see ``weigh``).

    From the authors' code (muse1998/CLIPER, a script for the image dataset RAF-DB): both losses,
    the scores, K = 5, M = 4, the prefix, and tokens drawn from N(0, 1) / 1000. No code for video is
    public.

    Our choice: the vector of a clip is the mean of its frame vectors, scaled to unit length before
    the mean.

    Args:
        num_classes: C, the number of classes.
        in_channels: Width of the features, as for TextHead.
        text_width: W, as for TextHead.
        num_prompts: K, the number of descriptors for each class.
        num_tokens: M, the number of learned tokens in a descriptor.
        prefix: Words before the learned tokens.
        kwargs: Passed to TextHead.

    Raises:
        DFERError: If a descriptor exceeds the text tower's context.
    """

    reads_sentences = True

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        text_width: int | None = None,
        num_prompts: int = 5,
        num_tokens: int = 4,
        prefix: str = 'an ID photo of',
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, in_channels, text_width, **kwargs)
        self.num_prompts, self.num_tokens, self.prefix = num_prompts, num_tokens, prefix
        if self.clip is not None:
            self.check_context(self.clip)
        shape = num_classes, num_prompts, num_tokens, self.text_width
        self.tokens = nn.Parameter(torch.randn(shape) / 1000)

    def prompts(self, clip: FrozenCLIP) -> tuple[Tensor, Tensor]:
        """Assemble the prompts of all descriptors.

        Args:
            clip: CLIP whose tokenizer and token embeddings are used for the prefix and the full
                stop.

        Returns:
            Token embeddings (C, K, L, W), and the position of the end token, which is the same in
            all.
        """
        fixed, ends = embed_texts(clip, [self.prefix, '.'])
        fixed = fixed.to(self.tokens.dtype).expand(*self.tokens.shape[:2], -1, -1, -1)
        before = fixed[..., 0, : ends[0], :]  # start token and prefix
        after = fixed[..., 1, 1:3, :]  # full stop and end token
        prompts = torch.cat([before, self.tokens, after], dim=2)
        return prompts, torch.tensor(prompts.shape[2] - 1, device=prompts.device)

    def class_parameters(self) -> tuple[str, ...]:
        """Return the name of the learned tokens, which are separate for each class."""
        return ('tokens',)

    def check_context(self, clip: FrozenCLIP) -> None:
        """Raise DFERError if a descriptor exceeds the context of the text tower of ``clip``."""
        check_length('CLIPERHead', clip, [f'{self.prefix}.'], more=self.num_tokens)

    def compare(
        self,
        x: Tensor,
        num_segs: int | None = None,
        classes: Tensor | None = None,
        logit_scale: float | None = None,
    ) -> Tensor:
        """Return the cosine with each descriptor divided by the temperature, of shape (N, C, K).

        Args:
            x: Video vectors or features, as for TextHead.
            num_segs: Number of frames T under Recognizer2D, as for TextHead.
            classes: Vectors of the descriptors (C, K, D) from CLIPRecognizer. If ``None``, the head
                encodes its prompts with its own text tower.
            logit_scale: CLIP's logit scale, which must be given together with ``classes``.
        """
        if classes is None:
            assert self.clip is not None
            x = self.projection(pool_features(x, num_segs))
            classes, logit_scale = self.encode(self.clip, x), self.clip.logit_scale
        flat = super().compare(
            x, classes=classes.flatten(0, 1), logit_scale=logit_scale
        )  # (N, C * K)
        return flat.unflatten(1, classes.shape[:2])

    def score(self, similarities: Tensor) -> Tensor:
        """Return the scores (N, C) of the classes, each the mean over its K descriptors."""
        return similarities.mean(-1)

    def loss_of_similarities(
        self, similarities: Tensor, data_samples: Sequence[Any]
    ) -> dict[str, Tensor]:
        """Compute the margin loss, the fine-grained loss and the accuracy of the mean scores.

        Args:
            similarities: Similarities (N, C, K) from :meth:`compare`.
            data_samples: Samples of the batch, each with one label.

        Returns:
            A dict with ``loss_margin``, ``loss_fine`` and ``top1_acc``.

        Raises:
            DFERError: If a clip has several labels or a soft label, because both losses compare one
                true class with the others.
        """
        labels = read_single_labels(data_samples, similarities, 'CLIPERHead')
        accuracy = (self.score(similarities).argmax(-1) == labels).float().mean()
        return dict(
            top1_acc=accuracy.detach(),
            loss_margin=F.cross_entropy(margin_logits(similarities, labels), labels),
            loss_fine=fine_grained_loss(similarities, labels),
        )


def margin_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the least logit of the true class and the greatest of each other class.

    Args:
        logits: Logits (N, C, K) of the descriptors.
        labels: True classes (N,).

    Returns:
        One logit for each class (N, C).
    """
    own = F.one_hot(labels, logits.shape[1]).bool()
    return torch.where(own, logits.amin(-1), logits.amax(-1))


def fine_grained_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the weighted cross-entropy over 1 + (C - 1) K logits.

    Args:
        logits: Logits (N, C, K) of the descriptors.
        labels: True classes (N,).

    Returns:
        The mean over the batch, a scalar.
    """
    own = F.one_hot(labels, logits.shape[1]).bool()
    best = logits[own].amax(-1, keepdim=True)  # (N, 1)
    others = logits[~own].view(len(logits), -1)  # (N, (C - 1) * K)
    each = torch.cat([best, others], dim=1).logsumexp(1) - best[:, 0]
    return (weigh(logits.detach(), labels) * each).mean()


def weigh(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the weight of each clip in the fine-grained loss.

    Consider a clip and all clips of the batch that have the same true class. n_k is the number of
    these clips whose best descriptor of the true class is k. As in the authors' code, n_k = -1/99
    replaces n_k = 0. A clip whose best descriptor is j has the weight sum_k(n_k) * softmax_k(1 /
    n_k)_j / n_j.

    Args:
        logits: Logits (N, C, K) of the descriptors.
        labels: True classes (N,).

    Returns:
        Weights of the clips (N,).
    """
    clips = torch.arange(len(logits), device=logits.device)
    best = logits[clips, labels].argmax(-1)  # (N,)
    counts = torch.zeros_like(logits[0]).index_put(
        (labels, best), torch.ones_like(logits[:, 0, 0]), accumulate=True
    )
    counts = torch.where(counts == 0, -1 / 99, counts)[labels]  # (N, K)
    share = (1 / counts).softmax(-1)
    return counts.sum(-1) * share[clips, best] / counts[clips, best]
