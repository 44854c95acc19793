"""Run CLIP's frozen transformers faster than open_clip does, on open_clip's own weights.

The result of this fast path equals that of open_clip's forward pass up to rounding. The following
changes save work:

- The last transformer block is computed only for the position that is read: the class token of an
  image or the end token of a sentence.
- Affine operations before a product with frozen weights are multiplied into the weights once: the
  scale and shift of LayerNorm, the scale of attention, and the biases of the values. The bias of
  the keys is dropped, because it shifts all attention scores of a query equally and softmax ignores
  such a shift. QuickGELU(h) is computed as silu(1.702 h) / 1.702.
- Under autocast these derived weights are stored in the low-precision dtype, instead of being cast
  in each pass.
- The number of rows in one pass is chosen for the speed of the CPU and does not depend on the batch
  size.

The derived weights are copies. They are recomputed when a parameter of the tower changes or moves
to another device, and they are never saved.
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

from mmdfer.models.attention import attend
from mmdfer.models.backbones.packed_linear import Linear, frozen_linear
from mmdfer.models.tensor_cache import TensorCache

# Maximal number of rows (images or sentences x positions) of one pass. On the CPU, this limit keeps
# the hidden values of the MLP below 32 MB in float32. Above 32 MB, malloc requests new pages from
# the system for each product (measured: 157 GFLOP/s instead of 189).
ROWS_PER_PASS = {'cpu': 1900}
ROWS_PER_PASS_ELSEWHERE = 64 * 1024

_KNOWN_MLPS = [[nn.Linear, activation, nn.Linear] for activation in (QuickGELU, nn.GELU)]


class Block(NamedTuple):
    """Hold the derived weights of one transformer block.

    Each field of type ``Linear`` is a function, with the input and output widths in its comment.
    """

    query: Linear  # W -> W
    key_value: Linear  # W -> 2W
    out: Linear  # W -> W
    hidden: Linear  # W -> 4W
    proj: Linear  # 4W -> W
    activation: Callable[[Tensor], Tensor]
    heads: int
    eps: float


class Weights(NamedTuple):
    """Hold the derived weights of a transformer and of the projection that follows it."""

    blocks: list[Block]
    head: Linear  # W -> D, includes the affine part of ln_post or ln_final
    eps: float
    patch: Linear | None = None  # 3 * p * p -> W, only in an image tower


class FrozenTower:
    """Run a frozen transformer of open_clip on the fast path that this module describes.

    This is the base class of ImageTower and TextTower. It keeps the derived weights and decides
    whether the fast path is valid. It is not an ``nn.Module``, so the parameters of the tower are
    not registered a second time in FrozenCLIP.

    Args:
        transformer: The transformer of an open_clip tower.
        norm: The LayerNorm that follows the transformer.
        projection: The projection that follows the LayerNorm: a matrix (W, D), a linear layer, or
            ``None``.
        watched: Modules that must be frozen and without forward hooks for the fast path to be used.
        gradient: Whether the backward pass computes gradients with respect to the input of the
            tower.
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
        """Tell the cache of the derived weights that the model switches between training and eval.

        Hooks such as EMAHook may swap the weights at such a switch.

        Args:
            training: Whether the model is in training mode.
        """
        self._derived.set_mode(training)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickling and copying, without the derived weights."""
        return {**self.__dict__, '_derived': TensorCache()}

    @property
    def applies(self) -> bool:
        """Return whether the fast path is valid for this tower.

        It is valid if the tower is frozen, consists of the module types that the fast path
        reproduces, and has no forward hooks. If it is not valid, the caller has to use open_clip's
        forward pass.
        """
        if any(tensor.requires_grad for tensor in self._tensors()):
            self._derived.clear()
            return False
        modules = [module for part in self.watched for module in part.modules()]
        return (
            is_plain_transformer(self.transformer)
            and isinstance(self.norm, nn.LayerNorm)
            and not any(m._forward_hooks or m._forward_pre_hooks for m in modules)
        )

    def weights(self, dtype: torch.dtype) -> Weights:
        """Return the derived weights in a dtype, recomputed if the tower's weights have changed."""

        def fold() -> Weights:
            """Compute the derived weights as normal tensors, even in inference mode."""
            # Weights that are derived during inference are reused in training. Autograd cannot use
            # inference tensors, so inference mode is turned off here.
            with torch.inference_mode(False), torch.no_grad():
                return self._fold(dtype)

        return self._derived.get(dtype, self._tensors(), fold)

    def dtype(self) -> torch.dtype:
        """Return the dtype to compute in: autocast's if it is enabled, else that of the weights."""
        device = self.norm.weight.device.type
        if torch.is_autocast_enabled(device):
            return torch.get_autocast_dtype(device)
        return self.norm.weight.dtype

    def _tensors(self) -> list[Tensor]:
        """List the tensors that the derived weights are computed from."""
        tensors: list[Tensor] = [p for part in self.watched for p in part.parameters()]
        if isinstance(self.projection, nn.Linear):
            return [*tensors, *self.projection.parameters()]
        return tensors if self.projection is None else [*tensors, self.projection]

    def _linear(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Linear:
        """Return the product with a frozen weight as a function of its input."""
        bias = None if bias is None else bias.detach().to(dtype)
        return frozen_linear(weight.detach().to(dtype).contiguous(), bias, self.gradient)

    def _fold(self, dtype: torch.dtype) -> Weights:
        """Compute the derived weights of the transformer, the LayerNorm and the projection."""
        blocks = [self._fold_block(block, dtype) for block in self.transformer.resblocks]
        weight, bias = _fold_norm(self.norm, *self._projection())
        return Weights(blocks, self._linear(weight, bias, dtype), self.norm.eps)

    def _projection(self) -> tuple[Tensor, Tensor | float]:
        """Return the weight (D, W) and the bias of the projection that follows the transformer."""
        if self.projection is None:
            return torch.eye(self.transformer.width, device=self.norm.weight.device), 0
        if isinstance(self.projection, nn.Linear):
            bias = self.projection.bias
            return self.projection.weight, 0 if bias is None else bias
        return self.projection.T, 0

    def _fold_block(self, block: ResidualAttentionBlock, dtype: torch.dtype) -> Block:
        """Compute the derived weights of one transformer block."""
        attention, mlp = block.attn, block.mlp
        weight, bias = _fold_norm(block.ln_1, attention.in_proj_weight, attention.in_proj_bias)
        (query, key, value), (query_bias, _, value_bias) = weight.chunk(3), bias.chunk(3)
        scale = attention.head_dim**-0.5
        # Attention weights sum to one, so the bias of the values passes through attention
        # unchanged and can be added to the bias of the output projection.
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
    """Encode images on the fast path with the weights of open_clip's VisionTransformer.

    The result is the projected output of the class token.

    Args:
        visual: The image tower. For another type of tower, such as a ResNet, ``applies`` is False
            and the caller has to call open_clip's tower instead.
        adapted: Whether an adapter changes what the tower computes. ``applies`` is then False.
    """

    def __init__(self, visual: VisionTransformer, adapted: bool = False) -> None:
        self.visual, self.adapted, self._derived = visual, adapted, TensorCache()
        if is_plain_image_tower(visual):
            super().__init__(visual.transformer, visual.ln_post, visual.proj, (visual,))

    @property
    def applies(self) -> bool:
        """Return whether the fast path is valid for this tower, as in FrozenTower."""
        return not self.adapted and is_plain_image_tower(self.visual) and super().applies

    def __call__(self, images: Tensor) -> Tensor:
        """Encode images (N, 3, H, W) to vectors (N, D), without gradients."""
        weights, dtype = self.weights(self.dtype()), self.dtype()
        length = len(self.visual.positional_embedding)
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            count = _count_per_pass(length, images.device)
            # Round down to a multiple of 16 if possible: with ViT-B/32, batches of 32 run 10 %
            # faster per image than batches of 38.
            passes = images.split(count - count % 16 or count)
            return torch.cat([self._encode(part.to(dtype), weights) for part in passes])

    def _fold(self, dtype: torch.dtype) -> Weights:
        """Compute the derived weights, including the patch embedding as a linear product."""
        kernel = self.visual.conv1.weight.flatten(1)  # (W, 3 * p * p)
        return super()._fold(dtype)._replace(patch=self._linear(kernel, None, dtype))

    def _encode(self, images: Tensor, weights: Weights) -> Tensor:
        """Encode the images (N, 3, H, W) of one pass to vectors (N, D)."""
        assert weights.patch is not None
        visual, dtype = self.visual, images.dtype
        size = visual.patch_size[0]
        # (N, 3, rows * p, columns * p) -> (N, rows * columns, 3 * p * p). One product with the
        # patches is faster than a convolution.
        patches = images.unflatten(3, (-1, size)).unflatten(2, (-1, size)).permute(0, 2, 4, 1, 3, 5)
        patches = weights.patch(patches.flatten(3).flatten(1, 2))  # (N, rows * columns, W)
        position = visual.positional_embedding.to(dtype)
        first = (visual.class_embedding.to(dtype) + position[0]).expand(len(images), 1, -1)
        x = torch.cat([first, patches + position[1:]], dim=1)  # (N, L, W)
        norm = visual.ln_pre
        x = F.layer_norm(x, x.shape[-1:], norm.weight.to(dtype), norm.bias.to(dtype), norm.eps)
        for block in weights.blocks[:-1]:
            x = _run_block(block, x)
        class_token = torch.zeros(len(x), dtype=torch.long, device=x.device)  # position 0
        return _run_last_block(weights, x, class_token)


class TextTower(FrozenTower):
    """Encode sentences on the fast path with the weights of open_clip's causal text transformer.

    The result is the projected output of the end token. Gradients flow back to the input
    embeddings.

    Args:
        text: The module that has the attributes ``transformer``, ``ln_final`` and
            ``text_projection``.
    """

    def __init__(self, text: CLIP | TextTransformer) -> None:
        watched = (text.transformer, text.ln_final)
        super().__init__(text.transformer, text.ln_final, text.text_projection, watched, True)

    def __call__(self, x: Tensor, ends: Tensor, activations_gb: float) -> Tensor:
        """Encode sentences in several passes.

        Args:
            x: Embeddings (P, L, W) of P sentences, with position embeddings added.
            ends: Positions (P,) of the end tokens.
            activations_gb: Memory, in GB, for the activations that are kept for the backward pass.
                The passes beyond this memory are recomputed in the backward pass, with bitwise
                equal results.

        Returns:
            Vectors of the sentences (P, D).
        """
        weights, dtype = self.weights(self.dtype()), self.dtype()
        count = _count_per_pass(x.shape[1], x.device)
        kept: float = len(x)
        if torch.is_grad_enabled() and x.requires_grad:
            kept = 1e9 * activations_gb / self._activations(x.shape[1], dtype)
        encoded = []
        with torch.autocast(x.device.type, enabled=False):
            for start in range(0, len(x), count):
                part = x[start : start + count].to(dtype), ends[start : start + count]
                # Keep the activations of the last passes. The backward pass starts with them and
                # frees them before it recomputes the other passes.
                if len(x) - start <= kept:
                    encoded.append(_encode_text(weights, *part))
                else:
                    encoded.append(checkpoint(_encode_text, weights, *part, use_reentrant=False))
        return torch.cat(encoded)

    def _activations(self, length: int, dtype: torch.dtype) -> int:
        """Return the number of bytes that one sentence keeps for the backward pass.

        Each block but the last keeps 10 W values per position: W each for the input of the block,
        the queries, the keys, the values, the output of attention and the input of the MLP, and 4 W
        for the hidden values of the MLP.
        """
        transformer = self.transformer
        return 10 * transformer.width * length * (transformer.layers - 1) * dtype.itemsize


def _encode_text(weights: Weights, x: Tensor, ends: Tensor) -> Tensor:
    """Encode the sentences of one pass: embeddings (P, L, W) and end positions (P,) -> (P, D)."""
    places = torch.arange(x.shape[1], device=x.device)
    causal = _mask(places > places[:, None], x.dtype)  # (L, L)
    for block in weights.blocks[:-1]:
        x = _run_block(block, x, causal)
    after = _mask(places > ends[:, None], x.dtype)  # (P, L)
    return _run_last_block(weights, x, ends, after[:, None, None])


def _run_block(block: Block, x: Tensor, causal: Tensor | None = None) -> Tensor:
    """Apply one transformer block to all positions, (N, L, W) -> (N, L, W).

    ``causal`` is the causal mask (L, L) of a text tower.
    """
    normed = _normalise(x, block.eps)
    query, key_value = block.query(normed), block.key_value(normed)
    attended = attend(query, key_value, block.heads, causal, causal=causal is not None)
    return _finish(block, x, attended)


def _run_last_block(
    weights: Weights, x: Tensor, place: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Apply the last block at one position of each sequence, and then the projection.

    Args:
        weights: Derived weights of the tower.
        x: Output (N, L, W) of the block before the last.
        place: Position (N,) that is read in each sequence.
        mask: Mask of the attention scores, as in :func:`attend`.

    Returns:
        The projected vectors (N, D).
    """
    block, rows = weights.blocks[-1], torch.arange(len(x), device=x.device)
    normed = _normalise(x, block.eps)
    query = block.query(normed[rows, place][:, None])  # (N, 1, W)
    attended = attend(query, block.key_value(normed), block.heads, mask)
    x = _finish(block, x[rows, place][:, None], attended)[:, 0]  # (N, W)
    return weights.head(_normalise(x, weights.eps))


def _finish(block: Block, x: Tensor, attended: Tensor) -> Tensor:
    """Apply the part of a block after attention: output projection, MLP and both residuals."""
    x = x + block.out(attended)
    return x + block.proj(block.activation(block.hidden(_normalise(x, block.eps))))


def _normalise(x: Tensor, eps: float) -> Tensor:
    """Apply LayerNorm without its affine part, which is folded into the next product."""
    return F.layer_norm(x, x.shape[-1:], eps=eps)


def _mask(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a mask to add to attention scores: minus infinity where ``hidden`` is True, else 0."""
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill(
        hidden, float('-inf')
    )


def _fold_norm(norm: nn.LayerNorm, weight: Tensor, bias: Tensor | float) -> tuple[Tensor, Tensor]:
    """Fold the affine part of a LayerNorm into the weight and bias of the product after it."""
    return weight * norm.weight, bias + weight @ norm.bias


def _count_per_pass(length: int, device: torch.device) -> int:
    """Return how many sentences or images of ``length`` positions are encoded in one pass."""
    return max(1, ROWS_PER_PASS.get(device.type, ROWS_PER_PASS_ELSEWHERE) // length)


def is_plain_image_tower(visual: nn.Module) -> bool:
    """Return whether an image tower is a plain VisionTransformer that reads its class token."""
    return (
        type(visual) is VisionTransformer
        and visual.pool_type == 'tok'
        and visual.attn_pool is None
        and not visual.output_tokens
        and visual.patch_size[0] == visual.patch_size[1]
        and isinstance(visual.ln_pre, nn.LayerNorm)
    )


def is_plain_transformer(transformer: Transformer) -> bool:
    """Return whether a transformer consists of open_clip's plain residual attention blocks."""
    return type(transformer) is Transformer and all(map(_is_known, transformer.resblocks))


def _is_known(block: nn.Module) -> bool:
    """Return whether a block is open_clip's plain residual attention block.

    A plain block has no LayerScale, no cross attention, no adapters and a known MLP. LoRA changes
    the type of the attention.
    """
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
