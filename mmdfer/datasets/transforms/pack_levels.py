"""Provide the transform that packs the frames and the semantic levels of a clip for the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from mmaction.datasets.transforms import PackActionInputs
from mmaction.registry import TRANSFORMS

from mmdfer.errors import DFERError


@TRANSFORMS.register_module()
class PackLevels(PackActionInputs):
    """Pack frames, label and the levels that LoadLevels has loaded.

    ``inputs`` are the frames alone, as PackActionInputs packs them, so that a model without levels
    can use the same pipeline, but not with EncodedClips. The data sample has in addition

    - ``parts``: the pictures of masks and landmarks, a uint8 tensor of the shape of ``inputs``, or
      None if the clip has none;
    - ``caption``: the caption as a string, or None if the clip has none or it was dropped;
    - ``lacks``, ``unread`` and ``frames_without_landmarks`` in its metainfo, as LoadLevels
      describes them. A caption that was dropped is not listed in ``lacks``.

    Args:
        drop_captions: Probability of leaving out the caption of a clip, for training. It is drawn
            last, so that the frames of a view are the same for every probability. If the dataset
            has ``num_views=V``, the caption of each of the V views is always or never dropped.
        kwargs: Passed to PackActionInputs.

    Raises:
        DFERError: If ``drop_captions`` is not within 0..1.
    """

    def __init__(self, drop_captions: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= drop_captions <= 1:
            raise DFERError(f'PackLevels: drop_captions must be within 0..1, got {drop_captions!r}')
        self.drop_captions = drop_captions

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pack a sample.

        Args:
            results: The sample's dictionary after LoadLevels and FormatShape, with ``imgs`` of
                shape (crops * num_clips, 3, T, H, W). If it ``has_parts``, the ``num_clips`` of
                each crop are one half frames and one half pictures of the levels.

        Returns:
            A dictionary with ``inputs``, uint8 (crops * clips, 3, T, H, W), and ``data_samples``.

        Raises:
            DFERError: If LoadLevels is not in the pipeline, or ``imgs`` has another shape.
        """
        if 'has_parts' not in results:
            raise DFERError('PackLevels: the pipeline has no LoadLevels before PackLevels; add it')
        imgs, parts = torch.from_numpy(np.asarray(results['imgs'])), None
        if imgs.ndim != 5:
            raise DFERError(
                f'PackLevels: the frames have the shape {tuple(imgs.shape)}, but must be (views, '
                '3, T, H, W); set the input_format of FormatShape to NCTHW'
            )
        if results['has_parts']:
            # Both halves stay in one block of memory, which a worker passes on as one file.
            halves = imgs.unflatten(0, (-1, 2, results['num_clips'] // 2))
            imgs, parts = (half.flatten(0, 1) for half in halves.unbind(1))
        dropped = np.random.random() < self.drop_captions
        packed = super().transform(dict(results, imgs=imgs))
        sample = packed['data_samples']
        sample.set_field(parts, 'parts')
        sample.set_field(None if dropped else results['caption'], 'caption')
        names = ('lacks', 'unread', 'frames_without_landmarks')
        sample.set_metainfo({name: results[name] for name in names})
        return packed
