"""Necks that read time: what they share, the temporal transformer, LSTM and GRU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmaction.registry import MODELS

from mmdfer.errors import DFERError


class TemporalNeck(BaseModule):
    """The frames of a clip become one vector, over a frozen CLIP or MMAction2's own backbones.

    In CLIPRecognizer it takes frame vectors, and a class is the mean of its sentences. As the neck
    of MMAction2's own recognizers it has no text side, pools space and maps C to D: under
    Recognizer2D it takes the list of (N, C, T, h, w), under Recognizer3D a map (N, C, T, h, w) or
    a tuple of them, and returns (N, D, 1, 1, 1).

    A subclass gives :meth:`encode_frames`; one that reads sentences otherwise, :meth:`text` and
    :meth:`text_side` too.

    Args:
        dims: D, the width of the vectors.
        in_channels: C, the channels of the feature maps of another backbone, mapped to D. None
            where the frames are of width D already, as CLIP's vectors are.
        in_index: Which of several feature maps is read.
    """

    def __init__(
        self, dims: int, in_channels: int | None = None, in_index: int = -1, init_cfg: Any = None
    ) -> None:
        super().__init__(init_cfg)
        self.dims, self.in_index = dims, in_index
        if in_channels is not None:
            self.projection = nn.Linear(in_channels, dims)

    def forward(
        self, x: Tensor | Sequence[Tensor], data_samples: Any = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Makes one vector of each clip's frames.

        Args:
            x: (N, T, D) frame vectors; or (N, C, T, h, w), alone or one of several.
            data_samples: Unused; MMAction2 passes it to every neck.

        Returns:
            (N, D), or (N, D, 1, 1, 1) for feature maps, and a dict of auxiliary losses (none).

        Raises:
            DFERError: Feature maps of an unusable shape.
        """
        if isinstance(x, Tensor) and x.ndim == 3:
            return self.encode_frames(x), {}
        frames = self._frames_of_map(x)  # (N, T, D)
        return self.encode_frames(frames)[:, :, None, None, None], {}

    def encode_frames(self, frames: Tensor) -> Tensor:
        """Makes one vector of each clip's frame vectors, (N, T, D) -> (N, D)."""
        raise NotImplementedError

    def text(self, sentences: Tensor) -> Tensor:
        """Makes one vector of each class's sentences, (C, S, D) -> (C, D): their mean."""
        return sentences.mean(1)

    def text_side(self) -> list[Tensor]:
        """The tensors that :meth:`text` reads: none."""
        return []

    def _frames_of_map(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        """(N, C, T, h, w), alone or one of several, -> (N, T, D)."""
        name = type(self).__name__
        feature = x if isinstance(x, Tensor) else x[self.in_index]
        if feature.ndim != 5:
            raise DFERError(
                f'{name}: feature maps of shape {tuple(feature.shape)}, not (N, C, T, h, w). Under '
                'Recognizer2D the backbone needs two or more out_indices, for instance '
                'out_indices=(2, 3): MMAction2 slices a single map wrongly'
            )
        frames = feature.mean((3, 4)).transpose(1, 2)  # (N, C, T, h, w) -> (N, T, C)
        if hasattr(self, 'projection'):
            return self.projection(frames)
        if frames.shape[2] != self.dims:
            raise DFERError(f'{name}: set in_channels={frames.shape[2]}, the channels of the maps')
        return frames


def stretch_positions(position: Tensor, length: int) -> Tensor:
    """Learned positions (learned, D) for a sequence of another length, -> (length, D)."""
    if length == len(position):
        return position
    return F.interpolate(position.T[None], size=length, mode='linear', align_corners=True)[0].T


class TransformerLayer(nn.Module):
    """A pre-norm transformer layer without biases in q, k and v, as DFER-CLIP's code has it.

    Args:
        dims: D.
        heads: Of the attention.
        mlp: The hidden width of the MLP, whose GELU is in its tanh form.
    """

    def __init__(self, dims: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dims), nn.LayerNorm(dims)
        self.qkv, self.out = nn.Linear(dims, 3 * dims, bias=False), nn.Linear(dims, dims)
        self.mlp = nn.Sequential(
            nn.Linear(dims, mlp), nn.GELU(approximate='tanh'), nn.Linear(mlp, dims)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Relate the rows of (N, L, D) with one another, to the same shape."""
        qkv = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*qkv)  # (N, heads, L, d)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


@MODELS.register_module()
class TemporalTransformer(TemporalNeck):
    """A transformer over the frames, read at a class token (DFER-CLIP, Sec. 3.2).

    From the paper: one layer, 8 heads, an MLP of 1024, the class token. From the authors' code
    (zengqunzhao/DFER-CLIP): pre-norm layers without dropout, q, k and v without biases, GELU in its
    tanh form, no norm at the end; class token and positions drawn from N(0, 1), for frame vectors
    that are not normalised. ResNet18-ViT has the same over a ResNet.

    Args:
        dims: D, a multiple of ``heads``.
        in_channels: As in TemporalNeck.
        depth: The number of layers.
        heads: Of the attention.
        mlp: The hidden width of the MLP.
        num_frames: Positions that are learned; other lengths interpolate between them (ours).
        std: Of the class token and the positions when they are drawn. 0.02 suits frame vectors of
            unit length (ours).
        kwargs: As for TemporalNeck.

    Raises:
        DFERError: ``heads`` does not divide D.
    """

    def __init__(
        self,
        dims: int,
        in_channels: int | None = None,
        depth: int = 1,
        heads: int = 8,
        mlp: int = 1024,
        num_frames: int = 16,
        std: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(dims, in_channels, **kwargs)
        if dims % heads:
            raise DFERError(f'TemporalTransformer: heads={heads} does not divide dims={dims}')
        self.class_token = nn.Parameter(std * torch.randn(dims))
        self.class_position = nn.Parameter(std * torch.randn(dims))
        self.position = nn.Parameter(std * torch.randn(num_frames, dims))
        self.layers = nn.Sequential(*(TransformerLayer(dims, heads, mlp) for _ in range(depth)))

    def encode_frames(self, frames: Tensor) -> Tensor:
        """Read (N, T, D) behind the class token, and give what the token has become, (N, D)."""
        token = (self.class_token + self.class_position).expand(len(frames), 1, -1)  # (N, 1, D)
        frames = frames + stretch_positions(self.position, frames.shape[1])
        return self.layers(torch.cat([token, frames], dim=1))[:, 0]


class RecurrentNeck(TemporalNeck):
    """The last state of a recurrent net over the frames.

    Args:
        dims: D, the width of the frames and of the vector.
        in_channels: As in TemporalNeck.
        hidden: Units of each direction. By default as many as make the state D wide; a state of
            another width is mapped to D.
        layers: Of the net; the state of the last is read.
        bidirectional: Whether a second net reads the frames backwards; the state is then both.
        kwargs: As for TemporalNeck.
    """

    net: type[nn.RNNBase]

    def __init__(
        self,
        dims: int,
        in_channels: int | None = None,
        hidden: int | None = None,
        layers: int = 1,
        bidirectional: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(dims, in_channels, **kwargs)
        self.directions = 1 + bidirectional
        hidden = hidden or dims // self.directions
        self.recurrent = self.net(
            dims, hidden, layers, batch_first=True, bidirectional=bidirectional
        )
        width = hidden * self.directions
        self.out = nn.Identity() if width == dims else nn.Linear(width, dims)

    def encode_frames(self, frames: Tensor) -> Tensor:
        """Reads (N, T, D) in order, and gives the last state, (N, D)."""
        state = self.recurrent(frames)[1]
        state = state[0] if isinstance(state, tuple) else state  # an LSTM keeps its cell apart
        last = state[-self.directions :]  # (layers * directions, N, hidden) -> the last layer's
        return self.out(last.transpose(0, 1).flatten(1))


@MODELS.register_module()
class LSTMNeck(RecurrentNeck):
    """The last hidden state of an LSTM over the frames; arguments as in RecurrentNeck."""

    net = nn.LSTM


@MODELS.register_module()
class GRUNeck(RecurrentNeck):
    """The last state of a GRU over the frames; arguments as in RecurrentNeck."""

    net = nn.GRU
