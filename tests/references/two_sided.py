"""Compute the two-sided score and its losses, from their formulas.

For a clip with the vector v and a class c with the positive vector p_c and the negative vector n_c,
s+_c = cos(v, p_c) / tau and s-_c = cos(v, n_c) / tau. All losses are means over the clips:

- score 'difference': z_c = s+_c - s-_c; score 'positive': z_c = s+_c;
- loss 'softmax': -log(exp(z_y) / sum_c exp(z_c)) of the true class y;
- loss 'pairs': -log(exp(s+_y) / sum_c exp(s+_c)) - log(exp(s+_y) / (exp(s+_y) + exp(s-_y))).
"""

import torch


def cosine(a, b):
    return (a * b).sum() / (a.square().sum().sqrt() * b.square().sum().sqrt())


def side(video, vectors, tau):
    """Return the similarities (N, C) of clips (N, D) with the vectors (C, D) of one side."""
    rows = [torch.stack([cosine(v, c) / tau for c in vectors]) for v in video]
    return torch.stack(rows)


def scores(video, positive, negative, tau, form):
    """Return the scores (N, C) from clips (N, D) and both sides of the classes (C, D)."""
    plus = side(video, positive, tau)
    if form == 'positive':
        return plus
    return plus - side(video, negative, tau)


def log_share(values, place):
    """Return log(exp(values[place]) / sum(exp(values))) of values (n,)."""
    shifted = values - values.detach().max()
    return shifted[place] - shifted.exp().sum().log()


def loss(video, positive, negative, labels, tau, score, form):
    """Return the loss of clips (N, D) with the labels (N,)."""
    if form == 'softmax':
        rows = scores(video, positive, negative, tau, score)
        return -sum(log_share(row, y) for row, y in zip(rows, labels)) / len(rows)
    plus, minus = side(video, positive, tau), side(video, negative, tau)
    total = 0.0
    for p, m, y in zip(plus, minus, labels):
        total = total - log_share(p, y) - log_share(torch.stack([p[y], m[y]]), 0)
    return total / len(plus)
