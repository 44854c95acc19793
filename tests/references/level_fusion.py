"""Compute the fusion of levels and its losses clip by clip, from the formulas.

A clip has the logits z_l (C,) of each level l that it has; None stands for the others. Its fused
logits are sum_l w_l z_l, where the sum runs over its levels, and

- 'learned': w_l = exp(a_l) with one learned number a_l for each level;
- 'margin': w_l = r_l / sum_k r_k over its levels, where r_l is the largest minus the second largest
  entry of softmax(z_l);
- 'mean': w_l is one divided by the number of its levels.

The loss is the mean over all clips of the sum of the cross-entropies of their levels. With learned
numbers, the mean over clips of the cross-entropy of the fused logits is added, in which the z_l are
constants.
"""


def probabilities(logits):
    powers = (logits - logits.max()).exp()
    return powers / powers.sum()


def margin(logits):
    first, second = sorted(probabilities(logits.detach()).tolist(), reverse=True)[:2]
    return first - second


def fuse(levels, form, numbers=None):
    """Return the fused logits (C,) of one clip.

    Args:
        levels: The logits (C,) of each level, or None where the clip has none.
        form: 'margin', 'learned' or 'mean'.
        numbers: The learned number of each level.
    """
    there = [i for i, logits in enumerate(levels) if logits is not None]
    if form == 'learned':
        return sum(numbers[i].exp() * levels[i] for i in there)
    raw = {i: margin(levels[i]) if form == 'margin' else 1.0 for i in there}
    return sum(raw[i] / sum(raw.values()) * levels[i] for i in there)


def loss(clips, labels, form, numbers=None):
    """Return the loss of clips, each a list of the logits of its levels."""
    total = 0.0
    for levels, y in zip(clips, labels):
        total = total - sum(probabilities(z)[y].log() for z in levels if z is not None)
        if form == 'learned':
            fixed = [None if z is None else z.detach() for z in levels]
            total = total - probabilities(fuse(fixed, form, numbers))[y].log()
    return total / len(clips)
