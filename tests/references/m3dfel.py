"""M3DFEL's normalisation, from Tencent/TFace, attribute/M3DFEL/utils.py (lines 32 to 79).

The input is a bag of N instances of C channels. Statistics of a channel are taken over the
instances of the bag, and its variance is divided by N - 1. The bag's mean is the mean of the
channels' means; its variance is the mean over channels of variance plus squared mean, less the
bag's squared mean. Two learned pairs of weights, before a softmax, mix the two.
"""


def dmin(x, weight, bias, mean_weight, var_weight, eps=1e-5):
    """x (B, N, C); weight, bias (C,); mean_weight, var_weight (2,) before their softmax."""
    mean_c = x.mean(1, keepdim=True)  # (B, 1, C)
    n = x.shape[1]
    var_c = (x - mean_c).square().sum(1, keepdim=True) / (n - 1)  # unbiased
    mean_b = mean_c.mean(2, keepdim=True)  # (B, 1, 1)
    var_b = (var_c + mean_c.square()).mean(2, keepdim=True) - mean_b.square()
    w, v = mean_weight.softmax(0), var_weight.softmax(0)
    mean, var = w[0] * mean_c + w[1] * mean_b, v[0] * var_c + v[1] * var_b
    return (x - mean) / (var + eps).sqrt() * weight.reshape(-1) + bias.reshape(-1)
