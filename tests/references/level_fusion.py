"""Compute the fusion of levels and its losses clip by clip, from the formulas.

A clip has the logits z_l (C,) of each level l that it has; None stands for the others. Its fused
logits are sum_l w_l z_l with w_l = r_l / sum_k r_k, where the sums run over its levels, and

- 'margin': r_l is the largest minus the second largest entry of softmax(z_l), and a constant for
  the gradient;
- 'learned': r_l = exp(a_l) with one learned number a_l for each level;
- 'mean': r_l = 1.

The loss is the mean over clips of the cross-entropy of the fused logits, plus a factor times the
mean over all clips of the sum of the cross-entropies of their levels.
"""

import torch


def probabilities(logits):
    powers = (logits - logits.max()).exp()
    return powers / powers.sum()


def raw_weight(logits, level, form, numbers):
    if form == 'mean':
        return torch.ones(())
    if form == 'learned':
        return numbers[level].exp()
    first, second = sorted(probabilities(logits.detach()).tolist(), reverse=True)[:2]
    return torch.tensor(first - second)


def fuse(levels, form, numbers=None):
    """Return the fused logits (C,) of one clip.

    Args:
        levels: The logits (C,) of each level, or None where the clip has none.
        form: 'margin', 'learned' or 'mean'.
        numbers: The learned number of each level.
    """
    there = [i for i, logits in enumerate(levels) if logits is not None]
    raw = {i: raw_weight(levels[i], i, form, numbers) for i in there}
    return sum(raw[i] / sum(raw.values()) * levels[i] for i in there)


def loss(clips, labels, form, numbers=None, factor=0.0):
    """Return the loss of clips, each a list of the logits of its levels."""
    total = 0.0
    for levels, y in zip(clips, labels):
        total = total - probabilities(fuse(levels, form, numbers))[y].log()
        own = [-probabilities(logits)[y].log() for logits in levels if logits is not None]
        total = total + factor * sum(own)
    return total / len(clips)
