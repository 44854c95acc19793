"""Cache values that are computed from tensors until one of the tensors changes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

SAMPLES = 4096  # approximate number of values of each tensor that are compared


class _Entry(NamedTuple):
    versions: list[tuple]
    values: Tensor
    result: Any


class TensorCache:
    """Cache results that depend only on tensors, and recompute them when a tensor has changed.

    FrozenCLIP uses this cache for weights that it derives from CLIP's weights, and CLIPRecognizer
    uses it for class vectors.

    The cache detects most changes from the version counter of a tensor, which costs nothing to
    read. Changes made through ``.data`` do not increase the version: EMAHook and SWA swap weights
    in this way, and fused optimizers and quantisation write to them in this way. The cache
    therefore also compares values sampled evenly from each tensor. In eval mode it compares them on
    every call. In training mode it compares them only on the first call after each switch of mode,
    because a comparison makes the step wait for the GPU.
    """

    def __init__(self) -> None:
        self._entries: dict[Hashable, _Entry] = {}
        self._compared: set[Hashable] = set()
        self._training = False

    def __len__(self) -> int:
        """Return the number of cached results."""
        return len(self._entries)

    def set_mode(self, training: bool) -> None:
        """Set whether the model trains, which decides how often values of the tensors are compared.

        In both modes, the next call of :meth:`get` compares values. In training mode, later calls
        compare only versions.

        Args:
            training: Whether the model is in training mode.
        """
        self._training = training
        self._compared.clear()

    def clear(self) -> None:
        """Delete all cached results."""
        self._entries.clear()

    def get(self, key: Hashable, tensors: Sequence[Tensor], compute: Callable[[], Any]) -> Any:
        """Return the cached result of a key, or compute it if it is absent or a tensor has changed.

        Args:
            key: Identifies the result among those of this cache, for example by the dtype that the
                result depends on.
            tensors: Tensors that the result depends on. They must be on one device.
            compute: Function without arguments that computes the result.
        """
        versions = [(t._version, t.data_ptr(), t.requires_grad) for t in tensors]
        entry = self._entries.get(key)
        if entry is None or entry.versions != versions or not self._is_equal(key, entry, tensors):
            entry = self._entries[key] = _Entry(versions, _sample(tensors), compute())
        if self._training:
            self._compared.add(key)
        return entry.result

    def _is_equal(self, key: Hashable, entry: _Entry, tensors: Sequence[Tensor]) -> bool:
        """Return whether the sampled values are unchanged, or need no comparison on this call."""
        return key in self._compared or torch.equal(entry.values, _sample(tensors))


@torch.no_grad()
def _sample(tensors: Sequence[Tensor]) -> Tensor:
    """Return about ``SAMPLES`` evenly spaced values of each tensor, concatenated to one vector."""
    # The step is odd, so that the samples include every column of a matrix even if its width is a
    # power of two.
    return torch.cat([t.flatten()[:: t.numel() // SAMPLES | 1] for t in tensors])
