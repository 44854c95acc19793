"""The fast path through CLIP's frozen transformers, on open_clip's own weights.

It computes what open_clip's forward does, up to rounding, with less work:

- The last block is run for the position that is read only: the class token, the end token.
- What is affine and stands before a frozen product is multiplied into it once: LayerNorm's scale
  and shift, the scale of attention, the biases of values. The bias of keys shifts all scores of a
  query alike, which softmax ignores. QuickGELU(h) = silu(1.702 h) / 1.702.
- Under autocast these derived weights are in its dtype from the start, not cast in each pass.
- A pass is as long as the CPU likes it, whatever the batch.

The derived weights are copies, remade when a parameter changes or moves, and never saved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from open_clip import CLIP
from open_clip.transformer import (
    QuickGELU,
    ResidualAttentionBlock,
    TextTransformer,
    Transformer,
    VisionTransformer,
)
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmdfer.models.backbones.packed_linear import Linear, frozen_linear
from mmdfer.models.tensor_cache import TensorCache

# Rows (images or sentences x positions) of one pass. On the CPU the MLP's hidden values then stay
# below 32 MB in float32, above which malloc asks the system for fresh pages at each product
# (measured: 157 GFLOP/s in place of 189).
ROWS_PER_PASS = {'cpu': 1900}
ROWS_PER_PASS_ELSEWHERE = 64 * 1024

_KNOWN_MLPS = [[nn.Linear, activation, nn.Linear] for activation in (QuickGELU, nn.GELU)]


class Block(NamedTuple):
    """One transformer block's derived weights."""

    query: Linear  # W -> W
    key_value: Linear  # W -> 2W
    out: Linear  # W -> W
    hidden: Linear  # W -> 4W
    proj: Linear  # 4W -> W
    activation: Callable[[Tensor], Tensor]
    heads: int
    eps: float


class Weights(NamedTuple):
    """A transformer's derived weights with those of the projection that follows it."""

    blocks: list[Block]
    head: Linear  # W -> D, ln_post or ln_final included
    eps: float
    patch: Linear | None = None  # 3 * p * p -> W, an image tower's


