"""Compute Align-DFER's forward pass in plain tensor algebra, as a reference for the tests.

The reference is written from the paper's description alone. It shares no code with the package and
uses no torch.nn module, so a test compares two independent implementations of the same text.
Weights are passed as dicts.

Shapes: B clips, T frames or tokens, C classes, S sentences per class, P prompts, L positions,
W width of the text encoder, V width of the image encoder, D width of CLIP's joint space.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

State = Mapping[str, Tensor]


def under(state: State, prefix: str) -> dict[str, Tensor]:
    """Return the entries whose key starts with `prefix`, without the prefix."""
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def depth(state: State, prefix: str) -> int:
    """Return the number of blocks (`prefix0.`, `prefix1.`, ...) in a state."""
    return len({key.split('.', 1)[0] for key in under(state, prefix)})


def unit(x: Tensor) -> Tensor:
    """Divide each vector by its Euclidean length, (..., D) -> (..., D)."""
    return x / x.square().sum(-1, keepdim=True).sqrt()


def affine(x: Tensor, state: State, name: str) -> Tensor:
    """Apply `name`.weight (O, I) and `name`.bias (O,), (..., I) -> (..., O)."""
    return torch.einsum('...i,oi->...o', x, state[name + '.weight']) + state[name + '.bias']


def layer_norm(x: Tensor, state: State, name: str, eps: float = 1e-5) -> Tensor:
    """Standardise over D, then apply `name`.weight and `name`.bias, (..., D) -> (..., D)."""
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    return scaled * state[name + '.weight'] + state[name + '.bias']


def gelu(x: Tensor, quick: bool) -> Tensor:
    """Multiply x by the normal distribution function, or by OpenAI's sigmoid approximation."""
    if quick:
        return x / (1 + (-1.702 * x).exp())
    return x * 0.5 * (1 + torch.erf(x / 2**0.5))


