"""Provide the neck of Align-DFER, the Joint dynamic Alignment Synchronizer (JAS)."""

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
    """Encode a short sequence of CLIP vectors to one vector with a transformer.

    Align-DFER uses such an encoder over the frames of a clip and over the sentences of a class. The
    encoder starts as the mean over the sequence: the residual branches of its layers start at zero,
    so a new layer is the identity when it joins. A learned position embedding is added before the
    layers and subtracted before the mean, so that the encoder without layers is exactly the mean.

    Our choice, because the paper does not say it: pre-norm layers with MLP 4x, GELU, no dropout,
    the initial values, and the subtraction of the positions.

    Args:
        dims: D, the width of the vectors.
        depth: Number of layers when all of them have joined.
        length: Number of learned positions. They are interpolated for sequences of other lengths.
    """

    def __init__(self, dims: int, depth: int, length: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.empty(length, dims).normal_(std=0.02))
        self.layers = nn.ModuleList(_layer(dims) for _ in range(depth))

    def forward(self, x: Tensor, layers: int) -> Tensor:
        """Encode sequences (N, T, D) to vectors (N, D) with the first ``layers`` layers."""
        position = stretch_positions(self.position, x.shape[1])  # (T, D)
        h = x + position
        for layer in self.layers[:layers]:
            h = layer(h)
        return (h - position).mean(1)


