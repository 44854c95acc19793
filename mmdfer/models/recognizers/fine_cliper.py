"""Provide the recognizer of FineCLIPER, which fuses frames, face parts and captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from mmaction.registry import MODELS

from mmdfer.errors import DFERError
from mmdfer.models.recognizers.clip_recognizer import CLIPRecognizer, FrameFeatures

Level = Literal['frames', 'parts', 'caption']
Fusion = Literal['learned', 'margin', 'mean']

LEVELS: tuple[Level, ...] = get_args(Level)
LEAST_MARGIN = 1e-6  # levels that are all undecided get equal weights


@MODELS.register_module()
class FineCLIPER(CLIPRecognizer):
    """Compare frames, face parts and a caption with the class texts, and fuse the similarities.

    ::

        frames (B,3,T,H,W) ─ backbone, neck ──────► (B,D) ┐
        parts  (B,3,T,H,W) ─ the same weights ────► (B,D) ├─ head.compare ─► one weight for each
        caption            ─ text tower ──────────► (B,D) ┘  level and clip ─► sum ─► head.score

    Parts are pictures of face masks and landmarks. The weights of a clip are zero for the levels
    that it lacks, and nothing else shows that it lacks them: there is no bias and no token. A clip
    without any of the levels has equal logits for all classes.

    The weights of the levels that a clip has are computed in one of three forms:

    - ``'learned'``: the exponential of one learned scalar for each level, zero at the start. So the
      class probabilities of the levels are multiplied, each with a learned exponent. The weight of
      a single level keeps its start.
    - ``'margin'``: how decided the level is on this clip, which is the difference of its two
      largest class probabilities, divided by the sum over the levels of the clip.
    - ``'mean'``: equal, with a sum of one.

    Each level trains by the loss of its own similarities. The loss of the fused similarities trains
    the learned weights only. So no level relies on another, which a clip may lack, and a level that
    only some classes have cannot teach the other levels that a clip without it belongs to the
    remaining classes (docs/methods.md).

    From the paper (FineCLIPER, arXiv 2407.02157): the three levels, which are frames, face parts
    and landmarks, and descriptions of the clip. No public code exists.

    Our choice, because the paper's text beyond its abstract could not be read: parts pass through
    the backbone and the neck of the frames; there is one caption for each clip, and its vector is
    compared with the class vectors without a neck; all forms of the weights; similarities are
    summed rather than probabilities; what each loss trains; the loss of a level is the sum over the
    clips that have the level, divided by the number of all clips of the batch. (A loss with
    ``class_weight`` divides by the sum of the weights within the clips that have the level.)

    Args:
        backbone: Config of a FrozenCLIP, as for CLIPRecognizer.
        cls_head: Config of a text head, such as TwoSidedHead. Heads whose prompts depend on the
            clip (CoCoOpHead) are not supported.
        neck: Config of a neck, as for CLIPRecognizer. Losses that it adds are those of the frames.
        data_preprocessor: Config of the data preprocessor, which also normalises the parts.
        levels: The levels in use, out of ``'frames'``, ``'parts'`` and ``'caption'``.
        fusion: Form of the weights, ``'learned'``, ``'margin'`` or ``'mean'``.
        kwargs: Passed to CLIPRecognizer.

    Raises:
        DFERError: If a level or the form of the fusion is unknown, or if the head or the blending
            of the preprocessor is not supported.
    """

    def __init__(
        self,
        backbone: dict,
        cls_head: dict,
        neck: dict | None = None,
        data_preprocessor: dict | None = None,
        levels: Sequence[Level] = ('frames', 'parts', 'caption'),
        fusion: Fusion = 'learned',
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone, cls_head, neck, data_preprocessor, **kwargs)
        self.levels, self.fusion = tuple(levels), fusion
        self._check_options()
        # There is one for each known level, whatever the levels and the form of the weights are, so
        # that a checkpoint can be tested with others.
        scalars = torch.zeros(len(LEVELS))
        # The class with the largest logit does not depend on the weight of a single level.
        self._learns_weights = fusion == 'learned' and len(self.levels) > 1
        if self._learns_weights:
            self.level_scalars: Tensor = nn.Parameter(scalars)
        else:
            self.register_buffer('level_scalars', scalars)

    def _check_options(self) -> None:
        """Raise DFERError if the options do not fit each other."""
        if not self.levels or sorted(set(self.levels)) != sorted(self.levels):
            raise DFERError(
                f'FineCLIPER: levels={list(self.levels)} must name at least one level and '
                'no level twice'
            )
        if unknown := [level for level in self.levels if level not in LEVELS]:
            raise DFERError(
                f'FineCLIPER: levels has {unknown[0]!r}, but the levels are {", ".join(LEVELS)}'
            )
        if self.fusion not in get_args(Fusion):
            raise DFERError(
                f'FineCLIPER: fusion must be {", ".join(get_args(Fusion)[:-1])} or '
                f'{get_args(Fusion)[-1]}, got {self.fusion!r}'
            )
        if self.cls_head.conditioned:
            raise DFERError(
                f'FineCLIPER: the prompts of {type(self.cls_head).__name__} depend on the clip, so '
                'there is no class vector for a caption: use another cls_head, such as TwoSidedHead'
            )
        blending = getattr(self.data_preprocessor, 'blending', None)
        if blending is not None and self.levels != ('frames',):
            raise DFERError(
                'model.data_preprocessor.blending mixes the frames of two clips, but not their '
                "parts and captions: remove blending, or set model.levels=('frames',)"
            )

    # ---------------------------------------------------------------- modes

    def forward(
        self,
        inputs: Tensor | None = None,
        data_samples: Any = None,
        mode: str = 'tensor',
        features: Tensor | None = None,
        encoder: Sequence[str] | str = (),
        **kwargs: Any,
    ) -> Any:
        """Run the model as CLIPRecognizer does, on frames and on what the samples carry.

        Args:
            inputs: Frames (B, views, 3, T, H, W).
            data_samples: Samples of the batch, which :func:`read_levels` reads in every mode.
            mode: ``'tensor'``, ``'predict'`` or ``'loss'``, as in BaseRecognizer.
            features: Frame vectors (B, views, T, D) instead of ``inputs``, as for CLIPRecognizer.
            encoder: Digest of the encoder of the features, as for CLIPRecognizer.
            kwargs: Passed to CLIPRecognizer.
        """
        if mode == 'tensor':
            kwargs['samples'] = data_samples
        return super().forward(inputs, data_samples, mode, features, encoder, **kwargs)

    def _forward(
        self, inputs: Tensor | FrameFeatures, stage: str = 'backbone', samples: Any = None
    ) -> Tensor:
        """Return the features of a stage, as :meth:`extract_feat` does."""
        return self.extract_feat(inputs, stage, samples)[0]

    def extract_feat(
        self,
        inputs: Tensor | FrameFeatures,
        stage: str = 'neck',
        data_samples: Any = None,
        test_mode: bool = False,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Extract the vectors of the frames, or the logits of all levels together.

        Args:
            inputs: Frames (B, views, 3, T, H, W), or their features.
            stage: ``'backbone'`` and ``'neck'`` return what CLIPRecognizer returns for the frames.
                ``'head'`` returns logits (B * views, C) of all levels.
            data_samples: Samples of the batch, which carry the other levels. Without them the clips
                have frames only.
            test_mode: Ignored. BaseRecognizer passes it.
        """
        if stage != 'head':
            return super().extract_feat(inputs, stage)
        similarities, present, _ = self._compare_levels(inputs, data_samples, training=False)
        return self.cls_head.score(self._fuse(similarities, present)), {}

    def predict(
        self, inputs: Tensor | FrameFeatures, data_samples: Sequence[Any], **kwargs: Any
    ) -> Sequence[Any]:
        """Write the predictions of all levels together into the samples, and return the samples."""
        logits, _ = self.extract_feat(inputs, 'head', data_samples)
        return self.cls_head.predict_by_feat(logits, data_samples)

    def val_step(self, data: Any) -> Sequence[Any]:
        """Predict a batch, and return samples without their pictures of face parts."""
        return _drop_parts(super().val_step(data))

    def test_step(self, data: Any) -> Sequence[Any]:
        """Predict a batch, and return samples without their pictures of face parts."""
        return _drop_parts(super().test_step(data))

    def loss(
        self, inputs: Tensor | FrameFeatures, data_samples: Sequence[Any], **kwargs: Any
    ) -> dict[str, Tensor]:
        """Compute the loss of each level, and the loss of the fused similarities.

        Args:
            inputs: Frames (B, 1, 3, T, H, W), or their features.
            data_samples: Samples of the batch, with labels and the other levels.
            kwargs: Ignored. BaseRecognizer passes them.

        Returns:
            ``loss_<level>`` of each level, the accuracies of the fused similarities, the share of
            clips that have parts and a caption as ``with_parts`` and ``with_caption``, and the
            losses of the neck. With learned weights, the losses of the fused similarities too.

        Raises:
            DFERError: If the clips have several views.
        """
        views = (inputs.vectors if isinstance(inputs, FrameFeatures) else inputs).shape[1]
        if views != 1:
            raise DFERError(
                f'FineCLIPER: {views} views of each clip in training, but it trains on one view of '
                'each clip: set num_clips=1 in the pipeline'
            )
        similarities, present, losses = self._compare_levels(inputs, data_samples, training=True)
        for level, own, has in zip(self.levels, similarities, present):
            losses[f'loss_{level}'] = self._level_loss(own, has, data_samples)
            if level != 'frames':
                losses[f'with_{level}'] = has.float().mean()
        fused = self._fuse(similarities.detach(), present)
        scored = self.cls_head.loss_of_similarities(fused, data_samples)
        if not self._learns_weights:  # the loss could train nothing
            scored = {key: value for key, value in scored.items() if 'loss' not in key}
        return {**scored, **losses}

    def _level_loss(self, similarities: Tensor, has: Tensor, data_samples: Sequence[Any]) -> Tensor:
        """Compute the loss of one level: the sum over the clips that have it, divided by N.

        Dividing by all N clips, and not by those that have the level, makes the mean over several
        ranks equal to the loss of one rank that has the whole batch.

        Args:
            similarities: Similarities (N, ...) of the level.
            has: Whether each of the N clips has the level, on the CPU.
            data_samples: Samples of the N clips.
        """
        rows = has.nonzero()[:, 0].tolist()
        if not rows:
            return 0 * similarities.sum()
        own = self.cls_head.loss_of_similarities(
            similarities[rows], [data_samples[row] for row in rows]
        )
        total = sum(value for key, value in own.items() if 'loss' in key)
        return total * (len(rows) / len(similarities))

    # --------------------------------------------------------------- fusion

    def _fuse(self, similarities: Tensor, present: Tensor) -> Tensor:
        """Sum the similarities of the levels with the weights of the config's form.

        Args:
            similarities: Similarities (levels, N, ...).
            present: Whether each view has each level (levels, N), on the CPU.

        Returns:
            Similarities (N, ...).
        """
        has = present.to(similarities)
        weights = has * self._weigh(similarities)  # (levels, N)
        if self.fusion != 'learned':
            # The limit only acts on clips that have none of the levels. Their weights are all zero.
            weights = weights / weights.sum(0).clamp(min=torch.finfo(weights.dtype).tiny)
        return (weights.view(*has.shape, *[1] * (similarities.ndim - 2)) * similarities).sum(0)

    def _weigh(self, similarities: Tensor) -> Tensor:
        """Return positive weights (levels, N) or (levels, 1), as if each clip had all levels."""
        if self.fusion == 'learned':
            rows = [LEVELS.index(level) for level in self.levels]
            return self.level_scalars[rows].exp()[:, None].to(similarities)
        if self.fusion != 'margin':
            return similarities.new_ones(len(similarities), 1)
        scores = self.cls_head.score(similarities.flatten(0, 1))  # (levels * N, C)
        largest = scores.softmax(-1).topk(2).values
        margins = (largest[:, 0] - largest[:, 1]).clamp(min=LEAST_MARGIN)
        return margins.view(similarities.shape[:2])

    # --------------------------------------------------------------- levels

    def _compare_levels(
        self, inputs: Tensor | FrameFeatures, data_samples: Any, training: bool
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Compare each level of each clip with the classes.

        A level that a clip lacks has the vector zero, and the weight of this vector is zero. So the
        graph of every rank contains the class vectors, whatever its batch contains. This is
        necessary because their backward pass is a collective operation.

        Args:
            inputs: Frames (B, views, 3, T, H, W), or their features.
            data_samples: Samples of the batch, or ``None``.
            training: Whether the neck may read the samples.

        Returns:
            Similarities (levels, N, ...) of the N = B * views views, whether each view has each
            level (levels, N), on the CPU, and the losses that the neck adds.
        """
        size = (inputs.vectors if isinstance(inputs, FrameFeatures) else inputs).shape[:2]
        parts, captions = read_levels(data_samples)
        has: dict[str, Sequence[int]] = dict(
            frames=range(size[0]), parts=list(parts), caption=list(captions)
        )
        vectors: dict[str, Tensor | None] = {}
        losses: dict[str, Tensor] = {}
        if 'frames' in self.levels:
            video, losses = self.encode_video(inputs, data_samples if training else None)
            vectors['frames'] = video.unflatten(0, size)
        if 'parts' in self.levels:
            vectors['parts'] = self._encode_parts(parts, inputs)
        if 'caption' in self.levels and captions:
            # Cut to the context if necessary, with the end token kept.
            vectors['caption'] = self.backbone.encode_text(list(captions.values()))[:, None]
        present = torch.zeros(len(self.levels), size[0], dtype=torch.bool)
        for row, level in zip(present, self.levels):
            row[list(has[level])] = True
        spread = [self._spread(vectors.get(level), has[level], size) for level in self.levels]
        similarities = self.cls_head.compare(
            torch.cat(spread), classes=self.class_vectors(), logit_scale=self.backbone.logit_scale
        )
        return (
            similarities.unflatten(0, (len(self.levels), -1)),
            present.repeat_interleave(size[1], 1),
            losses,
        )

    def _encode_parts(
        self, parts: dict[int, Tensor], inputs: Tensor | FrameFeatures
    ) -> Tensor | None:
        """Encode pictures of face parts as the frames are encoded.

        Args:
            parts: Pictures (3, T, H, W) or (views, 3, T, H, W) of M clips, keyed by the index of
                the clip.
            inputs: Frames of the batch, or their features.

        Returns:
            Vectors (M, P, D) with P = 1 if the views of a clip share its pictures, else P = views.
            If no clip has parts, ``None``, or a vector (1, 1, D) of the first frames if the frames
            are not in use: its weight will be zero, and it gives all ranks the same parameters in
            their graphs.
        """
        if parts:
            pictures = self._stack_parts(parts, inputs)  # (M, P, 3, T, H, W)
            return self.encode_video(pictures)[0].unflatten(0, pictures.shape[:2])
        if 'frames' in self.levels or not torch.is_grad_enabled():
            return None
        if isinstance(inputs, FrameFeatures):
            return self.encode_video(FrameFeatures(inputs.vectors[:1, :1]))[0][None]
        return self.encode_video(inputs[:1, :1])[0][None]

    def _stack_parts(self, parts: dict[int, Tensor], inputs: Tensor | FrameFeatures) -> Tensor:
        """Normalise the pictures of M clips with the data preprocessor, to (M, P, 3, T, H, W).

        Raises:
            DFERError: If the pictures of a clip have another shape than its frames.
        """
        pictures = {row: part[None] if part.ndim == 4 else part for row, part in parts.items()}
        if isinstance(inputs, FrameFeatures):
            views, shape = inputs.vectors.shape[1], next(iter(pictures.values())).shape[1:]
        else:
            views, shape = inputs.shape[1], inputs.shape[2:]
        for row, part in pictures.items():
            if part.shape[1:] != shape or len(part) not in (1, views):
                raise DFERError(
                    f'clip {row} of the batch: its parts have the shape {tuple(part.shape)}, but '
                    f'its frames have the shape {(views, *shape)}: crop and sample the parts as '
                    'the frames in the pipeline'
                )
        most = max(len(part) for part in pictures.values())
        stacked = [part.expand(most, *shape) for part in pictures.values()]
        batch = dict(inputs=stacked, data_samples=[None] * len(stacked))
        return self.data_preprocessor(batch)['inputs']

    def _spread(self, encoded: Tensor | None, rows: Sequence[int], size: Sequence[int]) -> Tensor:
        """Place the vectors of some clips among those of all clips.

        Args:
            encoded: Vectors (M, 1, D) or (M, views, D), or ``None`` if no clip has the level.
            rows: Indices of the M clips. If there are none, the first vector is placed at the first
                clip, where its weight is zero.
            size: B, the number of clips, and the number of views.

        Returns:
            Vectors (B * views, D), which are zero for other clips.
        """
        scale = self.backbone.clip.logit_scale
        dtype = torch.promote_types(scale.dtype, torch.float32)
        zeros = torch.zeros(*size, self.backbone.embed_dims, dtype=dtype, device=scale.device)
        if encoded is not None:
            places = torch.tensor(list(rows) or [0], device=scale.device)
            encoded = encoded.to(dtype).expand(-1, size[1], -1)
            zeros = zeros.index_copy(0, places, encoded)
        return zeros.flatten(0, 1)


def read_levels(data_samples: Sequence[Any] | None) -> tuple[dict[int, Tensor], dict[int, str]]:
    """Read the parts and the captions that the samples of a batch carry.

    This function alone knows how they are carried: as the attributes ``parts`` and ``caption``.

    Args:
        data_samples: Samples of the B clips, or ``None``.

    Returns:
        The parts of the clips that have some, as uint8 pictures (3, T, H, W), which all views
        share, or (views, 3, T, H, W), and the captions of the clips that have one. The keys are the
        indices of the clips. A clip whose attribute is ``None`` has none, and neither has a clip
        with an empty caption.

    Raises:
        DFERError: If a clip has parts that are no pictures, or a caption that is no text.
    """
    parts: dict[int, Tensor] = {}
    captions: dict[int, str] = {}
    for row, sample in enumerate(data_samples or ()):
        part, caption = getattr(sample, 'parts', None), getattr(sample, 'caption', None)
        if part is not None:
            if not (isinstance(part, Tensor) and part.ndim in (4, 5)):
                raise DFERError(
                    f'clip {row} of the batch: parts must be a tensor (3, T, H, W) or None, got '
                    f'{tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__}'
                )
            parts[row] = part
        if caption is not None:
            if not isinstance(caption, str):
                raise DFERError(
                    f'clip {row} of the batch: caption must be a string or None, got '
                    f'{type(caption).__name__}'
                )
            if caption.strip():
                captions[row] = caption
    return parts, captions


def _drop_parts(samples: Sequence[Any]) -> list[Any]:
    """Return new samples without ``parts``, so that tools that keep predictions stay small."""
    found = []
    for sample in samples:
        found.append(kept := sample.new())
        kept.pop('parts', None)
    return found
