"""Provide the recognizer that compares a video vector with class vectors by their cosine."""

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
    """Hold the frame vectors of views that the frozen backbone has encoded earlier.

    Attributes:
        vectors: Frame vectors (B, views, T, D).
    """

    vectors: Tensor


@MODELS.register_module()
class CLIPRecognizer(BaseRecognizer):
    """Classify clips with a CLIP backbone, a neck and a text head, as every CLIP method here does.

    The backbone encodes the frames of a clip and the prompts of each class. The neck turns the
    frame vectors into a video vector, and the sentence vectors of a class into a class vector. The
    logit of a class is the cosine of both, divided by a temperature τ::

        clip (B,3,T,H,W) ─ backbone ─► frames (B,T,D) ─ neck ─► video (B,D) ┐
                                                                            ├ cos/τ ─► logits (B,C)
        head.prompts (C,S,L,W) ─ backbone ─► sentences (C,S,D) ─ neck ─► classes (C,D) ┘

    The cosine classification is that of CLIP (Radford et al., 2021, Sec. 3.1.2). The configs of a
    method choose the neck and the head, which name the paper that they follow. Our choice, where a
    method does not say it: sentence vectors always have unit length before the neck or the mean,
    and frame vectors do by default.

    Args:
        backbone: Config of a FrozenCLIP.
        cls_head: Config of a text head, such as MATHead. ``in_channels`` and ``text_width`` are
            filled in from the backbone.
        neck: Config of a neck, such as JAS. ``dims`` is filled in from the backbone. Without a
            neck, the means over the frames and over the sentences are taken.
        data_preprocessor: Config of the data preprocessor. The default is CLIPDataPreprocessor.
        normalize_frames: Whether frame vectors are scaled to unit length before the neck or the
            mean.
        kwargs: Passed to MMAction2's BaseRecognizer.

    Attributes:
        last_of_step: Whether the next forward pass in training is the last one before an optimizer
            step. AccumulationHook sets it when gradients are accumulated over several batches.

    Raises:
        DFERError: If the prompts exceed the context of the text tower, or if the preprocessor
            blends clips over a number of classes that differs from the head's.
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
        self._digest: str | None = None  # digest of the backbone and the normalisation
        self._kept = TensorCache()  # class vectors without gradients
        # During an optimizer step: the versions of the tensors of the text side, the class vectors
        # with their graph, and a leaf that replaces them in all batches but the last.
        self._open: tuple[list, Tensor, Tensor] | None = None

    @property
    def reads_features(self) -> bool:
        """Return whether batches may contain features, which only CLIPDataPreprocessor stacks."""
        return isinstance(self.data_preprocessor, CLIPDataPreprocessor)

    def _check_blending(self) -> None:
        """Raise DFERError if the blending has another number of classes than the head."""
        blending = getattr(self.data_preprocessor, 'blending', None)
        classes = getattr(blending, 'num_classes', None)
        if classes not in (None, self.cls_head.num_classes):
            raise DFERError(
                f'model.data_preprocessor.blending has num_classes={classes}, but the head has '
                f'{self.cls_head.num_classes} classes: set num_classes of blending to '
                f'{self.cls_head.num_classes}'
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
            data_samples: Samples of the batch.
            mode: ``'tensor'``, ``'predict'`` or ``'loss'``, as in BaseRecognizer.
            features: Frame vectors (B, views, T, D) from EncodedClips, instead of ``inputs``.
            encoder: Digest of the encoder that computed the features, as one string for all clips
                or as a sequence with one string for each clip.
            kwargs: Passed to BaseRecognizer.

        Raises:
            DFERError: If the features were computed by another encoder than this model's backbone
                and preprocessor, or if this model trains its image tower.
        """
        given = inputs if features is None else self._accept(features, encoder)
        return super().forward(given, data_samples, mode, **kwargs)

    def _accept(self, features: Tensor, encoder: Sequence[str] | str) -> FrameFeatures:
        """Wrap features after checking that this model's backbone would compute the same features.

        Raises:
            DFERError: If the features would differ.
        """
        if self.backbone.trains_frames:
            raise DFERError(
                'CLIPRecognizer: backbone.trains unfreezes the image tower or backbone.adapter '
                'adapts it, so its frame vectors will differ from the encoded features: remove '
                'EncodedClips from the dataloaders, or set backbone.trains=() and '
                'backbone.adapter=None'
            )
        if self._digest is None:
            self._digest = encoder_digest(self.backbone, self.data_preprocessor)
        for digest in {encoder} if isinstance(encoder, str) else set(encoder):
            if digest != self._digest:
                raise DFERError(
                    f'CLIPRecognizer: the features were encoded by the encoder {digest}, but this '
                    f"model's encoder is {self._digest} ({self.backbone.arch!r}): set encoder of "
                    "EncodedClips to the model's backbone and data_preprocessor, or remove encoder"
                )
        return FrameFeatures(features)

    def extract_feat(
        self,
        inputs: Tensor | FrameFeatures,
        stage: str = 'neck',
        data_samples: Any = None,
        test_mode: bool = False,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Extract video vectors and the class vectors that the head compares them with.

        Args:
            inputs: Frames (B, views, 3, T, H, W), or their features.
            stage: Last part of the model that is run. ``'backbone'`` returns frame vectors (B *
                views, T, D), ``'neck'`` returns video vectors (B * views, D), and ``'head'``
                returns logits (B * views, C).
            data_samples: Samples of the batch, which the neck may read in training.
            test_mode: Ignored. BaseRecognizer passes it.

        Returns:
            The features, and a dict of further arguments for the head.
        """
        if stage == 'backbone':
            return self.encode_frames(inputs), {}
        video, loss_aux = self.encode_video(inputs, data_samples)
        classes = (
            self._encode_classes_per_clip(video)
            if self.cls_head.conditioned
            else self.class_vectors()
        )
        # Without losses the dict contains only tensors, because MMAction2's get_flops.py traces
        # this method with torch.jit.
        scale = torch.tensor(self.backbone.logit_scale)
        given: dict[str, Any] = dict(classes=classes, logit_scale=scale)
        if loss_aux:
            given['loss_aux'] = loss_aux
        if stage == 'head':
            return self.cls_head(video, **given), {}
        return video, given

    def encode_frames(self, inputs: Tensor | FrameFeatures) -> Tensor:
        """Encode frames (B, views, 3, T, H, W), or take their features, to (B * views, T, D)."""
        if isinstance(inputs, FrameFeatures):
            return inputs.vectors.flatten(0, 1)
        return self.backbone(inputs.flatten(0, 1))

    def encode_video(
        self, inputs: Tensor | FrameFeatures, data_samples: Any = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Encode views to video vectors with the backbone and the neck.

        Args:
            inputs: Frames (B, views, 3, T, H, W), or their features.
            data_samples: Samples of the batch, which the neck may read in training.

        Returns:
            Video vectors (B * views, D), and the losses that the neck adds.
        """
        frames = self.encode_frames(inputs)
        if self.normalize_frames:
            frames = F.normalize(frames, dim=-1)
        return self.neck(frames, data_samples) if self.with_neck else (frames.mean(1), {})

    def class_vectors(self) -> Tensor:
        """Encode the prompts of the head to class vectors (C, D).

        The prompts do not depend on the clip. If no tensor of the text side needs a gradient, the
        class vectors are cached until one of these tensors changes. They are then computed once per
        stage of training while the text side is frozen, and once per run at inference.
        """
        tensors = self._list_text_tensors()
        if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
            self._kept.clear()
            return self._encode_classes_of_step([(t._version, t.data_ptr()) for t in tensors])
        # The key of the cache is whether autocast is on. It can be on in training and off in
        # validation.
        low = torch.is_autocast_enabled(tensors[0].device.type)
        with torch.no_grad():
            encode = partial(self._encode_classes, self.backbone.encode_prompts)
            return self._kept.get(low, tensors, encode)

    def train(self, mode: bool = True) -> CLIPRecognizer:
        """Switch between training and eval, and let the cache of class vectors check for changes.

        Hooks such as EMAHook may swap the weights at such a switch.
        """
        self._kept.set_mode(mode)
        return super().train(mode)

    def _encode_classes_of_step(self, state: list) -> Tensor:
        """Encode the class vectors once per optimizer step, even if the step has several batches.

        The first batch of the step builds the graph of the text side. All batches but the last use
        a leaf tensor instead of the class vectors, which accumulates their gradients. In the
        backward pass of the last batch, a hook adds the accumulated gradient to the gradient of the
        class vectors, which then flows through the text side once.

        Args:
            state: Versions and addresses of the tensors of the text side. If they differ from those
                of the stored graph, the class vectors are encoded again.
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
        """Encode the prompts of the head to class vectors (C, D) with the given function."""
        sentences = encode(*self.cls_head.prompts(self.backbone))
        sentences = F.normalize(sentences, dim=-1)  # (C, S, D)
        return self._pool_sentences(sentences)

    def _encode_classes_per_clip(self, video: Tensor) -> Tensor:
        """Encode class vectors (B, C, D) that depend on the video vectors (B, D) of the clips."""
        sentences = F.normalize(self.cls_head.encode(self.backbone, video), dim=-1)  # (B, C, S, D)
        return self._pool_sentences(sentences.flatten(0, 1)).unflatten(0, sentences.shape[:2])

    def _pool_sentences(self, sentences: Tensor) -> Tensor:
        """Turn sentence vectors (C, S, D) into class vectors (C, D).

        The text side of the neck does this; without a neck it is the mean over the sentences. The
        sentence vectors are returned unchanged if the head compares clips with each sentence.
        """
        if self.cls_head.reads_sentences:
            return sentences
        return self.neck.text(sentences) if self.with_neck else sentences.mean(1)

    def _list_text_tensors(self) -> list[Tensor]:
        """Return all tensors that can change and that the class vectors depend on."""
        clip = self.backbone.text_parameters()
        neck = self.neck.text_side() if self.with_neck else []
        # The logit scale is in the list so that it is never empty: for a head without parameters,
        # only the logit scale shows that the model has moved to another device.
        return [*self.cls_head.parameters(), *neck, *clip, self.backbone.clip.logit_scale]
