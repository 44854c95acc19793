"""The neck: the Joint dynamic Alignment Synchronizer of Align-DFER."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmaction.registry import MODELS

from mmdfer.errors import DFERError
from mmdfer.models.necks.temporal_neck import TemporalNeck, stretch_positions
from mmdfer.models.stages import StagedModule


class DynamicEncoder(nn.Module):
    """A transformer over a short sequence of CLIP vectors, that starts as their plain mean.

    Layers are pre-norm, with MLP 4x, GELU and no dropout; their residual branches start at zero,
    so that a layer joins as the identity. A learned position embedding is added for the layers to
    read and taken off again before the mean, so that no layer at all is the plain mean.

    Args:
        dims: D.
        depth: The number of layers when all have joined.
        length: The positions that are learned; other lengths interpolate between them.
    """

    def __init__(self, dims: int, depth: int, length: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.empty(length, dims).normal_(std=0.02))
        self.layers = nn.ModuleList(_layer(dims) for _ in range(depth))

    def forward(self, x: Tensor, layers: int) -> Tensor:
        """Encodes (N, T, D) to (N, D) with the first ``layers`` layers."""
        position = stretch_positions(self.position, x.shape[1])  # (T, D)
        h = x + position
        for layer in self.layers[:layers]:
            h = layer(h)
        return (h - position).mean(1)


def _layer(dims: int) -> nn.TransformerEncoderLayer:
    """One pre-norm layer whose two residual branches start at zero."""
    layer = nn.TransformerEncoderLayer(
        dims,
        nhead=max(1, dims // 64),
        dim_feedforward=4 * dims,
        dropout=0.0,
        activation='gelu',
        batch_first=True,
        norm_first=True,
    )
    for branch in (layer.self_attn.out_proj, layer.linear2):
        nn.init.zeros_(branch.weight)
        nn.init.zeros_(branch.bias)
    return layer


@MODELS.register_module()
class JAS(TemporalNeck, StagedModule):
    """Joint dynamic Alignment Synchronizer: time becomes one vector, sentences become one class.

    It has three encoders (Align-DFER, Sec. 3.3 and 3.4). The stage of training decides which of
    them work:

    ========  =============================  =======================
    stage     video vector                   class vector
    ========  =============================  =======================
    text      plain mean over the frames     text dynamic encoder
    video     image dynamic encoder          text dynamic encoder
    joint     joint encoder                  the same joint encoder
    ========  =============================  =======================

    The buffers ``stage`` and ``layers`` save the stage, and how many of its layers have joined, in
    the checkpoint. Without a BAPHook the neck is as at the end of training: stage joint, all
    layers.

    As the neck of MMAction2's own recognizers it has no text side; see TemporalNeck.

    From the paper: the three encoders, 2 layers over the sentences, 4 over the frames, 4 in the
    joint encoder, whose first 2 start from the image dynamic encoder's. Ours, where it is silent:
    frame vectors and sentences are brought to unit length before (CLIPRecognizer); pre-norm layers
    with D / 64 heads, MLP 4x, GELU, no dropout and no norm at the end; positions drawn from N(0,
    0.02), added for the layers and taken off before the mean over time; layers join as the
    identity.

    Args:
        dims: D, the width of the vectors.
        in_channels: As in TemporalNeck.
        num_frames: Positions learned for frames, and in the joint encoder for sentences too.
        num_sentences: Positions learned by the text dynamic encoder.
        image_layers: Depth of the image dynamic encoder.
        text_layers: Depth of the text dynamic encoder.
        joint_layers: Depth of the joint encoder.
        shared_layers: The layers that the joint encoder takes over from the input side of the
            image dynamic encoder when the joint stage begins.
        in_index: Which of several feature maps is read.

    Raises:
        DFERError: ``shared_layers`` exceeds a depth; feature maps of an unusable shape.
    """

    STAGES = ('text', 'video', 'joint')

    stage: Tensor
    layers: Tensor

    def __init__(
        self,
        dims: int,
        in_channels: int | None = None,
        num_frames: int = 16,
        num_sentences: int = 16,
        image_layers: int = 4,
        text_layers: int = 2,
        joint_layers: int = 4,
        shared_layers: int = 2,
        in_index: int = -1,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(dims, in_channels, in_index, init_cfg)
        if shared_layers > min(image_layers, joint_layers):
            raise DFERError(
                f'JAS: shared_layers={shared_layers} exceeds image_layers={image_layers} or '
                f'joint_layers={joint_layers}'
            )
        self.shared_layers = shared_layers
        self.image_encoder = DynamicEncoder(dims, image_layers, num_frames)
        self.text_encoder = DynamicEncoder(dims, text_layers, num_sentences)
        self.joint_encoder = DynamicEncoder(dims, joint_layers, num_frames)
        self._stage, self._layers = 'joint', joint_layers
        # The same two values as they are saved. Only loading a checkpoint reads them.
        self.register_buffer('stage', torch.tensor(self.STAGES.index(self._stage)))
        self.register_buffer('layers', torch.tensor(self._layers))
        self.register_load_state_dict_post_hook(JAS._read_buffers)

    def encode_frames(self, frames: Tensor) -> Tensor:
        """Make one vector of each clip's frames in the present stage, (N, T, D) -> (N, D)."""
        if self._stage == 'text':
            return frames.mean(1)
        return self._encoder(self._stage)(frames, self._layers)

    def text(self, sentences: Tensor) -> Tensor:
        """Make one vector of each class's sentences, (C, S, D) -> (C, D)."""
        if self._stage == 'joint':
            return self.joint_encoder(sentences, self._layers)
        return self.text_encoder(sentences, len(self.text_encoder.layers))

    def text_side(self) -> list[Tensor]:
        """List the tensors that :meth:`text` depends on in the present stage."""
        encoder = self.joint_encoder if self._stage == 'joint' else self.text_encoder
        return [*encoder.parameters(), self.stage, self.layers]

    # ----------------------------------------------------------------- stages

    @property
    def stage_name(self) -> str:
        """The present stage: text, video or joint."""
        return self._stage

    @property
    def working_layers(self) -> list[nn.Module]:
        """The layers of the present stage's encoder that have joined, the newest last."""
        return list(self._encoder(self._stage).layers[: self._layers])

    def check_stage(self, name: str, grows_at: Sequence[int] | None) -> None:
        """Refuse a stage that JAS does not have, or that adds another number of layers.

        Raises:
            DFERError: One of these.
        """
        if name not in self.STAGES:
            raise DFERError(f'JAS has no stage {name!r}: its stages are {", ".join(self.STAGES)}')
        depth, start = self._growth(name)
        if grows_at is not None and start + len(grows_at) != depth:
            raise DFERError(
                f'stage {name!r}: grows_at={list(grows_at)} adds {len(grows_at)} layers to the '
                f'{start} that it starts with; the encoder has {depth}: give {depth - start} epochs'
            )

    def enter_stage(self, name: str) -> None:
        """Start the joint encoder from the image encoder when the joint stage begins."""
        if name != 'joint':
            return
        with torch.no_grad():
            self.joint_encoder.position.copy_(self.image_encoder.position)
        for ours, theirs in zip(
            self.joint_encoder.layers[: self.shared_layers], self.image_encoder.layers
        ):
            ours.load_state_dict(theirs.state_dict())

    def set_stage(self, name: str, joined: int | None = None) -> None:
        """Switch to a stage.

        Args:
            name: text, video or joint.
            joined: How many layers the stage has added so far, or None for all of them.
        """
        depth, start = self._growth(name)
        layers = depth if joined is None else start + joined
        if (name, layers) != (self._stage, self._layers):
            self._stage, self._layers = name, layers
            self.stage.fill_(self.STAGES.index(name))
            self.layers.fill_(layers)

    def _read_buffers(self, *_: Any) -> None:
        """Take over the stage of the checkpoint that was loaded."""
        self._stage, self._layers = self.STAGES[int(self.stage)], int(self.layers)

    def _encoder(self, stage: str) -> DynamicEncoder:
        """Return the encoder whose layers a stage may add."""
        return {
            'text': self.text_encoder,
            'video': self.image_encoder,
            'joint': self.joint_encoder,
        }[stage]

    def _growth(self, stage: str) -> tuple[int, int]:
        """Return the depth of a stage's encoder, and the number of layers that it starts with."""
        depth = len(self._encoder(stage).layers)
        return depth, dict(text=depth, video=0, joint=self.shared_layers)[stage]


def published_keys(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leaves out of a state dict the encoders that the joint stage has replaced.

    Args:
        state: A recognizer's state dict; one without a JAS, or not yet joint, comes back whole.

    Returns:
        A new dict: after the joint stage neither ``image_encoder`` nor ``text_encoder`` is read.
    """
    joint = JAS.STAGES.index('joint')
    dead = [
        f'{key.removesuffix("stage")}{encoder}.'
        for key, value in state.items()
        if key.endswith('neck.stage') and int(value) == joint
        for encoder in ('image_encoder', 'text_encoder')
    ]
    return {k: v for k, v in state.items() if not k.startswith(tuple(dead))}
