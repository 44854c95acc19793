"""Compute DFER-CLIP's temporal transformer, logits, sampling and views.

The source is zengqunzhao/DFER-CLIP, in these files and lines: the transformer in
models/Temporal_Model.py 7 to 120, the logits in models/Generate_Model.py 30 to 43, the prompts in
models/Prompt_Learner.py 7 to 78 and main.py, CLIP in models/clip/model.py, the sampling in
dataloader/video_dataloader.py 48 to 70, the views in dataloader/video_transform.py 52 to 424 and
dataloader/video_dataloader.py 104 to 144.
"""

import glob
import math
import os
import random as _random

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance
from reference import encode_image, encode_prompts, under

FRAMES, HEADS, SIZE = 16, 8, 224


# ---------------------------------------------------------------- network
def temporal_state(
    width=512, layers=1, heads=HEADS, head=64, mlp=1024, frames=FRAMES, generator=None
):
    """Draw weights under the authors' checkpoint keys, without 'module.temporal_net.'."""

    def randn(*shape, std=1.0):
        return torch.randn(*shape, generator=generator) * std

    s = {'cls_token': randn(1, 1, width), 'pos_embedding': randn(1, frames + 1, width)}
    for i in range(layers):
        name = f'temporal_transformer.layers.{i}.'
        s |= layer_state(name, width, heads * head, mlp, generator)
    return s


def layer_state(name, width, inner, mlp, generator=None):
    """Draw the weights of a transformer layer under the authors' names, which begin with `name`."""

    def randn(*shape, std=1.0):
        return torch.randn(*shape, generator=generator) * std

    s = {}
    a, m = f'{name}0.fn.', f'{name}1.fn.'
    for k in (a, m):
        s[k + 'norm.weight'], s[k + 'norm.bias'] = 1 + randn(width, std=0.1), randn(width, std=0.1)
    s[a + 'fn.to_qkv.weight'] = randn(3 * inner, width, std=width**-0.5)
    s[a + 'fn.to_out.0.weight'] = randn(width, inner, std=width**-0.5)
    s[a + 'fn.to_out.0.bias'] = randn(width, std=0.1)
    s[m + 'fn.net.0.weight'] = randn(mlp, width, std=width**-0.5)
    s[m + 'fn.net.0.bias'] = randn(mlp, std=0.1)
    s[m + 'fn.net.3.weight'] = randn(width, mlp, std=mlp**-0.5)
    s[m + 'fn.net.3.bias'] = randn(width, std=0.1)
    return s


def authors_name(name):
    """Return the authors' name of a weight in a layer of mmdfer's TemporalTransformer.

    Args:
        name: The name in mmdfer, such as 'layers.0.mlp.2.bias'.

    Returns:
        A key of `temporal_state`, such as 'temporal_transformer.layers.0.1.fn.fn.net.3.bias'.
    """
    parts = {'norm1': '0.fn.norm', 'qkv': '0.fn.fn.to_qkv', 'out': '0.fn.fn.to_out.0'}
    parts |= {'norm2': '1.fn.norm', 'mlp.0': '1.fn.fn.net.0', 'mlp.2': '1.fn.fn.net.3'}
    _, number, rest = name.split('.', 2)
    part, _, end = rest.rpartition('.')
    return f'temporal_transformer.layers.{number}.{parts[part]}.{end}'


def gelu_tanh(x):
    return x / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def temporal(frames, s, heads=HEADS):
    """Encode frame vectors (B, T, D) as the class token (B, D); neither is normalised."""
    b, t, d = frames.shape
    x = torch.cat([s['cls_token'].expand(b, 1, d), frames], 1) + s['pos_embedding'][:, : t + 1]
    return encoder_layers(x, s, 'temporal_transformer.layers.', heads)[:, 0]


