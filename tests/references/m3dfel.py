"""Compute M3DFEL's normalisation, from Tencent/TFace, attribute/M3DFEL/utils.py (lines 32 to 79).

The input is a bag of N instances with C channels. The mean and the variance of a channel are taken
over the instances of the bag; the sum of squares is divided by N - 1. The mean of the bag is the
mean of the channel means. The variance of the bag is the mean over channels of the variance plus
the squared mean, minus the squared mean of the bag. The statistics of the channel and of the bag
are mixed by the softmax of two learned pairs of weights.
"""


def dmin(x, weight, bias, mean_weight, var_weight, eps=1e-5):
    """Normalise bags.

    Args:
        x: The bags (B, N, C).
        weight: The factor (C,) of each channel.
        bias: The offset (C,) of each channel.
        mean_weight: The weights (2,) of both means, before the softmax.
        var_weight: The weights (2,) of both variances, before the softmax.
        eps: A small number that is added to the variance.

    Returns:
        The normalised bags (B, N, C).
    """
    mean_c = x.mean(1, keepdim=True)  # (B, 1, C)
    n = x.shape[1]
    var_c = (x - mean_c).square().sum(1, keepdim=True) / (n - 1)  # unbiased
    mean_b = mean_c.mean(2, keepdim=True)  # (B, 1, 1)
    var_b = (var_c + mean_c.square()).mean(2, keepdim=True) - mean_b.square()
    w, v = mean_weight.softmax(0), var_weight.softmax(0)
    mean, var = w[0] * mean_c + w[1] * mean_b, v[0] * var_c + v[1] * var_b
    return (x - mean) / (var + eps).sqrt() * weight.reshape(-1) + bias.reshape(-1)
