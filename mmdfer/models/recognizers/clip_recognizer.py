"""The recognizer: frames and sentences through one neck, compared by their cosine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmengine import dist
from torch import Tensor

from mmaction.models import BaseRecognizer
from mmaction.registry import MODELS

from mmdfer.errors import DFERError
from mmdfer.models.backbones.frozen_clip import FrozenCLIP
from mmdfer.models.data_preprocessors.clip_preprocessor import (
    CLIPDataPreprocessor,
    encoder_digest,
)
from mmdfer.models.recognizers.sharded_prompts import encode_sharded
from mmdfer.models.tensor_cache import TensorCache


class FrameFeatures(NamedTuple):
    """Frame vectors (B, views, T, D) that the frozen backbone gave earlier for the same views."""

    vectors: Tensor


@MODELS.register_module()
class CLIPRecognizer(BaseRecognizer):
    """Backbone, neck and text head; the heart of every CLIP method for DFER.

    ::

        clip (B,3,T,H,W) ─ backbone ─► frames (B,T,D) ─ neck ─► video (B,D) ┐
                                                                            ├ cos/τ ─► logits (B,C)
        head.prompts (C,S,L,W) ─ backbone ─► sentences (C,S,D) ─ neck ─► classes (C,D) ┘

    Args:
        backbone: Config of a FrozenCLIP.
        cls_head: Config of a text head, such as MATHead. ``in_channels`` and ``text_width`` are
            the CLIP's and need not be given.
        neck: Config of a neck, such as JAS, whose ``dims`` are the CLIP's. Without one the mean
            is taken over frames and over sentences.
        normalize_frames: Whether frame vectors are brought to unit length before the neck or the
            mean.
        kwargs: As for MMAction2's BaseRecognizer. ``data_preprocessor`` defaults to
            CLIPDataPreprocessor.

    Attributes:
        last_of_step: Whether the next forward in training is the last before the optimizer's step.
            AccumulationHook sets it where a step takes several batches.
    """

    def __init__(
        self,
        backbone: dict,
        cls_head: dict,
        neck: dict | None = None,
        data_preprocessor: dict | None = None,
        normalize_frames: bool = True,
        **kwargs: Any,
    ) -> None:
        preprocessor = data_preprocessor or dict(type='CLIPDataPreprocessor')
        super().__init__(backbone, data_preprocessor=preprocessor, **kwargs)
        clip: FrozenCLIP = self.backbone
        if neck is not None:
            self.neck = MODELS.build({'dims': clip.embed_dims, **neck})
        widths = dict(in_channels=clip.embed_dims, text_width=clip.text_width)
        self.cls_head = MODELS.build({**widths, **cls_head})
        self.cls_head.check_context(clip)
        self._check_blending()
        self.normalize_frames = normalize_frames
        self.last_of_step = True
        self._digest: str | None = None  # of the backbone and the normalisation, once read
        self._kept = TensorCache()  # class vectors without gradient
        # Class vectors with gradient, and the state of what they were made of.
        self._open: tuple[list, Tensor, Tensor] | None = None

    @property
    def reads_features(self) -> bool:
        """Return whether batches may hold features, which only our preprocessor stacks."""
        return isinstance(self.data_preprocessor, CLIPDataPreprocessor)

    def _check_blending(self) -> None:
        """Raise DFERError where batches would be mixed over another number of classes."""
        blending = getattr(self.data_preprocessor, 'blending', None)
        classes = getattr(blending, 'num_classes', None)
        if classes not in (None, self.cls_head.num_classes):
            raise DFERError(
                f'model.data_preprocessor.blending has num_classes={classes}, the head has '
                f'{self.cls_head.num_classes}: set it to the number of classes'
            )

    def forward(
        self,
        inputs: Tensor | None = None,
        data_samples: Any = None,
        mode: str = 'tensor',
        features: Tensor | None = None,
        encoder: Sequence[str] | str = (),
        **kwargs: Any,
    ) -> Any:
        """Run the model as MMAction2's recognizers do, on frames or on features.

        Args:
            inputs: Frames (B, views, 3, T, H, W).
            data_samples: The samples of the batch.
            mode: ``'tensor'``, ``'predict'`` or ``'loss'``, as in BaseRecognizer.
            features: In place of ``inputs``, frame vectors (B, views, T, D) from EncodedClips.
            encoder: Of features, the digest of what has encoded them, for each clip or for all.
            kwargs: As in BaseRecognizer.

        Raises:
            DFERError: The features are those of another CLIP, or training changes the image tower.
        """
        given = inputs if features is None else self._accept(features, encoder)
        return super().forward(given, data_samples, mode, **kwargs)

    def _accept(self, features: Tensor, encoder: Sequence[str] | str) -> FrameFeatures:
        """Return features as such, if they are what this model's backbone would compute.

        Raises:
            DFERError: They are not.
        """
        if self.backbone.trains_frames:
            raise DFERError(
                'CLIPRecognizer: backbone.trains unfreezes the image tower, whose vectors then '
                "differ from the encoded features: take EncodedClips off the loaders' datasets, or "
                'set backbone.trains=()'
            )
        if self._digest is None:
            self._digest = encoder_digest(self.backbone, self.data_preprocessor)
        for digest in {encoder} if isinstance(encoder, str) else set(encoder):
            if digest != self._digest:
                raise DFERError(
                    f'CLIPRecognizer: the features were encoded by {digest}, the model would '
                    f'encode them by {self._digest} ({self.backbone.arch!r}): give the datasets '
                    "the model's backbone and data_preprocessor as EncodedClips.encoder, or leave "
                    'it out'
                )
        return FrameFeatures(features)

    def extract_feat(
        self,
        inputs: Tensor | FrameFeatures,
        stage: str = 'neck',
        data_samples: Any = None,
        test_mode: bool = False,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Extract video vectors, and with them the class vectors that the head needs.

        Args:
            inputs: Frames (B, views, 3, T, H, W), or their features.
            stage: How far to go: 'backbone' gives frames (B * views, T, D), 'neck' video vectors
                (B * views, D), 'head' logits (B * views, C).

        Returns:
            The features, and what the head takes beside them.
        """
        if isinstance(inputs, FrameFeatures):
            frames = inputs.vectors.flatten(0, 1)  # (B * views, T, D)
        else:
            frames = self.backbone(inputs.flatten(0, 1))
        if stage == 'backbone':
            return frames, {}
        if self.normalize_frames:
            frames = F.normalize(frames, dim=-1)
        video, loss_aux = frames.mean(1), {}
        if self.with_neck:
            video, loss_aux = self.neck(frames, data_samples)
        classes = self._classes_for(video) if self.cls_head.conditioned else self.class_vectors()
        # Tensors alone, where there is no loss: torch.jit traces this for MMAction2's get_flops.py.
        scale = torch.tensor(self.backbone.logit_scale)
        given: dict[str, Any] = dict(classes=classes, logit_scale=scale)
        if loss_aux:
            given['loss_aux'] = loss_aux
        if stage == 'head':
            return self.cls_head(video, **given), {}
        return video, given

    def class_vectors(self) -> Tensor:
        """Encodes the head's prompts to class vectors (C, D).

        They depend on no clip. Where nothing on the text side takes a gradient they are kept until
        a tensor behind them changes: once per stage while the text side is frozen, once per run at
        inference.
        """
        tensors = self._text_side()
        if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
            self._kept.clear()
            return self._class_vectors_of_step([(t._version, t.data_ptr()) for t in tensors])
        low = torch.is_autocast_enabled(tensors[0].device.type)  # training may be, validation not
        with torch.no_grad():
            encode = partial(self._encode_classes, self.backbone.encode_prompts)
            return self._kept.get(low, tensors, encode)

    def train(self, mode: bool = True) -> CLIPRecognizer:
        """Switch between training and eval, around which hooks may have swapped weights."""
        self._kept.set_mode(mode)
        return super().train(mode)

    def _class_vectors_of_step(self, state: list) -> Tensor:
        """Passes through the text side once in an optimizer step, forward and backward.

        The step's first batch builds the graph. All batches but the last get a leaf in its place,
        which collects their gradients; the last adds them to its own on the way back.
        """
        if self._open is None or self._open[0] != state:
            shared = self.training and dist.get_world_size() > 1
            encode = self.backbone.encode_prompts
            classes = self._encode_classes(partial(encode_sharded, encode) if shared else encode)
            self._open = state, classes, classes.detach().requires_grad_()
        _, classes, leaf = self._open
        if not self.last_of_step:
            return leaf
        self._open = None
        if leaf.grad is not None:
            classes.register_hook(leaf.grad.add)
        return classes

    def _encode_classes(self, encode: Callable[[Tensor, int | Tensor], Tensor]) -> Tensor:
        sentences = encode(*self.cls_head.prompts(self.backbone))
        sentences = F.normalize(sentences, dim=-1)  # (C, S, D)
        return self._to_classes(sentences)

    def _classes_for(self, video: Tensor) -> Tensor:
        """Class vectors of each clip's own, (B, D) -> (B, C, D), where prompts depend on it."""
        sentences = F.normalize(self.cls_head.encode(self.backbone, video), dim=-1)  # (B, C, S, D)
        return self._to_classes(sentences.flatten(0, 1)).unflatten(0, sentences.shape[:2])

    def _to_classes(self, sentences: Tensor) -> Tensor:
        """(C, S, D) -> (C, D); as they are where the head compares with each sentence."""
        if self.cls_head.reads_sentences:
            return sentences
        return self.neck.text(sentences) if self.with_neck else sentences.mean(1)

    def _text_side(self) -> list[Tensor]:
        """All tensors behind the class vectors that can change."""
        towers = self.backbone.clip.named_parameters()
        clip = [p for n, p in towers if p.requires_grad and not n.startswith('visual.')]
        neck = self.neck.text_side() if self.with_neck else []
        # Of a head without parameters the logit scale alone tells that the model has moved.
        return [*self.cls_head.parameters(), *neck, *clip, self.backbone.clip.logit_scale]
