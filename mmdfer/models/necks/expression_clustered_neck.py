"""The neck of EC-STFL, which passes its features on to the expression-clustered loss."""

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
    """A neck that pools features and adds ExpressionClusteredLoss to the head's loss.

    For any recognizer that passes the neck's loss on, as MMAction2's do; the head sees the very
    vectors that are clustered. Another neck may stand inside, whose vectors these then are.

    Args:
        loss: Config of the loss.
        neck: Config of the neck inside; None takes the mean over time and space.
        dims: The width of the vectors, handed to the neck inside; CLIPRecognizer gives it.
        in_index: Which of several feature maps is read.
        init_cfg: As for mmengine's BaseModule.
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
        """Makes one vector of each clip; in training adds the loss.

        Args:
            x: (N, T, D) frame vectors, (N, C) clip vectors, or (N, C, T, h, w), alone or one of
                several.
            data_samples: With the labels, in training; several views of a clip share one.

        Returns:
            (N, D), or (N, C, 1, 1, 1) for feature maps, and ``loss_ec``.

        Raises:
            DFERError: Feature maps of an unusable shape, or soft labels.
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
        """Makes one vector of each class's sentences, (C, S, D) -> (C, D)."""
        return sentences.mean(1) if self.neck is None else self.neck.text(sentences)

    def text_side(self) -> list[Tensor]:
        """The tensors that :meth:`text` reads."""
        return [] if self.neck is None else self.neck.text_side()

    def _pool(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        feature = x if isinstance(x, Tensor) else x[self.in_index]
        if feature.ndim == 5:
            return feature.mean((2, 3, 4), keepdim=True)
        if feature.ndim == 3:
            return feature.mean(1)
        if feature.ndim == 2:
            return feature
        raise DFERError(
            f'ExpressionClusteredNeck: features of shape {tuple(feature.shape)}. Under '
            'Recognizer2D the backbone needs two or more out_indices, for instance '
            'out_indices=(2, 3): MMAction2 slices a single map wrongly'
        )