def attention(x: Tensor, state: State, heads: int, causal: bool) -> Tensor:
    """Compute softmax(QK'/sqrt(d))V in each head and project it, (N, L, D) -> (N, L, D)."""
    count, length, width = x.shape
    packed = torch.einsum('nli,oi->nlo', x, state['in_proj_weight']) + state['in_proj_bias']
    # (N, L, 3D) -> three of (N, L, heads, d)
    query, key, value = packed.reshape(count, length, 3, heads, width // heads).unbind(2)
    scores = torch.einsum('nqhd,nkhd->nhqk', query, key) / (width // heads) ** 0.5
    if causal:
        later = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        scores = scores.masked_fill(later, float('-inf'))
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    weights = weights / weights.sum(-1, keepdim=True)
    mixed = torch.einsum('nhqk,nkhd->nqhd', weights, value)
    return affine(mixed.reshape(count, length, width), state, 'out_proj')


def unbiased_layer(x: Tensor, state: State, heads: int) -> Tensor:
    """Compute DFER-CLIP's pre-norm encoder layer, (N, L, D) -> (N, L, D).

    The query, key and value projections have no biases, and GELU is the tanh approximation.
    """
    qkv = state['qkv.weight']
    parts = {'in_proj_weight': qkv, 'in_proj_bias': torch.zeros(len(qkv))}
    parts |= {f'out_proj.{end}': state[f'out.{end}'] for end in ('weight', 'bias')}
    x = x + attention(layer_norm(x, state, 'norm1'), parts, heads, causal=False)
    hidden = affine(layer_norm(x, state, 'norm2'), state, 'mlp.0')
    cubic = (2 / torch.pi) ** 0.5 * (hidden + 0.044715 * hidden**3)
    return x + affine(hidden / 2 * (1 + cubic.tanh()), state, 'mlp.2')


def clip_blocks(x: Tensor, state: State, heads: int, causal: bool, quick_gelu: bool) -> Tensor:
    """Compute CLIP's pre-norm residual blocks (keys `0.ln_1.weight`, ...), (N, L, W) -> same."""
    for index in range(depth(state, '')):
        block = under(state, f'{index}.')
        x = x + attention(layer_norm(x, block, 'ln_1'), under(block, 'attn.'), heads, causal)
        hidden = gelu(affine(layer_norm(x, block, 'ln_2'), block, 'mlp.c_fc'), quick_gelu)
        x = x + affine(hidden, block, 'mlp.c_proj')
    return x


def encode_prompts(
    clip_state: State, embeddings: Tensor, end: int, heads: int, quick_gelu: bool
) -> Tensor:
    """Encode token embeddings (P, L, W) as vectors (P, D), read at position `end`.

    The vectors are not normalised.
    """
    x = embeddings + clip_state['positional_embedding'][: embeddings.shape[1]]
    x = clip_blocks(x, under(clip_state, 'transformer.resblocks.'), heads, True, quick_gelu)
    return layer_norm(x, clip_state, 'ln_final')[:, end] @ clip_state['text_projection']


def encode_image(clip_state: State, images: Tensor, heads: int, quick_gelu: bool) -> Tensor:
    """Encode preprocessed images (N, 3, H, W) as vectors (N, D), read at the class token.

    The vectors are not normalised.
    """
    visual = under(clip_state, 'visual.')
    kernel = visual['conv1.weight']  # (V, 3, p, p)
    size = kernel.shape[-1]
    # (N, 3, H, W) -> (N, 3, rows, columns, p, p) -> (N, rows * columns, 3 * p * p), row by row
    patches = images.unfold(2, size, size).unfold(3, size, size)
    patches = patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    x = torch.einsum('npi,vi->npv', patches, kernel.flatten(1))
    first = visual['class_embedding'].expand(len(x), 1, -1)  # (N, 1, V)
    x = torch.cat([first, x], dim=1) + visual['positional_embedding']
    x = layer_norm(x, visual, 'ln_pre')
    x = clip_blocks(x, under(visual, 'transformer.resblocks.'), heads, False, quick_gelu)
    return layer_norm(x[:, 0], visual, 'ln_post') @ visual['proj']


def stretch(position: Tensor, length: int) -> Tensor:
    """Interpolate positions linearly, (learned, D) -> (length, D), with both end points kept."""
    learned = len(position)
    if length == learned:
        return position
    rows = []
    for index in range(length):
        place = index * (learned - 1) / (length - 1) if length > 1 else 0.0
        low = min(int(place), learned - 1)
        high = min(low + 1, learned - 1)
        rows.append(position[low] * (1 - (place - low)) + position[high] * (place - low))
    return torch.stack(rows)


def dynamic_encoder(state: State, x: Tensor, layers: int) -> Tensor:
    """Apply the first `layers` layers over T, if any, then average over T: (N, T, D) -> (N, D)."""
    heads = max(1, x.shape[-1] // 64)
    position = stretch(state['position'], x.shape[1])
    x = x + position
    for index in range(layers):
        layer = under(state, f'layers.{index}.')
        x = x + attention(layer_norm(x, layer, 'norm1'), under(layer, 'self_attn.'), heads, False)
        hidden = gelu(affine(layer_norm(x, layer, 'norm2'), layer, 'linear1'), quick=False)
        x = x + affine(hidden, layer, 'linear2')
    return (x - position).mean(1)


def align_dfer(
    clip_state: State,
    neck_state: State,
    tokens: Tensor,
    fixed: Tensor,
    frames: Tensor,
    stage: str,
    layers: int,
    heads_text: int,
    quick_gelu: bool,
    logit_scale: float | Tensor,
) -> Tensor:
    """Compute Align-DFER's logits (B, C) in one stage of training.

    Args:
        clip_state: The weights of CLIP.
        neck_state: The weights of JAS.
        tokens: The learned tokens (C, S, T, W).
        fixed: The embeddings (3, W) of the start token, the full stop and the end token.
        frames: The frame vectors (B, T, D).
        stage: 'text', 'video' or 'joint'.
        layers: The number of layers of the image encoder ('video') or of the joint encoder
            ('joint') that are used. All layers of the text encoder are used in any case.
        heads_text: The number of attention heads of CLIP's text encoder.
        quick_gelu: Whether CLIP uses OpenAI's approximation of GELU.
        logit_scale: The factor of the cosine, 100 for CLIP (the exponential is already taken).
    """
    classes, sentences, length, width = tokens.shape
    flat = tokens.reshape(classes * sentences, length, width)
    start, stop, end = (row.expand(len(flat), 1, width) for row in fixed)
    prompts = torch.cat([start, flat, stop, end], dim=1)  # (C * S, T + 3, W)
    text = unit(encode_prompts(clip_state, prompts, length + 2, heads_text, quick_gelu))
    text = text.reshape(classes, sentences, -1)  # (C, S, D)
    frames = unit(frames)
    if stage == 'joint':
        joint = under(neck_state, 'joint_encoder.')
        video = dynamic_encoder(joint, frames, layers)
        named = dynamic_encoder(joint, text, layers)
    else:
        encoder = under(neck_state, 'text_encoder.')
        named = dynamic_encoder(encoder, text, depth(encoder, 'layers.'))
        if stage == 'text':
            video = frames.mean(1)
        elif stage == 'video':
            video = dynamic_encoder(under(neck_state, 'image_encoder.'), frames, layers)
        else:
            raise ValueError(f"stage must be 'text', 'video' or 'joint', got {stage!r}")
    return logit_scale * torch.einsum('bd,cd->bc', unit(video), unit(named))


def war_uar(predicted: Sequence[int], labels: Sequence[int], classes: int) -> tuple[float, float]:
    """Compute the accuracy and the mean recall of the classes in `labels`, both in [0, 1]."""
    pairs = [(int(guess), int(label)) for guess, label in zip(predicted, labels, strict=True)]
    recalls = []
    for index in range(classes):
        hits = [guess == index for guess, label in pairs if label == index]
        if hits:
            recalls.append(sum(hits) / len(hits))
    war = sum(guess == label for guess, label in pairs) / len(pairs)
    return war, sum(recalls) / len(recalls)
