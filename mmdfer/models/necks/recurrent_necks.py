"""Necks that read frame vectors with an LSTM or a GRU."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mmaction.registry import MODELS

from mmdfer.models.necks.temporal_neck import TemporalNeck


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

    net: type[nn.LSTM] | type[nn.GRU]

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
