"""Provide ShuffleFrames, the transform for the frame-order test of a trained model."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from mmaction.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ShuffleFrames(BaseTransform):
    """Put the sampled frames of each clip in a random order.

    The accuracy that a model loses on shuffled frames shows how much it uses the order of frames.
    This is the frame-order test of the Align-DFER paper. In a pipeline the transform is placed
    between the sampler and the decoder.

    Args:
        seed: Seed of the random orders. The order of a clip depends on this seed and on the clip's
            file name, so that each clip has an order of its own. The default is 0.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Permute the frames of a clip.

        Args:
            results: The sample's dictionary, with ``filename``. It also contains either
                ``frame_inds`` (num_clips * clip_len,), which is permuted within each of the
                ``num_clips`` parts, or frame vectors as ``features`` (num_clips, T, D), which are
                permuted along T.

        Returns:
            The same dictionary with the permuted ``frame_inds`` or ``features``.
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
        """Return the permutation (length,) of the frames of the clip with this file name."""
        clip = zlib.crc32(Path(filename).name.encode())
        return np.random.default_rng((self.seed, clip)).permutation(length)