def _layer(dims: int) -> nn.TransformerEncoderLayer:
    """Build a pre-norm transformer layer whose two residual branches start at zero."""
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
    """Align video vectors and class vectors with the JAS of Align-DFER, Sec. 3.3 and 3.4.

    The Joint dynamic Alignment Synchronizer turns the frame vectors of a clip into a video vector,
    and the sentence vectors of a class into a class vector. It has three encoders. The stage of
    training, which BAPHook sets, decides which encoders work:

    ========  =============================  =======================
    stage     video vector                   class vector
    ========  =============================  =======================
    text      plain mean over the frames     text dynamic encoder
    video     image dynamic encoder          text dynamic encoder
    joint     joint encoder                  the same joint encoder
    ========  =============================  =======================

    The buffers ``stage`` and ``layers`` save the current stage, and the number of its layers that
    have joined, in the checkpoint. Without a BAPHook the neck works as at the end of training:
    stage joint with all layers.

    In MMAction2's own recognizers the neck encodes only frames; see TemporalNeck.

    From the paper: the three encoders, 2 layers over the sentences, 4 layers over the frames, and 4
    layers in the joint encoder. The first 2 layers of the joint encoder are initialised from the
    image dynamic encoder.

    Our choice, because the paper does not say it: CLIPRecognizer scales frame vectors and sentence
    vectors to unit length before the neck; layers are pre-norm with D / 64 heads, MLP 4x, GELU, no
    dropout and no norm at the end; position embeddings are drawn from N(0, 0.02), and they are
    added before the layers and taken off before the mean over time; the joint encoder also takes
    over the position embedding of the image dynamic encoder; new layers join as the identity.

    Args:
        dims: D, the width of the vectors.
        in_channels: Number of channels of feature maps, as for TemporalNeck.
        num_frames: Number of position embeddings that the image dynamic encoder and the joint
            encoder learn. The joint encoder uses them for sentences, too.
        num_sentences: Number of position embeddings that the text dynamic encoder learns.
        image_layers: Number of layers of the image dynamic encoder.
        text_layers: Number of layers of the text dynamic encoder.
        joint_layers: Number of layers of the joint encoder.
        shared_layers: Number of layers that are copied from the input side of the image dynamic
            encoder to the joint encoder when the joint stage begins.
        in_index: Index of the feature map that is read, as for TemporalNeck.
        init_cfg: Passed to mmengine's BaseModule.

    Raises:
        DFERError: If ``shared_layers`` exceeds ``image_layers`` or ``joint_layers``.
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
                f'JAS: shared_layers={shared_layers} must not exceed image_layers={image_layers} '
                f'or joint_layers={joint_layers}'
            )
        self.shared_layers = shared_layers
        self.image_encoder = DynamicEncoder(dims, image_layers, num_frames)
        self.text_encoder = DynamicEncoder(dims, text_layers, num_sentences)
        self.joint_encoder = DynamicEncoder(dims, joint_layers, num_frames)
        self._stage, self._layers = 'joint', joint_layers
        # The buffers save the same two values in the checkpoint. They are read only when a
        # checkpoint is loaded.
        self.register_buffer('stage', torch.tensor(self.STAGES.index(self._stage)))
        self.register_buffer('layers', torch.tensor(self._layers))
        self.register_load_state_dict_pre_hook(JAS._add_unused)
        self.register_load_state_dict_post_hook(JAS._read_buffers)

    def encode_frames(self, frames: Tensor) -> Tensor:
        """Compute one vector for each clip in the current stage, (N, T, D) -> (N, D)."""
        if self._stage == 'text':
            return frames.mean(1)
        return self._encoder(self._stage)(frames, self._layers)

    def text(self, sentences: Tensor) -> Tensor:
        """Compute one vector for each class from its sentences, (C, S, D) -> (C, D)."""
        if self._stage == 'joint':
            return self.joint_encoder(sentences, self._layers)
        return self.text_encoder(sentences, len(self.text_encoder.layers))

    def text_side(self) -> list[Tensor]:
        """Return the tensors, besides its argument, that :meth:`text` reads in the current stage.

        CLIPRecognizer recomputes cached class vectors when one of these tensors changes.
        """
        encoder = self.joint_encoder if self._stage == 'joint' else self.text_encoder
        return [*encoder.parameters(), self.stage, self.layers]

    # ----------------------------------------------------------------- stages

    @property
    def stage_name(self) -> str:
        """Return the name of the current stage: text, video or joint."""
        return self._stage

    @property
    def working_layers(self) -> list[nn.Module]:
        """Return the layers of the current stage's encoder that have joined, the newest last."""
        return list(self._encoder(self._stage).layers[: self._layers])

    def check_stage(self, name: str, grows_at: Sequence[int] | None) -> None:
        """Check that JAS has a stage of this name, and that the stage adds all of its layers.

        Args:
            name: Name of the stage, which must be text, video or joint.
            grows_at: Epochs of the stage at which one more layer joins. ``None`` means that all
                layers work from the first epoch of the stage.

        Raises:
            DFERError: If there is no such stage, or if ``grows_at`` adds too many or too few
                layers.
        """
        if name not in self.STAGES:
            raise DFERError(f'JAS has no stage {name!r}; its stages are {", ".join(self.STAGES)}')
        depth, start = self._growth(name)
        if grows_at is not None and start + len(grows_at) != depth:
            raise DFERError(
                f'stage {name!r}: grows_at={list(grows_at)} adds {len(grows_at)} layers to the '
                f'{start} layers at its start, but the encoder has {depth} layers: set grows_at '
                f'to {depth - start} epochs'
            )

    def enter_stage(self, name: str) -> None:
        """Copy the first layers of the image encoder to the joint encoder at the joint stage.

        Args:
            name: Name of the stage that begins. Nothing is copied for text and video.
        """
        if name != 'joint':
            return
        with torch.no_grad():
            self.joint_encoder.position.copy_(self.image_encoder.position)
        for layer, source in zip(
            self.joint_encoder.layers[: self.shared_layers], self.image_encoder.layers
        ):
            layer.load_state_dict(source.state_dict())

    def set_stage(self, name: str, joined: int | None = None) -> None:
        """Switch to a stage.

        Args:
            name: Name of the stage: text, video or joint.
            joined: Number of layers that the stage has added so far. ``None`` means all of them.
        """
        depth, start = self._growth(name)
        layers = depth if joined is None else start + joined
        if (name, layers) != (self._stage, self._layers):
            self._stage, self._layers = name, layers
            self.stage.fill_(self.STAGES.index(name))
            self.layers.fill_(layers)

    def _read_buffers(self, *_: Any) -> None:
        """Take the stage of training and its number of layers from a checkpoint just loaded.

        The buffers ``stage`` and ``layers`` of the checkpoint hold them.
        """
        self._stage, self._layers = self.STAGES[int(self.stage)], int(self.layers)

    def _add_unused(self, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
        """Add what a published checkpoint of the joint stage leaves out, with the present values.

        Nothing reads these encoders in the joint stage; see :func:`drop_unused_encoders`. Without
        this hook, loading would warn of missing keys.
        """
        stage = state.get(f'{prefix}stage')
        if stage is None or self.STAGES[int(stage)] != 'joint':
            return
        own = {prefix + name: value.detach() for name, value in self.state_dict().items()}
        unused = own.keys() - drop_unused_encoders(own | {f'{prefix}stage': stage}).keys()
        if not unused & state.keys():
            state |= {key: own[key] for key in unused}

    def _encoder(self, stage: str) -> DynamicEncoder:
        """Return the encoder to which a stage may add layers."""
        return {
            'text': self.text_encoder,
            'video': self.image_encoder,
            'joint': self.joint_encoder,
        }[stage]

    def _growth(self, stage: str) -> tuple[int, int]:
        """Return the depth of a stage's encoder and the number of layers at its start."""
        depth = len(self._encoder(stage).layers)
        return depth, dict(text=depth, video=0, joint=self.shared_layers)[stage]


def drop_unused_encoders(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the encoders that the joint encoder has replaced from a recognizer's state dict.

    In the joint stage, JAS reads neither the image dynamic encoder nor the text dynamic encoder. A
    published checkpoint does not need them.

    Args:
        state: State dict of a recognizer. All entries are kept if the model has no JAS, or if
            training has not reached the joint stage.

    Returns:
        A new state dict without the unused encoders.
    """
    joint = JAS.STAGES.index('joint')
    dead = [
        f'{key.removesuffix("stage")}{encoder}.'
        for key, value in state.items()
        if key.endswith('neck.stage') and int(value) == joint
        for encoder in ('image_encoder', 'text_encoder')
    ]
    return {k: v for k, v in state.items() if not k.startswith(tuple(dead))}