def encoder_layers(x, s, prefix, heads=HEADS):
    """Apply the layers whose names begin with a prefix and a number, (B, L, D) -> (B, L, D)."""
    b, n, d = x.shape
    i = 0
    while (a := f'{prefix}{i}.0.fn.') + 'norm.weight' in s:
        y = F.layer_norm(x, (d,), s[a + 'norm.weight'], s[a + 'norm.bias'], 1e-5)
        q, k, v = (
            z.reshape(b, n, heads, -1).transpose(1, 2)
            for z in F.linear(y, s[a + 'fn.to_qkv.weight']).chunk(3, -1)
        )
        y = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v
        x = x + F.linear(
            y.transpose(1, 2).reshape(b, n, -1),
            s[a + 'fn.to_out.0.weight'],
            s[a + 'fn.to_out.0.bias'],
        )
        m = f'{prefix}{i}.1.fn.'
        y = F.layer_norm(x, (d,), s[m + 'norm.weight'], s[m + 'norm.bias'], 1e-5)
        y = gelu_tanh(F.linear(y, s[m + 'fn.net.0.weight'], s[m + 'fn.net.0.bias']))
        x = x + F.linear(y, s[m + 'fn.net.3.weight'], s[m + 'fn.net.3.bias'])
        i += 1
    return x


def logits(video, text):
    """Compute logits (B, C) of unnormalised vectors of clips (B, D) and classes (C, D)."""
    return (
        (video / video.norm(dim=-1, keepdim=True))
        @ (text / text.norm(dim=-1, keepdim=True)).t()
        / 0.01
    )


# ---------------------------------------------------------------- network with CLIP
def clip_state(width=768, layers=12, text_width=512, text_layers=12, joint=512, generator=None):
    """Draw the weights of a CLIP under OpenAI's names; the default is the size of ViT-B/32."""
    patch, grid = 32, 7

    def randn(*shape, std=1.0):
        return torch.randn(*shape, generator=generator) * std

    def block(name, w):
        s = {}
        for k in ('ln_1', 'ln_2'):
            s[f'{name}.{k}.weight'] = 1 + randn(w, std=0.1)
            s[f'{name}.{k}.bias'] = randn(w, std=0.1)
        sizes = {'attn.in_proj_': (3 * w, w), 'attn.out_proj.': (w, w)}
        sizes |= {'mlp.c_fc.': (4 * w, w), 'mlp.c_proj.': (w, 4 * w)}
        for k, (outs, ins) in sizes.items():
            s[f'{name}.{k}weight'] = randn(outs, ins, std=ins**-0.5)
            s[f'{name}.{k}bias'] = randn(outs, std=0.1)
        return s

    s = {
        'positional_embedding': randn(77, text_width, std=0.1),
        'text_projection': randn(text_width, joint, std=text_width**-0.5),
        'logit_scale': torch.tensor(4.6052),
        'visual.class_embedding': randn(width, std=width**-0.5),
        'visual.positional_embedding': randn(grid * grid + 1, width, std=width**-0.5),
        'visual.proj': randn(width, joint, std=width**-0.5),
        'visual.conv1.weight': randn(width, 3, patch, patch, std=(3 * patch * patch) ** -0.5),
        'token_embedding.weight': randn(49408, text_width, std=0.1),
    }
    for k, w in (('visual.ln_pre', width), ('visual.ln_post', width), ('ln_final', text_width)):
        s |= {f'{k}.weight': 1 + randn(w, std=0.1), f'{k}.bias': randn(w, std=0.1)}
    for i in range(layers):
        s |= block(f'visual.transformer.resblocks.{i}', width)
    for i in range(text_layers):
        s |= block(f'transformer.resblocks.{i}', text_width)
    return s