class FrozenTower:
    """What the two towers share: when the fast path may be taken, and the derived weights.

    Args:
        transformer: open_clip's.
        norm: The LayerNorm after it.
        projection: (W, D), what follows; a linear layer; or None.
        watched: The modules whose hooks and trained parameters rule the fast path out.
        gradient: Whether gradients run back through the tower.
    """

    def __init__(
        self,
        transformer: Transformer,
        norm: nn.LayerNorm,
        projection: Tensor | nn.Linear | None,
        watched: tuple[nn.Module, ...],
        gradient: bool = False,
    ) -> None:
        self.transformer, self.norm, self.projection = transformer, norm, projection
        self.watched, self.gradient = watched, gradient
        self._derived = TensorCache()

    def set_mode(self, training: bool) -> None:
        """Tell the derived weights of a switch of mode, around which hooks may swap weights."""
        self._derived.set_mode(training)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the derived weights out of copies."""
        return {**self.__dict__, '_derived': TensorCache()}

    @property
    def applies(self) -> bool:
        """Whether the tower is frozen, made of the parts known here, and watched by no hook."""
        if any(tensor.requires_grad for tensor in self._tensors()):
            self._derived.clear()
            return False
        modules = [module for part in self.watched for module in part.modules()]
        return (
            type(self.transformer) is Transformer
            and all(map(_is_known, self.transformer.resblocks))
            and isinstance(self.norm, nn.LayerNorm)
            and not any(m._forward_hooks or m._forward_pre_hooks for m in modules)
        )

    def weights(self, dtype: torch.dtype) -> Weights:
        """Return the derived weights, computed again where a weight has changed."""

        def fold() -> Weights:
            # Training may use what inference made, so it must not be an inference tensor.
            with torch.inference_mode(False), torch.no_grad():
                return self._fold(dtype)

        return self._derived.get(dtype, self._tensors(), fold)

    def dtype(self) -> torch.dtype:
        """What to compute in: autocast's dtype, or the weights' own."""
        device = self.norm.weight.device.type
        if torch.is_autocast_enabled(device):
            return torch.get_autocast_dtype(device)
        return self.norm.weight.dtype

    def _tensors(self) -> list[Tensor]:
        tensors: list[Tensor] = [p for part in self.watched for p in part.parameters()]
        if isinstance(self.projection, nn.Linear):
            return [*tensors, *self.projection.parameters()]
        return tensors if self.projection is None else [*tensors, self.projection]

    def _linear(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Linear:
        bias = None if bias is None else bias.detach().to(dtype)
        return frozen_linear(weight.detach().to(dtype).contiguous(), bias, self.gradient)

    def _fold(self, dtype: torch.dtype) -> Weights:
        blocks = [self._fold_block(block, dtype) for block in self.transformer.resblocks]
        weight, bias = _fold_norm(self.norm, *self._projection())
        return Weights(blocks, self._linear(weight, bias, dtype), self.norm.eps)

    def _projection(self) -> tuple[Tensor, Tensor | float]:
        """Return weight (D, W) and bias of the product that follows the transformer."""
        if self.projection is None:
            return torch.eye(self.transformer.width, device=self.norm.weight.device), 0
        if isinstance(self.projection, nn.Linear):
            bias = self.projection.bias
            return self.projection.weight, 0 if bias is None else bias
        return self.projection.T, 0

    def _fold_block(self, block: ResidualAttentionBlock, dtype: torch.dtype) -> Block:
        attention, mlp = block.attn, block.mlp
        weight, bias = _fold_norm(block.ln_1, attention.in_proj_weight, attention.in_proj_bias)
        (query, key, value), (query_bias, _, value_bias) = weight.chunk(3), bias.chunk(3)
        scale = attention.head_dim**-0.5
        # The weights of attention sum to one: a bias of the values passes through it unchanged.
        out, out_bias = attention.out_proj.weight, attention.out_proj.bias
        out_bias = out_bias + out @ value_bias
        hidden, hidden_bias = _fold_norm(block.ln_2, mlp.c_fc.weight, mlp.c_fc.bias)
        quick = 1.702 if isinstance(mlp.gelu, QuickGELU) else 1
        return Block(
            self._linear(scale * query, scale * query_bias, dtype),
            self._linear(torch.cat([key, value]), None, dtype),
            self._linear(out, out_bias, dtype),
            self._linear(quick * hidden, quick * hidden_bias, dtype),
            self._linear(mlp.c_proj.weight / quick, mlp.c_proj.bias, dtype),
            F.gelu if quick == 1 else F.silu,
            attention.num_heads,
            block.ln_1.eps,
        )


class ImageTower(FrozenTower):
    """open_clip's VisionTransformer, read at the class token.

    Args:
        visual: The tower. Another module is taken too, for which ``applies`` is False.
    """

    def __init__(self, visual: VisionTransformer) -> None:
        self.visual, self._derived = visual, TensorCache()
        if self._is_known():
            super().__init__(visual.transformer, visual.ln_post, visual.proj, (visual,))

    @property
    def applies(self) -> bool:
        """Whether the tower is frozen, made of the parts known here, and watched by no hook."""
        return self._is_known() and super().applies

    def __call__(self, images: Tensor) -> Tensor:
        """Encodes images (N, 3, H, W) to (N, D), without gradient."""
        weights, dtype = self.weights(self.dtype()), self.dtype()
        length = len(self.visual.positional_embedding)
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            count = _per_pass(length, images.device)
            # In sixteens where it can be: 32 images of ViT-B/32 take a tenth less than 38 do, each.
            passes = images.split(count - count % 16 or count)
            return torch.cat([self._encode(part.to(dtype), weights) for part in passes])

    def _fold(self, dtype: torch.dtype) -> Weights:
        kernel = self.visual.conv1.weight.flatten(1)  # (W, 3 * p * p)
        return super()._fold(dtype)._replace(patch=self._linear(kernel, None, dtype))

    def _encode(self, images: Tensor, weights: Weights) -> Tensor:
        assert weights.patch is not None
        visual, dtype = self.visual, images.dtype
        size = visual.patch_size[0]
        # (N, 3, rows * p, columns * p) -> (N, rows * columns, 3 * p * p); faster than a convolution
        patches = images.unflatten(3, (-1, size)).unflatten(2, (-1, size)).permute(0, 2, 4, 1, 3, 5)
        patches = weights.patch(patches.flatten(3).flatten(1, 2))  # (N, rows * columns, W)
        position = visual.positional_embedding.to(dtype)
        first = (visual.class_embedding.to(dtype) + position[0]).expand(len(images), 1, -1)
        x = torch.cat([first, patches + position[1:]], dim=1)  # (N, L, W)
        norm = visual.ln_pre
        x = F.layer_norm(x, x.shape[-1:], norm.weight.to(dtype), norm.bias.to(dtype), norm.eps)
        for block in weights.blocks[:-1]:
            x = _run(block, x)
        read = torch.zeros(len(x), dtype=torch.long, device=x.device)
        return _read(weights, x, read)

    def _is_known(self) -> bool:
        visual = self.visual
        return (
            type(visual) is VisionTransformer
            and visual.pool_type == 'tok'
            and visual.attn_pool is None
            and not visual.output_tokens
            and visual.patch_size[0] == visual.patch_size[1]
            and isinstance(visual.ln_pre, nn.LayerNorm)
        )


class TextTower(FrozenTower):
    """open_clip's causal text transformer, read at the end token; gradients reach its input.

    Args:
        text: The module that holds ``transformer``, ``ln_final`` and ``text_projection``.
    """

    def __init__(self, text: CLIP | TextTransformer) -> None:
        watched = (text.transformer, text.ln_final)
        super().__init__(text.transformer, text.ln_final, text.text_projection, watched, True)

    def __call__(self, x: Tensor, ends: Tensor, activations_gb: float) -> Tensor:
        """Encodes sentences, some at a time.

        Args:
            x: (P, L, W), position embeddings added.
            ends: (P,), the position of each end token.
            activations_gb: How much to keep for the backward pass, in GB. The passes beyond that
                are computed again there, to the same bits.

        Returns:
            (P, D).
        """
        weights, dtype = self.weights(self.dtype()), self.dtype()
        count = _per_pass(x.shape[1], x.device)
        kept: float = len(x)
        if torch.is_grad_enabled() and x.requires_grad:
            kept = 1e9 * activations_gb / self._activations(x.shape[1], dtype)
        encoded = []
        with torch.autocast(x.device.type, enabled=False):
            for start in range(0, len(x), count):
                part = x[start : start + count].to(dtype), ends[start : start + count]
                # Backwards the last come first, and are gone before others are computed again.
                if len(x) - start <= kept:
                    encoded.append(_encode_text(weights, *part))
                else:
                    encoded.append(checkpoint(_encode_text, weights, *part, use_reentrant=False))
        return torch.cat(encoded)

    def _activations(self, length: int, dtype: torch.dtype) -> int:
        """The bytes that a sentence keeps: in each block but the last 10 W a position.

        They are the block's input, query, keys, values, what attention gives, and the MLP's input
        (each W), and its hidden values (4W).
        """
        transformer = self.transformer
        return 10 * transformer.width * length * (transformer.layers - 1) * dtype.itemsize


def _encode_text(weights: Weights, x: Tensor, ends: Tensor) -> Tensor:
    """(P, L, W), (P,) -> (P, D)."""
    places = torch.arange(x.shape[1], device=x.device)
    causal = _mask(places > places[:, None], x.dtype)  # (L, L)
    for block in weights.blocks[:-1]:
        x = _run(block, x, causal)
    after = _mask(places > ends[:, None], x.dtype)  # (P, L)
    return _read(weights, x, ends, after[:, None, None])


def _run(block: Block, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """A block over all positions, (N, L, W) -> (N, L, W)."""
    normed = _normalise(x, block.eps)
    attended = _attend(block.query(normed), block.key_value(normed), block.heads, mask)
    return _finish(block, x, attended)


def _read(weights: Weights, x: Tensor, place: Tensor, mask: Tensor | None = None) -> Tensor:
    """The last block at one position alone, and the projection: (N, L, W), (N,) -> (N, D)."""
    block, rows = weights.blocks[-1], torch.arange(len(x), device=x.device)
    normed = _normalise(x, block.eps)
    query = block.query(normed[rows, place][:, None])  # (N, 1, W)
    attended = _attend(query, block.key_value(normed), block.heads, mask)
    x = _finish(block, x[rows, place][:, None], attended)[:, 0]  # (N, W)
    return weights.head(_normalise(x, weights.eps))


def _finish(block: Block, x: Tensor, attended: Tensor) -> Tensor:
    x = x + block.out(attended)
    return x + block.proj(block.activation(block.hidden(_normalise(x, block.eps))))


def _attend(query: Tensor, key_value: Tensor, heads: int, mask: Tensor | None) -> Tensor:
    """Attention of (N, Q, W) over the keys and values (N, L, 2W), -> (N, Q, W).

    The mask is None, the causal one (L, L), or (N, 1, 1, L); it is added to the scores.

    Chosen by measurement (a block of 28 sentences on one core): torch's fused attention forward in
    all cases, but with its backward, on the CPU in bfloat16, 58 ms, where plain products take 10.
    """
    low = query.device.type == 'cpu' and query.dtype != torch.float32
    if low and torch.is_grad_enabled() and key_value.requires_grad:
        return _PlainAttention.apply(query, key_value, heads, mask)
    query = query.unflatten(-1, (heads, -1)).transpose(1, 2)  # (N, H, Q, d)
    key, value = key_value.unflatten(-1, (2, heads, -1)).permute(2, 0, 3, 1, 4)  # (N, H, L, d)
    causal = mask is not None and mask.ndim == 2  # told so, it skips what is hidden
    mask = None if causal else mask
    out = F.scaled_dot_product_attention(query, key, value, mask, is_causal=causal, scale=1.0)
    return out.transpose(1, 2).flatten(2)


class _PlainAttention(torch.autograd.Function):
    """Attention by matrix products, its gradient written out to spare copies of all heads."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key_value: Tensor, heads: int, mask: Tensor | None
    ) -> Tensor:
        (query,), (key, value) = _split(query, 1, heads), _split(key_value, 2, heads)
        scores = torch.bmm(query, key.transpose(1, 2))  # (N * H, Q, L)
        if mask is not None:
            scores.unflatten(0, (-1, heads)).add_(mask)
        shares = scores.softmax(-1)
        ctx.heads = heads
        ctx.save_for_backward(query, key, value, shares)
        return _join(torch.bmm(shares, value)[None], heads)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, shares = ctx.saved_tensors
        (grad,) = _split(grad, 1, ctx.heads)
        key_value = torch.empty(2, *key.shape, dtype=key.dtype)
        torch.bmm(shares.transpose(1, 2), grad, out=key_value[1])
        scores = torch.bmm(grad, value.transpose(1, 2))
        scores = torch._softmax_backward_data(scores, shares, -1, shares.dtype)
        torch.bmm(scores.transpose(1, 2), query, out=key_value[0])
        query = torch.bmm(scores, key)
        return _join(query[None], ctx.heads), _join(key_value, ctx.heads), None, None


