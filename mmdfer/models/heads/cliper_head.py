"""The text head of CLIPER: several learned descriptors for each class, and its two losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmaction.registry import MODELS

from mmdfer.models.backbones.frozen_clip import FrozenCLIP
from mmdfer.models.heads.text_head import TextHead, check_length, embed_texts, pool_features
from mmdfer.models.losses.labels import single_labels


@MODELS.register_module()
class CLIPERHead(TextHead):
    """K descriptors for each class, compared with a clip one by one (CLIPER, arXiv 2303.00193).

    A descriptor is a fixed prefix, M learned tokens and a full stop, without the class's name. With
    z the cosines of a clip with the C * K descriptors over the temperature, a class scores the mean
    of its K. The loss is the sum of two cross-entropies:

    - *margin*: over one logit a class, the least of its K for the clip's own class, the greatest
      for the others;
    - *fine-grained*: of the greatest of the own class against the K of every other class, 1 + (C -
      1) K logits. Each clip weighs more the fewer clips of the batch have the same best descriptor
      of their own class, so that all descriptors are used.

    From the authors' code (muse1998/CLIPER, a script for RAF-DB; none for video is public): all
    of it, K = 5, M = 4, the prefix, tokens drawn from N(0, 1) / 1000. Ours: a clip is the mean of
    its unit frame vectors.

    Args:
        num_classes: C.
        in_channels: As for TextHead.
        num_prompts: K.
        num_tokens: M.
        prefix: The words before the tokens.
        kwargs: As for TextHead.

    Raises:
        DFERError: A descriptor exceeds the context.
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
        """Assemble the prompts: (C, K, L, W), and the position of the end token."""
        fixed, ends = embed_texts(clip, [self.prefix, '.'])
        fixed = fixed.to(self.tokens.dtype).expand(*self.tokens.shape[:2], -1, -1, -1)
        before = fixed[..., 0, : ends[0], :]  # start token and prefix
        after = fixed[..., 1, 1:3, :]  # full stop and end token
        prompts = torch.cat([before, self.tokens, after], dim=2)
        return prompts, torch.tensor(prompts.shape[2] - 1, device=prompts.device)

    def class_parameters(self) -> tuple[str, ...]:
        """Return the descriptors, each class's own."""
        return ('tokens',)

    def check_context(self, clip: FrozenCLIP) -> None:
        """Raise DFERError where a descriptor exceeds the context of ``clip``."""
        check_length('CLIPERHead', clip, [f'{self.prefix}.'], more=self.num_tokens)

    def forward(
        self,
        x: Tensor,
        num_segs: int | None = None,
        classes: Tensor | None = None,
        logit_scale: float | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Score the classes, arguments as for TextHead with ``classes`` (C, K, D): (N, C)."""
        return self.compare(x, num_segs, classes, logit_scale).mean(-1)

    def compare(
        self, x: Tensor, num_segs: int | None, sentences: Tensor | None, logit_scale: float | None
    ) -> Tensor:
        """Return the cosine with each descriptor over the temperature, (N, C, K)."""
        if sentences is None:
            assert self.clip is not None
            x = self.projection(pool_features(x, num_segs))
            sentences, logit_scale = self.encode(self.clip, x), self.clip.logit_scale
        flat = super().forward(
            x, classes=sentences.flatten(0, 1), logit_scale=logit_scale
        )  # (N, C * K)
        return flat.unflatten(1, sentences.shape[:2])

    def loss(
        self,
        feats: Tensor,
        data_samples: Sequence[Any],
        num_segs: int | None = None,
        classes: Tensor | None = None,
        logit_scale: float | None = None,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """Compute both losses, and the accuracy by the mean score.

        Raises:
            DFERError: A clip has more than one label: the losses compare one class with the others.
        """
        logits = self.compare(feats, num_segs, classes, logit_scale)
        labels = single_labels(data_samples, logits, 'CLIPERHead')
        accuracy = (logits.mean(-1).argmax(-1) == labels).float().mean()
        return dict(
            top1_acc=accuracy.detach(),
            loss_margin=F.cross_entropy(margin_logits(logits, labels), labels),
            loss_fine=fine_grained_loss(logits, labels),
        )


def margin_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the least logit of the own class and the greatest of others, (N, C, K) -> (N, C)."""
    own = F.one_hot(labels, logits.shape[1]).bool()
    return torch.where(own, logits.amin(-1), logits.amax(-1))


def fine_grained_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the reweighted cross-entropy over 1 + (C - 1) K logits.

    Args:
        logits: (N, C, K).
        labels: (N,).

    Returns:
        The mean over the batch.
    """
    own = F.one_hot(labels, logits.shape[1]).bool()
    best = logits[own].amax(-1, keepdim=True)  # (N, 1)
    others = logits[~own].view(len(logits), -1)  # (N, (C - 1) * K)
    each = torch.cat([best, others], dim=1).logsumexp(1) - best[:, 0]
    return (weigh(logits.detach(), labels) * each).mean()


def weigh(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the weight of each clip, from how often the batch uses each descriptor.

    With n_k the number of clips of the clip's class whose best own descriptor is k, and -1/99 in
    place of 0 as in the authors' code, a clip whose best is j weighs
    sum_k(n_k) softmax_k(1 / n_k)_j / n_j.

    Args:
        logits: (N, C, K).
        labels: (N,).

    Returns:
        (N,).
    """
    clips = torch.arange(len(logits), device=logits.device)
    best = logits[clips, labels].argmax(-1)  # (N,)
    counts = torch.zeros_like(logits[0]).index_put(
        (labels, best), torch.ones_like(logits[:, 0, 0]), accumulate=True
    )
    counts = torch.where(counts == 0, -1 / 99, counts)[labels]  # (N, K)
    share = (1 / counts).softmax(-1)
    return counts.sum(-1) * share[clips, best] / counts[clips, best]
