"""Provide the neck of EC-STFL, which computes the expression-clustered loss on its output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor

from mmaction.registry import MODELS

from mmdfer.errors import DFERError
from mmdfer.models.losses.labels import read_single_labels


@MODELS.register_module()
class ExpressionClusteredNeck(BaseModule):
    """Add the expression-clustered loss of EC-STFL to a recognizer (Jiang et al., ACM MM 2020).

    The neck turns features into one vector for each clip. In training it also computes
    ExpressionClusteredLoss on these vectors, and the recognizer adds this loss to that of the head.
    The head reads the same vectors. The neck works in every recognizer that passes on the losses of
    its neck, which all recognizers of MMAction2 do.

    Args:
        loss: Config of the loss. The default is ExpressionClusteredLoss with its default arguments.
        neck: Config of an inner neck that computes the vectors. By default the features are
            averaged over time and space.
        dims: Width of the vectors, which is passed to the inner neck. CLIPRecognizer sets it.
        in_index: Index of the feature map that is read if the backbone returns several.
        init_cfg: Passed to mmengine's BaseModule.
    """

    def __init__(
        self,
        loss: dict | None = None,
        neck: dict | None = None,
        dims: int | None = None,
        in_index: int = -1,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        self.in_index = in_index
        self.loss = MODELS.build(loss or dict(type='ExpressionClusteredLoss'))
        self.neck = None
        if neck is not None:
            self.neck = MODELS.build(neck if dims is None else {'dims': dims, **neck})

    def forward(
        self, x: Tensor | Sequence[Tensor], data_samples: Any = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute one vector for each clip and, in training, the expression-clustered loss.

        Args:
            x: Frame vectors (N, T, D), clip vectors (N, C), a feature map (N, C, T, h, w), or a
                sequence of feature maps.
            data_samples: Samples with the labels, which recognizers pass in training. If a clip has
                several views, the views share its label.

        Returns:
            The vectors, of shape (N, D), or (N, C, 1, 1, 1) for feature maps, and a dict of losses.
            In training the dict contains ``loss_ec``.

        Raises:
            DFERError: If the shape of the features is not supported, or if a label is a soft label.
        """
        if self.neck is None:
            vectors, losses = self._pool(x), {}
        else:
            vectors, losses = self.neck(x, data_samples=data_samples)
        if data_samples is not None:
            flat = vectors.flatten(1)
            losses = {
                **losses,
                'loss_ec': self.loss(
                    flat, read_single_labels(data_samples, flat, 'ExpressionClusteredLoss')
                ),
            }
        return vectors, losses

    def text(self, sentences: Tensor) -> Tensor:
        """Compute one vector for each class from its sentences, (C, S, D) -> (C, D)."""
        return sentences.mean(1) if self.neck is None else self.neck.text(sentences)

    def text_side(self) -> list[Tensor]:
        """Return the tensors, besides its argument, that :meth:`text` reads; see TemporalNeck."""
        return [] if self.neck is None else self.neck.text_side()

    def _pool(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        """Average features over time and space to one vector for each clip."""
        feature = x if isinstance(x, Tensor) else x[self.in_index]
        if feature.ndim == 5:
            return feature.mean((2, 3, 4), keepdim=True)
        if feature.ndim == 3:
            return feature.mean(1)
        if feature.ndim == 2:
            return feature
        raise DFERError(
            f'ExpressionClusteredNeck: features of shape {tuple(feature.shape)} are not supported; '
            'with Recognizer2D the backbone needs two or more out_indices, for example '
            'out_indices=(2, 3), because MMAction2 slices a single feature map wrongly'
        )
