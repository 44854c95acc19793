"""Transforms of MMAction2's pipeline that are ours."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from mmaction.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ShuffleFrames(BaseTransform):
    """Puts the sampled frames of each clip in a random order: what does a model read of time?

    The frame-order test of Align-DFER. Stands between sampling and decoding.

    Args:
        seed: Draws the orders, together with the clip's file name: each clip has its own.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Permute the frames of a clip.

        Args:
            results: With ``filename``, and either ``frame_inds`` (num_clips * clip_len,), which
                are permuted within each of the ``num_clips``, or frame ``features``
                (num_clips, T, D), which are permuted likewise.
        """
        if 'features' in results:
            features = results['features']
            results['features'] = features[:, self._order(results['filename'], features.shape[1])]
            return results
        order = self._order(results['filename'], results['clip_len'])
        frames = np.asarray(results['frame_inds']).reshape(results['num_clips'], -1)
        results['frame_inds'] = frames[:, order].reshape(-1)
        return results

    def _order(self, filename: str, length: int) -> np.ndarray:
        """Return the order (length,) in which a clip's frames are put."""
        clip = zlib.crc32(Path(filename).name.encode())
        return np.random.default_rng((self.seed, clip)).permutation(length)
