"""Provide necks that read the frame vectors of a clip with an LSTM or a GRU."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mmaction.registry import MODELS

from mmdfer.models.necks.temporal_neck import TemporalNeck


class RecurrentNeck(TemporalNeck):
    """Encode the frames of a clip by the last state of a recurrent network.

    This is the base class of LSTMNeck and GRUNeck. The DFER papers name ResNet18-LSTM and
    VGG13-LSTM in their tables and do not describe them. Our choice: a single layer, one direction
    and the last state, by default.

    Args:
        dims: D, the width of the frame vectors and of the output.
        in_channels: Number of channels of feature maps, as for TemporalNeck.
        hidden: Number of units in each direction. By default the state has width D. A state of
            another width is mapped to D by a linear layer.
        layers: Number of recurrent layers. The state of the last layer is read.
        bidirectional: Whether a second network reads the frames in reverse order. If so, the states
            of both directions are concatenated.
        kwargs: Passed to TemporalNeck.
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
        """Read the frames (N, T, D) in order and return the last state (N, D)."""
        state = self.recurrent(frames)[1]
        state = state[0] if isinstance(state, tuple) else state  # an LSTM returns (hidden, cell)
        # (layers * directions, N, hidden) -> (directions, N, hidden), the state of the last layer
        last = state[-self.directions :]
        return self.out(last.transpose(0, 1).flatten(1))


@MODELS.register_module()
class LSTMNeck(RecurrentNeck):
    """Encode the frames of a clip by the last hidden state of an LSTM; see RecurrentNeck."""

    net = nn.LSTM


@MODELS.register_module()
class GRUNeck(RecurrentNeck):
    """Encode the frames of a clip by the last state of a GRU; see RecurrentNeck."""

    net = nn.GRU
