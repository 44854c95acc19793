"""Which showing of a clip an index asks for, carried from the sampler to the dataset.

mmengine tells the epoch to its samplers, but not to datasets, whose workers may outlive epochs; its
wrappers turn an index into one of the inner dataset and forget how often that was shown. Here an
index itself carries the number. It passes through mmengine's own samplers and wrappers, which
:func:`carry_epochs` extends, in the main process and in every kind of worker.
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
    """An index that knows how often it was shown before.

    Args:
        index: The place in the dataset.
        epoch: The number of earlier showings: the epoch, where a clip is shown once in each.
    """

    epoch: int

    def __new__(cls, index: int, epoch: int) -> EpochIndex:
        """Return an int with an attribute ``epoch``."""
        self = super().__new__(cls, index)
        self.epoch = epoch
        return self

    def __reduce__(self) -> tuple[type[EpochIndex], tuple[int, int]]:
        """Return what a copy in another process is made of."""
        return type(self), (int(self), self.epoch)


def carry_epochs() -> None:
    """Have mmengine's samplers yield :class:`EpochIndex`, and its wrappers pass it on.

    Samplers and wrappers that are derived from mmengine's do so too. To be called once.
    """
    _extend(DefaultSampler, '__iter__', _sample)
    _extend(InfiniteSampler, '_infinite_indices', _sample_infinitely)
    _extend(RepeatDataset, '_get_ori_dataset_idx', _repeat)
    _extend(ClassBalancedDataset, '_get_ori_dataset_idx', _balance)
    _extend(ConcatDataset, '_get_ori_dataset_idx', _concatenate)


def _extend(owner: type, name: str, extension: Callable) -> None:
    """Replace a method by ``extension(method, self, ...)``."""
    upstream = getattr(owner, name)

    @functools.wraps(upstream)
    def method(self: Any, *args: Any) -> Any:
        return extension(upstream, self, *args)

    setattr(owner, name, method)


def _sample(upstream: Callable, sampler: DefaultSampler) -> Iterator[EpochIndex]:
    return (EpochIndex(index, sampler.epoch) for index in upstream(sampler))


def _sample_infinitely(upstream: Callable, sampler: InfiniteSampler) -> Iterator[EpochIndex]:
    """Every pass over the dataset is an epoch."""
    for position, index in enumerate(upstream(sampler)):
        yield EpochIndex(index, position // sampler.size)


def _repeat(upstream: Callable, wrapper: RepeatDataset, index: int) -> int:
    """In each epoch a clip is shown ``times`` times."""
    inner = upstream(wrapper, index)
    if not isinstance(index, EpochIndex):
        return inner
    return EpochIndex(inner, index.epoch * wrapper.times + index // wrapper._ori_len)


def _balance(upstream: Callable, wrapper: ClassBalancedDataset, index: int) -> int:
    """Count the epochs of a clip that ``repeat_indices`` lists several times.

    Its copies stand next to each other in the list, and each showing counts as an epoch of its own.
    """
    inner = upstream(wrapper, index)
    if not isinstance(index, EpochIndex):
        return inner
    first = bisect_left(wrapper.repeat_indices, inner)
    times = bisect_right(wrapper.repeat_indices, inner) - first
    return EpochIndex(inner, index.epoch * times + index - first)


def _concatenate(upstream: Callable, wrapper: ConcatDataset, index: int) -> tuple[int, int]:
    dataset, inner = upstream(wrapper, index)
    return dataset, EpochIndex(inner, index.epoch) if isinstance(index, EpochIndex) else inner