def _split(x: Tensor, parts: int, heads: int) -> Tensor:
    """(N, L, parts * W) -> (parts, N * H, L, d)."""
    return x.unflatten(-1, (parts, heads, -1)).permute(2, 0, 3, 1, 4).flatten(1, 2)


def _join(x: Tensor, heads: int) -> Tensor:
    """(parts, N * H, L, d) -> (N, L, parts * W)."""
    return x.unflatten(1, (-1, heads)).permute(1, 3, 0, 2, 4).flatten(2)


def _normalise(x: Tensor, eps: float) -> Tensor:
    """LayerNorm without its affine part, which the next product holds."""
    return F.layer_norm(x, x.shape[-1:], eps=eps)


def _mask(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """What to add to scores: minus infinity where hidden."""
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill(
        hidden, float('-inf')
    )


def _fold_norm(norm: nn.LayerNorm, weight: Tensor, bias: Tensor | float) -> tuple[Tensor, Tensor]:
    """The product that also does the affine part of the LayerNorm before it."""
    return weight * norm.weight, bias + weight @ norm.bias


def _per_pass(length: int, device: torch.device) -> int:
    """How many sentences or images of ``length`` positions a pass takes."""
    return max(1, ROWS_PER_PASS.get(device.type, ROWS_PER_PASS_ELSEWHERE) // length)


def _is_known(block: nn.Module) -> bool:
    """Whether a block is open_clip's common one: no LayerScale, cross attention or adapter."""
    return (
        type(block) is ResidualAttentionBlock
        and set(dict(block.named_children())) == {'ln_1', 'attn', 'ls_1', 'ln_2', 'mlp', 'ls_2'}
        and [type(part) for part in (block.ls_1, block.ls_2)] == [nn.Identity] * 2
        and isinstance(block.ln_1, nn.LayerNorm)
        and isinstance(block.ln_2, nn.LayerNorm)
        and type(block.attn) is nn.MultiheadAttention
        and isinstance(block.mlp, nn.Sequential)
        and [type(part) for part in block.mlp] in _KNOWN_MLPS
    )
