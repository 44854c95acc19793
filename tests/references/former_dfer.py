"""Compute Former-DFER's logits, sampling and views, with weights under the authors' names.

The source is zengqunzhao/Former-DFER, in these files: the network in models/ST_Former.py,
S_Former.py and T_Former.py, the sampling in dataloader/dataset_DFEW.py, the view for testing in
dataloader/dataset_DFEW.py and video_transform.py.
"""

import glob
import os

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from references.dfer_clip import encoder_layers, layer_state, view_for_testing

SIZE, SEGMENTS, DURATION, HEADS = 112, 8, 2, 8


# ---------------------------------------------------------------- weights
def _norm(name, width, g):
    return {
        f'{name}.weight': 0.5 + torch.rand(width, generator=g),
        f'{name}.bias': 0.2 * torch.randn(width, generator=g),
        f'{name}.running_mean': 0.2 * torch.randn(width, generator=g),
        f'{name}.running_var': 0.5 + torch.rand(width, generator=g),
        f'{name}.num_batches_tracked': torch.tensor(29200),
    }


def _convolution(name, ins, outs, side, g):
    std = (2 / (outs * side * side)) ** 0.5
    return {f'{name}.weight': std * torch.randn(outs, ins, side, side, generator=g)}


def state_dict(classes=7, frames=16, generator=None):
    """Draw weights under the authors' names, without 'module.'."""
    g = generator
    s = {
        's_former.pos_embedding': torch.randn(1, 49, 256, generator=g),
        **_convolution('s_former.conv1', 3, 64, 7, g),
        **_norm('s_former.bn1', 64, g),
    }
    ins = 64
    for number, outs in enumerate((64, 128, 256, 512), 1):
        for block in (0, 1):
            name = f's_former.layer{number}.{block}'
            for part, width in ((1, ins), (2, outs)):
                s |= _convolution(f'{name}.conv{part}', width, outs, 3, g)
                s |= _norm(f'{name}.bn{part}', outs, g)
            if ins != outs:
                s |= _convolution(f'{name}.downsample.0', ins, outs, 1, g)
                s |= _norm(f'{name}.downsample.1', outs, g)
            ins = outs
    s |= layer_state('s_former.spatial_transformer.layers.0.', 256, HEADS * 32, 512, g)
    s['t_former.cls_token'] = torch.randn(1, 1, 512, generator=g)
    s['t_former.pos_embedding'] = torch.randn(1, frames + 1, 512, generator=g)
    for number in range(3):
        s |= layer_state(f't_former.spatial_transformer.layers.{number}.', 512, 512, 1024, g)
    s['fc.weight'] = 512**-0.5 * torch.randn(classes, 512, generator=g)
    s['fc.bias'] = torch.randn(classes, generator=g)
    return s


# ---------------------------------------------------------------- network
def _normalise(x, s, name):
    mean, var = s[f'{name}.running_mean'], s[f'{name}.running_var']
    scale = s[f'{name}.weight'] / (var + 1e-5).sqrt()
    shift = s[f'{name}.bias'] - mean * scale
    return x * scale[:, None, None] + shift[:, None, None]


def _block(x, s, name, stride):
    y = F.conv2d(x, s[f'{name}.conv1.weight'], stride=stride, padding=1)
    y = F.conv2d(_normalise(y, s, f'{name}.bn1').relu(), s[f'{name}.conv2.weight'], padding=1)
    if f'{name}.downsample.0.weight' in s:
        x = F.conv2d(x, s[f'{name}.downsample.0.weight'], stride=stride)
        x = _normalise(x, s, f'{name}.downsample.1')
    return (_normalise(y, s, f'{name}.bn2') + x).relu()


def logits(frames, s):
    """Compute logits (1, C) of the 16 frames (16, 3, 112, 112) of a clip."""
    x = F.conv2d(frames, s['s_former.conv1.weight'], stride=2, padding=3)
    x = F.max_pool2d(_normalise(x, s, 's_former.bn1').relu(), 3, stride=2, padding=1)
    for number in (1, 2, 3):
        for block in (0, 1):
            stride = 2 if number > 1 and block == 0 else 1
            x = _block(x, s, f's_former.layer{number}.{block}', stride)
    n, c, h, w = x.shape
    places = x.reshape(n, c, h * w).transpose(1, 2) + s['s_former.pos_embedding']
    places = encoder_layers(places, s, 's_former.spatial_transformer.layers.', HEADS)
    x = places.transpose(1, 2).reshape(n, c, h, w)
    for block in (0, 1):
        x = _block(x, s, f's_former.layer4.{block}', 2 if block == 0 else 1)
    x = torch.cat([s['t_former.cls_token'][0], x.mean((2, 3))])[None]
    x = x + s['t_former.pos_embedding'][:, : x.shape[1]]
    x = encoder_layers(x, s, 't_former.spatial_transformer.layers.', HEADS)[:, 0]
    return F.linear(x, s['fc.weight'], s['fc.bias'])


# ---------------------------------------------------------------- input
def indices_for_testing(n):
    """Return the 16 frames that are read of a clip of n frames."""
    places = n - DURATION + 1
    if places > SEGMENTS:
        tick = places / float(SEGMENTS)
        starts = [int(tick / 2.0 + tick * x) for x in range(SEGMENTS)]
    else:
        starts = [0] * SEGMENTS
    found = []
    for start in starts:
        for _ in range(DURATION):
            found.append(start)
            if start < n - 1:
                start += 1
    return np.array(found)


def view(folder):
    """Read and resize the sampled frames of a folder, (16, 3, 112, 112)."""
    paths = sorted(glob.glob(os.path.join(folder, '*.jpg')))
    places = indices_for_testing(len(paths))
    return view_for_testing([Image.open(paths[i]).convert('RGB') for i in places], size=SIZE)