def model_state(texts, clip, tokens=8, shared=False, layers=1, generator=None):
    """Draw a model's weights under the authors' names, without 'module.', in their order."""
    table, joint = clip['token_embedding.weight'], clip['text_projection'].shape[1]
    ids = open_clip.tokenize([' '.join(['X'] * tokens + [text]) for text in texts])
    embedded = table[ids]
    shape = (tokens,) if shared else (len(texts), tokens)
    s = {'prompt_learner.ctx': 0.1 * torch.randn(*shape, table.shape[1], generator=generator)}
    s['prompt_learner.token_prefix'] = embedded[:, :1]
    s['prompt_learner.token_suffix'] = embedded[:, 1 + tokens :]
    for k in ('positional_embedding', 'text_projection'):
        s[f'text_encoder.{k}'] = clip[k]
    for k, v in clip.items():
        if k.startswith(('transformer.', 'ln_final.')):
            s[f'text_encoder.{k}'] = v
        if k.startswith('visual.'):
            s[k.replace('visual.', 'image_encoder.', 1)] = v
    temporal = temporal_state(joint, layers, head=joint // HEADS, generator=generator)
    s |= {f'temporal_net.{k}': v for k, v in temporal.items()}
    return s | {f'clip_model_.{k}': v for k, v in clip.items()}


def model_logits(frames, s, texts):
    """Compute logits (1, C) of the frames (16, 3, 224, 224) of a clip."""
    clip, ctx = under(s, 'clip_model_.'), s['prompt_learner.ctx']
    heads = {'text': len(clip['ln_final.bias']) // 64, 'image': len(clip['visual.proj']) // 64}
    vectors = []
    for number, text in enumerate(texts):
        parts = [s[f'prompt_learner.token_{k}'][number] for k in ('prefix', 'suffix')]
        own = ctx if ctx.ndim == 2 else ctx[number]
        prompt = torch.cat([parts[0], own, parts[1]])[None]  # (1, 77, W)
        end = int(open_clip.tokenize(' '.join(['X'] * len(own) + [text])).argmax())
        vectors.append(encode_prompts(clip, prompt, end, heads['text'], quick_gelu=True))
    images = encode_image(clip, frames, heads['image'], quick_gelu=True)
    video = temporal(images[None], under(s, 'temporal_net.'))
    return logits(video, torch.cat(vectors))


# ---------------------------------------------------------------- input
def _padded(n, frames):
    return np.array([min(i, n - 1) for i in range(frames)])


def indices_for_training(n, frames=FRAMES, rng=np.random):
    a = n // frames
    return np.arange(frames) * a + rng.randint(a, size=frames) if a > 0 else _padded(n, frames)


def indices_for_testing(n, frames=FRAMES):
    tick = n / float(frames)
    return (
        np.array([int(tick / 2.0 + tick * i) for i in range(frames)])
        if n > frames
        else _padded(n, frames)
    )


def _resize(image, size):
    return image.resize((size, size), Image.BILINEAR)


def _random_sized_crop(images, size, rng):
    width, height = images[0].size
    for _ in range(10):
        area = rng.uniform(0.08, 1.0) * width * height
        ratio = rng.uniform(3 / 4, 4 / 3)
        w, h = int(round(math.sqrt(area * ratio))), int(round(math.sqrt(area / ratio)))
        if rng.random() < 0.5:
            w, h = h, w
        if w <= width and h <= height:
            x, y = rng.randint(0, width - w), rng.randint(0, height - h)
            return [_resize(i.crop((x, y, x + w, y + h)), size) for i in images]
    short = min(width, height)  # the fallback: torchvision rounds the longer side down
    long = (int(size * width / short), int(size * height / short))
    wide = (long[0] if width > height else size, long[1] if height > width else size)
    images = [i.resize(wide, Image.BILINEAR) for i in images]
    width, height = images[0].size
    x, y = rng.randint(0, width - size), rng.randint(0, height - size)
    return [i.crop((x, y, x + size, y + size)) for i in images]


def _tensor(images):
    return (
        torch.stack([torch.from_numpy(np.array(i)).permute(2, 0, 1) for i in images]).to(
            torch.float32
        )
        / 255
    )


def view_for_testing(images, size=SIZE, layout='TCHW'):
    """Resize the sampled RGB images to (16, 3, size, size), or (3, 16, size, size) for 'CTHW'."""
    x = _tensor([_resize(i, size) for i in images])
    return x if layout == 'TCHW' else x.transpose(0, 1).contiguous()


def view_for_training(images, dataset, size=SIZE, rng=_random, layout='TCHW'):
    """Augment the sampled images as for the dataset 'DFEW', 'FERV39k' or 'MAFW'."""
    if dataset == 'DFEW':
        factor = rng.uniform(0.5, 1.5)
        images = [ImageEnhance.Brightness(i).enhance(factor) for i in images]
    elif dataset == 'FERV39k':
        angle = rng.uniform(-4, 4)
        images = [i.rotate(angle) for i in images]
    else:
        assert dataset == 'MAFW'
    images = _random_sized_crop(images, size, rng)
    if rng.random() < 0.5:
        images = [i.transpose(Image.FLIP_LEFT_RIGHT) for i in images]
    x = _tensor(images)
    return x if layout == 'TCHW' else x.transpose(0, 1).contiguous()


def load_clip(folder, n=None, train=False, rng=np.random):
    """Read the sampled images of a folder; n is its number of frames in the annotation file."""
    paths = sorted(glob.glob(os.path.join(folder, '*')))
    n = len(paths) if n is None else n
    return [
        Image.open(paths[int(i)]).convert('RGB')
        for i in (indices_for_training(n, rng=rng) if train else indices_for_testing(n))
    ]
