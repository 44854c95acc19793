"""Carry the epoch from the sampler to the dataset, inside the index.

A dataset needs the epoch to choose the view of a clip. mmengine tells the epoch to samplers, but
not to datasets: their worker processes may live for several epochs. mmengine's dataset wrappers
convert an index into an index of the inner dataset, and a clip may occur several times in an epoch.
Here, the index itself carries the number of times that the clip was shown before.
:func:`carry_epochs` extends mmengine's samplers and wrappers to create and pass on such an index.
This works in the main process and in every kind of worker.
"""

from __future__ import annotations

import functools
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import Any

from mmengine.dataset import (
    ClassBalancedDataset,
    ConcatDataset,
    DefaultSampler,
    InfiniteSampler,
    RepeatDataset,
)


class EpochIndex(int):
    """Represent a dataset index together with the number of times the clip was shown before.

    Args:
        index: Index of the clip in the dataset.
        epoch: How often the clip was shown before. If each epoch shows each clip once, this is
            the epoch, counted from 0.
    """

    epoch: int

    def __new__(cls, index: int, epoch: int) -> EpochIndex:
        """Create an int with an attribute ``epoch``."""
        self = super().__new__(cls, index)
        self.epoch = epoch
        return self

    def __reduce__(self) -> tuple[type[EpochIndex], tuple[int, int]]:
        """Return the constructor and its arguments, so that pickling keeps the epoch."""
        return type(self), (int(self), self.epoch)


def carry_epochs() -> None:
    """Patch mmengine's samplers to yield :class:`EpochIndex` and its wrappers to pass it on.

    The patch also applies to samplers and wrappers that inherit from mmengine's. Call this function
    only once; importing ``mmdfer.datasets`` calls it.
    """
    _extend(DefaultSampler, '__iter__', _sample)
    _extend(InfiniteSampler, '_infinite_indices', _sample_infinitely)
    _extend(RepeatDataset, '_get_ori_dataset_idx', _repeat)
    _extend(ClassBalancedDataset, '_get_ori_dataset_idx', _balance)
    _extend(ConcatDataset, '_get_ori_dataset_idx', _concatenate)


def _extend(owner: type, name: str, extension: Callable) -> None:
    """Replace a method of a class by ``extension``, which gets the original as first argument."""
    upstream = getattr(owner, name)

    @functools.wraps(upstream)
    def method(self: Any, *args: Any) -> Any:
        return extension(upstream, self, *args)

    setattr(owner, name, method)


def _sample(upstream: Callable, sampler: DefaultSampler) -> Iterator[EpochIndex]:
    """Attach the epoch of the sampler to each index of DefaultSampler."""
    return (EpochIndex(index, sampler.epoch) for index in upstream(sampler))


def _sample_infinitely(upstream: Callable, sampler: InfiniteSampler) -> Iterator[EpochIndex]:
    """Attach to each index of InfiniteSampler the number of complete passes over the dataset."""
    for position, index in enumerate(upstream(sampler)):
        yield EpochIndex(index, position // sampler.size)


def _repeat(upstream: Callable, wrapper: RepeatDataset, index: int) -> int:
    """Count each of the ``times`` repetitions by RepeatDataset as an epoch of its own."""
    inner = upstream(wrapper, index)
    if not isinstance(index, EpochIndex):
        return inner
    return EpochIndex(inner, index.epoch * wrapper.times + index // wrapper._ori_len)


def _balance(upstream: Callable, wrapper: ClassBalancedDataset, index: int) -> int:
    """Count each repetition of a clip by ClassBalancedDataset as an epoch of its own.

    The copies of a clip are next to each other in the sorted list ``repeat_indices``.
    """
    inner = upstream(wrapper, index)
    if not isinstance(index, EpochIndex):
        return inner
    first = bisect_left(wrapper.repeat_indices, inner)
    times = bisect_right(wrapper.repeat_indices, inner) - first
    return EpochIndex(inner, index.epoch * times + index - first)


def _concatenate(upstream: Callable, wrapper: ConcatDataset, index: int) -> tuple[int, int]:
    """Return the inner dataset's number and index in ConcatDataset, and keep the epoch."""
    dataset, inner = upstream(wrapper, index)
    return dataset, EpochIndex(inner, index.epoch) if isinstance(index, EpochIndex) else inner
