"""A value that is computed from tensors once, and again when one of them has changed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

SAMPLES = 4096  # values of each tensor that are compared


class _Entry(NamedTuple):
    versions: list[tuple]
    values: Tensor
    result: Any


class TensorCache:
    """Keep results that depend on tensors only, until one of the tensors changes.

    Most changes show in a tensor's version, which costs nothing to read. Those through ``.data`` do
    not: EMAHook and SWA swap weights that way, and fused optimizers and quantisation write to them
    likewise. So values spread over each tensor are compared as well: on every call in eval, and on
    the first call after each switch of mode in training, where a comparison would have each step
    wait for the GPU.
    """

    def __init__(self) -> None:
        self._entries: dict[Hashable, _Entry] = {}
        self._compared: set[Hashable] = set()
        self._training = False

    def __len__(self) -> int:
        """Count the results that are kept."""
        return len(self._entries)

    def set_mode(self, training: bool) -> None:
        """Compare values on the next call; whether on all that follow depends on the mode."""
        self._training = training
        self._compared.clear()

    def clear(self) -> None:
        """Forget all results."""
        self._entries.clear()

    def get(self, key: Hashable, tensors: Sequence[Tensor], compute: Callable[[], Any]) -> Any:
        """Return the result under a key, computed again where a tensor has changed.

        Args:
            key: What the result depends on besides the tensors, such as a dtype.
            tensors: On one device.
            compute: Makes the result.
        """
        versions = [(t._version, t.data_ptr(), t.requires_grad) for t in tensors]
        entry = self._entries.get(key)
        if entry is None or entry.versions != versions or not self._is_equal(key, entry, tensors):
            entry = self._entries[key] = _Entry(versions, _sample(tensors), compute())
        if self._training:
            self._compared.add(key)
        return entry.result

    def _is_equal(self, key: Hashable, entry: _Entry, tensors: Sequence[Tensor]) -> bool:
        return key in self._compared or torch.equal(entry.values, _sample(tensors))


@torch.no_grad()
def _sample(tensors: Sequence[Tensor]) -> Tensor:
    """Read values of each tensor that lie evenly apart, as one vector."""
    # An odd step meets every column of a matrix whose width is a power of two.
    return torch.cat([t.flatten()[:: t.numel() // SAMPLES | 1] for t in tensors])
