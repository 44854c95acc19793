"""Define the base class of the text heads, which compare video vectors with prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mmaction.models import BaseHead
from mmaction.registry import MODELS

from mmdfer.errors import DFERError
from mmdfer.models.backbones.frozen_clip import FrozenCLIP
from mmdfer.models.json_tensor import from_tensor, to_tensor


class TextHead(BaseHead):
    """Classify video vectors by their cosines with the vectors of prompts.

    The logit of a class is the cosine of the video vector and the class vector, divided by a
    temperature (Radford et al., "Learning Transferable Visual Models From Natural Language
    Supervision", 2021, Sec. 3.1.2). A subclass defines the prompts in :meth:`prompts` and checks
    their length in :meth:`check_context`.

    In CLIPRecognizer, the recognizer encodes the prompts with its CLIP and passes the class vectors
    to the head. In any other recognizer, the head has its own text tower (``text``), maps the
    features from ``in_channels`` to D, and a class vector is the mean of the vectors of its
    sentences.

    The class names are saved in the checkpoint. A checkpoint with other class names, or with
    another order of the names, is refused when it is loaded.

    Args:
        num_classes: C, the number of classes.
        in_channels: Width of the features. CLIPRecognizer sets it to D, the width of CLIP's joint
            embedding space.
        text_width: W, the width of token embeddings. CLIPRecognizer sets it. With ``text``, it is
            taken from that text tower.
        text: Config of a FrozenCLIP that the head uses as its own text tower, outside
            CLIPRecognizer.
        temperature: Divisor of the cosines. The default ``None`` uses CLIP's own temperature, 1 /
            logit scale.
        average_clips: How the results of several views of a clip are averaged, as in MMAction2's
            BaseHead.
        kwargs: Passed to MMAction2's BaseHead.

    Attributes:
        conditioned: Whether the prompts depend on the clip. If so, :meth:`encode` reads the video
            vectors and returns separate vectors for each clip.
        reads_sentences: Whether CLIPRecognizer passes the vectors of all sentences (C, S, D) to the
            head, instead of one vector for each class (C, D).

    Raises:
        DFERError: If the head has no text tower outside CLIPRecognizer, or if the prompts exceed
            the context of the text tower.
    """

    conditioned = False
    reads_sentences = False

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        text_width: int | None = None,
        text: dict | None = None,
        temperature: float | None = None,
        average_clips: str | None = 'prob',
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, in_channels, average_clips=average_clips, **kwargs)
        self.temperature = temperature
        self.classes: tuple[str, ...] | None = None
        self.clip: FrozenCLIP | None = None if text is None else MODELS.build(text)
        if self.clip is not None:
            self.projection = nn.Linear(in_channels, self.clip.embed_dims)
            text_width = self.clip.text_width
        if text_width is None:
            raise DFERError(
                f'{type(self).__name__} outside CLIPRecognizer needs its own text tower: set '
                "cls_head.text=dict(type='FrozenCLIP', arch=...)"
            )
        self.text_width = text_width
        self.register_state_dict_post_hook(TextHead._save_classes)
        self.register_load_state_dict_pre_hook(TextHead._check_classes)

    def init_weights(self) -> None:
        """Keep the initial values that were drawn when the head was built."""

    # ---------------------------------------------------------------- prompts

    def prompts(self, clip: FrozenCLIP) -> tuple[Tensor, int | Tensor]:
        """Assemble the prompts of all classes; each subclass implements this method.

        Args:
            clip: CLIP whose tokenizer and token embeddings are used for the fixed parts of the
                prompts.

        Returns:
            Token embeddings (C, S, L, W) without position embeddings, and the position of the end
            token, as one integer for all prompts or as a tensor (C, S).
        """
        raise NotImplementedError

    def check_context(self, clip: FrozenCLIP) -> None:
        """Raise DFERError if a prompt exceeds the context of the text tower of ``clip``.

        Each subclass implements this method.
        """
        raise NotImplementedError

    def encode(self, clip: FrozenCLIP, video: Tensor) -> Tensor:
        """Encode the prompts to vectors.

        Args:
            clip: CLIP whose text tower encodes the prompts.
            video: Video vectors (B, D). Only heads that are ``conditioned`` read them.

        Returns:
            Vectors of the sentences (C, S, D), or (B, C, S, D) if the prompts depend on the clip.
        """
        return clip.encode_prompts(*self.prompts(clip))

    def class_parameters(self) -> tuple[str, ...]:
        """Return the names of the head's parameters whose first axis is the class.

        When training starts from a checkpoint of other classes, these parameters are matched by
        class name (``new_classes`` of ClassNamesHook).
        """
        return ()

    # ----------------------------------------------------------------- logits

    def forward(
        self,
        x: Tensor,
        num_segs: int | None = None,
        classes: Tensor | None = None,
        logit_scale: float | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Compute logits from video vectors and class vectors.

        Args:
            x: Video vectors (N, D), or features that are averaged over space and time first. These
                are feature maps (N * T, C, h, w) with T given as ``num_segs``, or (N, C, T, h, w).
            num_segs: Number of frames T, which Recognizer2D passes.
            classes: Class vectors (C, D), or (N, C, D) if they differ between clips, which
                CLIPRecognizer passes. If ``None``, the head encodes its prompts with its own text
                tower.
            logit_scale: CLIP's logit scale, which CLIPRecognizer passes together with ``classes``.
            kwargs: Further arguments that recognizers pass to every head (``fcn_test``,
                ``loss_aux``), which are ignored.

        Returns:
            Logits (N, C).
        """
        return self.score(self.compare(x, num_segs, classes, logit_scale))

    def compare(
        self,
        x: Tensor,
        num_segs: int | None = None,
        classes: Tensor | None = None,
        logit_scale: float | None = None,
    ) -> Tensor:
        """Compute the similarities that the scores and the loss are functions of.

        By default these are the cosines with the class vectors, divided by the temperature.

        Args:
            x: Video vectors or features, as for :meth:`forward`.
            num_segs: Number of frames T, as for :meth:`forward`.
            classes: Class vectors, as for :meth:`forward`.
            logit_scale: CLIP's logit scale, as for :meth:`forward`.

        Returns:
            Similarities (N, C). A head that compares a clip with several vectors of each class
            returns another shape (N, ...), which :meth:`score` turns into (N, C).
        """
        if classes is None:
            assert self.clip is not None
            x = self.projection(pool_features(x, num_segs))
            classes = F.normalize(self.encode(self.clip, x), dim=-1).mean(-2)  # (..., C, D)
            logit_scale = self.clip.logit_scale
        scale = logit_scale if self.temperature is None else 1 / self.temperature
        assert scale is not None  # CLIPRecognizer passes it together with the class vectors
        # Compute in float32 under autocast, too: in bfloat16 a cosine times 100 has an error of up
        # to 0.2, and MMAction2 converts the logits to numpy, which does not support bfloat16.
        with torch.autocast(x.device.type, enabled=False):
            dtype = torch.promote_types(torch.promote_types(x.dtype, classes.dtype), torch.float32)
            x, classes = (F.normalize(v.to(dtype), dim=-1) for v in (x, classes))
            x = scale * x
            if classes.ndim == 3:
                return torch.einsum('nd,ncd->nc', x, classes)
            return x @ classes.T

    def score(self, similarities: Tensor) -> Tensor:
        """Turn the similarities (N, ...) that :meth:`compare` returns into logits (N, C)."""
        return similarities

    def loss(
        self,
        feats: Tensor,
        data_samples: Sequence[Any],
        num_segs: int | None = None,
        classes: Tensor | None = None,
        logit_scale: float | None = None,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """Compute the losses and the accuracy of a batch.

        Args:
            feats: Video vectors or features, as ``x`` of :meth:`forward`.
            data_samples: Samples of the batch, with their labels.
            num_segs: Number of frames T, as for :meth:`forward`.
            classes: Class vectors, as for :meth:`forward`.
            logit_scale: CLIP's logit scale, as for :meth:`forward`.
            kwargs: Ignored, as for :meth:`forward`.
        """
        similarities = self.compare(feats, num_segs, classes, logit_scale)
        return self.loss_of_similarities(similarities, data_samples)

    def loss_of_similarities(
        self, similarities: Tensor, data_samples: Sequence[Any]
    ) -> dict[str, Tensor]:
        """Compute the losses and the accuracy from similarities.

        FineCLIPER calls this method with the fused similarities of several levels.

        Args:
            similarities: Similarities (N, ...), as :meth:`compare` returns them.
            data_samples: Samples of the batch, with their labels.
        """
        return self.loss_by_feat(self.score(similarities), data_samples)

    # ------------------------------------------------------------ class names

    def set_classes(self, classes: Sequence[str]) -> None:
        """Set the class names, in the order of the logits.

        Args:
            classes: Names of the C classes.

        Raises:
            DFERError: If the number of names differs from ``num_classes``, or if other names are
                already set.
        """
        classes = tuple(classes)
        check_class_count(classes, self.num_classes)
        if self.classes is not None and classes != self.classes:
            raise DFERError(describe_class_mismatch(self.classes, classes))
        self.classes = classes

    def _save_classes(self, state: dict[str, Tensor], prefix: str, _: Any) -> None:
        """Add the class names to a state dict that is being saved."""
        if self.classes is not None:
            state[f'{prefix}classes'] = to_tensor(self.classes)

    def _check_classes(self, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
        """Take the class names from a state dict, or refuse the state dict if its names differ."""
        if f'{prefix}classes' not in state:
            return
        saved = tuple(from_tensor(state.pop(f'{prefix}classes')))
        if self.classes is not None and saved != self.classes:
            raise DFERError(describe_class_mismatch(saved, self.classes))
        self.classes = saved


def embed_texts(clip: FrozenCLIP, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Embed texts, each with a start and an end token.

    Args:
        clip: CLIP whose tokenizer and token embeddings are used.
        texts: N texts.

    Returns:
        Token embeddings (N, L, W), where L is the length of the longest text, and the positions
        (N,) of the end tokens. The positions after an end token are padding, which a causal text
        tower never reads.
    """
    rows = [[clip.start_id, *clip.tokenizer.encode(text), clip.end_id] for text in texts]
    device = clip.clip.get_parameter('logit_scale').device
    ids = pad_sequence([torch.tensor(row) for row in rows], batch_first=True)  # (N, L)
    ends = torch.tensor([len(row) - 1 for row in rows], device=device)
    return clip.embed(ids.to(device)), ends


def fill_templates(owner: str, templates: Sequence[str], classes: Sequence[str]) -> list[list[str]]:
    """Put the class names into sentences.

    Args:
        owner: Name of the head, for the error message.
        templates: S sentences in which ``{}`` is replaced by the class name.
        classes: Names of the C classes. Underscores in names become spaces.

    Returns:
        The S sentences of each of the C classes.

    Raises:
        DFERError: If a template has no ``{}``.
    """
    for template in templates:
        if '{}' not in template:
            raise DFERError(
                f'{owner}: template {template!r} has no {{}}: insert {{}} where the class name '
                'belongs'
            )
    names = [name.replace('_', ' ') for name in classes]
    return [[template.replace('{}', name) for template in templates] for name in names]


def check_length(owner: str, clip: FrozenCLIP, texts: Sequence[str], more: int = 0) -> None:
    """Raise DFERError if a text with ``more`` additional tokens exceeds the text tower's context.

    Args:
        owner: Name of the head, for the error message.
        clip: CLIP whose tokenizer and context are used.
        texts: Fixed texts of the prompts.
        more: Number of learnable tokens that are added to each text.
    """
    for text in texts:
        length = len(clip.tokenizer.encode(text)) + 2 + more  # 2: start and end token
        if length > clip.context_length:
            raise DFERError(
                f'{owner}: {text!r} makes a prompt of {length} positions, but the context of '
                f'{clip.arch!r} has {clip.context_length}: shorten the text'
                + (f' or use fewer than {more} learnable tokens' if more else '')
            )


def describe_class_mismatch(saved: Sequence[str], present: Sequence[str]) -> str:
    """Return the error message for a checkpoint that was trained on other classes.

    The message also says how to start training on new classes from this checkpoint.

    Args:
        saved: Class names in the checkpoint.
        present: Class names of the dataset.
    """
    return (
        f'the checkpoint was trained on the classes ({", ".join(saved)}), but the dataset has '
        f'({", ".join(present)}): the names and their order must be the same; to start training on '
        'new classes from this checkpoint, set load_from to its path and '
        'default_hooks.class_names.new_classes=True'
    )


def pool_features(x: Tensor, num_segs: int | None) -> Tensor:
    """Average features (N, C), (N, C, T, h, w) or (N * T, C, h, w) to vectors (N, C).

    Args:
        x: Vectors or feature maps in one of these shapes.
        num_segs: Number of frames T in the shape (N * T, C, h, w). ``None`` means 1.
    """
    if x.ndim == 5:
        return x.mean((2, 3, 4))
    if x.ndim == 4:
        x = x.mean((2, 3))  # (N * T, C)
        return x.view(-1, num_segs or 1, x.shape[1]).mean(1)
    return x


def check_class_count(classes: Sequence[str], num_classes: int) -> None:
    """Raise DFERError unless a dataset has as many classes as the head of the model."""
    if len(classes) != num_classes:
        raise DFERError(
            f'the dataset has {len(classes)} classes ({", ".join(classes)}), but the head has '
            f'num_classes={num_classes}: make num_classes (or classes) of model.cls_head match '
            'the dataset'
        )
