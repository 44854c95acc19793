"""Compute AIM's block, FRU-Adapter's block and LoRA's weight from their formulas in plain algebra.

The formulas are in these places: AIM in Sec. 3 of Yang et al., ICLR 2023, with the factor
0.5 of its authors' configs; FRU-Adapter in Sec. 3 of Her et al., Electronics 14(5), 2025; LoRA in
Sec. 4.1 of Hu et al., ICLR 2022. Weights are passed as dicts. Loops go over the frames and places.

Shapes: N clips, T frames, L places (tokens of a frame), W width of the tower, R of a bottleneck.
"""

import torch
from reference import affine, attention, gelu, layer_norm, under


def bottleneck(x, state, name):
    hidden = gelu(affine(x, state, f'{name}.down'), quick=False)
    return affine(hidden, state, f'{name}.up')


def over_time(x, encode):
    """Apply a function to each place's tokens (N, T, W) in all frames, (N, T, L, W) -> same."""
    places = [encode(x[:, :, place]) for place in range(x.shape[2])]
    return torch.stack(places, dim=2)


def within_frames(x, encode):
    """Apply a function to each frame's tokens (N, L, W), (N, T, L, W) -> same."""
    return torch.stack([encode(x[:, frame]) for frame in range(x.shape[1])], dim=1)


def mlp(x, block, quick):
    return affine(gelu(affine(x, block, 'mlp.c_fc'), quick), block, 'mlp.c_proj')


def attend(x, block, heads):
    return attention(layer_norm(x, block, 'ln_1'), under(block, 'attn.'), heads, causal=False)


def aim_block(x, block, adapter, heads, quick):
    """Compute a block with the adapters `temporal`, `spatial` and `mlp`, (N, T, L, W) -> same."""
    attended = over_time(x, lambda tokens: attend(tokens, block, heads))
    x = x + bottleneck(attended, adapter, 'temporal')
    attended = within_frames(x, lambda tokens: attend(tokens, block, heads))
    x = x + attended + bottleneck(attended, adapter, 'spatial')
    normed = layer_norm(x, block, 'ln_2')
    return x + mlp(normed, block, quick) + 0.5 * bottleneck(normed, adapter, 'mlp')


def recalibrate(x, adapter):
    """Compute the frame recalibration unit and the attention over time, (N, T, L, W) -> same."""
    x = layer_norm(affine(x, adapter, 'down'), adapter, 'norm')  # (N, T, L, R)
    scores = affine(x.mean(3).mean(2), adapter, 'weigh')  # (N, T)
    weights = scores.exp() / scores.exp().sum(1, keepdim=True)
    x = torch.einsum('ntlr,nt->ntlr', x, weights)
    state = under(adapter, 'attention.')

    def encode(tokens):  # (N, T, R)
        normed = layer_norm(tokens, adapter, 'attention_norm')
        return tokens + attention(normed, state, heads=1, causal=False)

    return affine(over_time(x, encode), adapter, 'up')


def fru_block(x, block, adapter, heads, quick, beside):
    """Compute a block with the adapter beside its 'mlp' or the 'block', (N, T, L, W) -> same."""
    given = x
    x = x + within_frames(x, lambda tokens: attend(tokens, block, heads))
    normed = layer_norm(x, block, 'ln_2')
    read = normed if beside == 'mlp' else given
    return x + mlp(normed, block, quick) + recalibrate(read, adapter)


def lora_weight(weight, down, up, alpha):
    """Add alpha / rank times the product of up (outputs, rank) and down (rank, inputs)."""
    rank = len(down)
    product = sum(torch.outer(up[:, i], down[i]) for i in range(rank))
    return weight + alpha / rank * product


def encode_frames(clip_state, frames, positions, run_block):
    """Encode frames (N, T, 3, H, W) to vectors (N, T, D), read at the class token.

    Args:
        clip_state: The weights of CLIP.
        frames: The preprocessed frames.
        positions: What is added to all tokens of each frame before the first LayerNorm, (T, W).
        run_block: Function of the number of a block, its weights and its input (N, T, L, W).
    """
    visual = under(clip_state, 'visual.')
    kernel = visual['conv1.weight']
    size = kernel.shape[-1]
    patches = frames.unfold(3, size, size).unfold(4, size, size)  # (N, T, 3, rows, columns, p, p)
    patches = torch.einsum('ntcyxpq,wcpq->ntyxw', patches, kernel).flatten(2, 3)
    first = visual['class_embedding'].expand(*frames.shape[:2], 1, -1)
    x = torch.cat([first, patches], dim=2) + visual['positional_embedding']
    x = layer_norm(x + positions[:, None], visual, 'ln_pre')
    blocks = under(visual, 'transformer.resblocks.')
    for number in range(len({name.split('.')[0] for name in blocks})):
        x = run_block(number, under(blocks, f'{number}.'), x)
    return layer_norm(x[:, :, 0], visual, 'ln_post') @ visual['proj']
