"""The stages of training as data, and the lengths and learning rates that follow from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from mmengine.optim.scheduler import CosineAnnealingParamScheduler
from mmengine.optim.scheduler.param_scheduler import CosineRestartParamScheduler

from mmaction.registry import PARAM_SCHEDULERS

from mmdfer.errors import DFERError
from mmdfer.models.parameter_patterns import is_named


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Args:
        name: The stage's name, for the log and for the modules that change with it.
        epochs: How many epochs it lasts.
        trains: Patterns of parameters' names, by the rule of ``is_named``: what trains.
        grows_at: Epochs, counted from the stage's first, at which a layer joins.
        newest_only: Whether of the layers that have joined only the newest trains.
    """

    name: str
    epochs: int
    trains: Sequence[str]
    grows_at: Sequence[int] | None = None
    newest_only: bool = False

    def joined(self, epoch: int) -> int | None:
        """Count the layers that have joined by an epoch; None for a stage that adds none."""
        return None if self.grows_at is None else sum(at <= epoch for at in self.grows_at)

    def matches(self, name: str) -> bool:
        """Return whether the stage trains the parameter of this name."""
        return is_named(name, self.trains)


def total_epochs(stages: Sequence[Stage], max_epochs: int | None) -> int:
    """Return the number of epochs of all stages.

    Args:
        stages: In order.
        max_epochs: The number that the config gives, if any.

    Raises:
        DFERError: ``max_epochs`` is another number.
    """
    epochs = [stage.epochs for stage in stages]
    if max_epochs not in (None, sum(epochs)):
        raise DFERError(
            f'BAPHook: the stages last {" + ".join(map(str, epochs))} = {sum(epochs)} epochs, '
            f'train_cfg.max_epochs is {max_epochs}: make them equal, or leave max_epochs out of '
            "train_cfg=dict(type='StagedTrainLoop')"
        )
    return sum(epochs)


def fill_schedulers(config: Any, stages: Sequence[Stage], key: str = 'param_scheduler') -> Any:
    """Return the configs of schedulers with the epochs that follow from the stages.

    A scheduler whose config has ``stage='NAME'`` works during that stage: its ``begin`` and ``end``
    are filled in. A ``CosineRestartLR`` without ``periods`` restarts at each stage, and one with
    ``periods=N``, a number, every N epochs of its stage. ``restart_weights`` default to 1.

    Args:
        config: Of one scheduler, or a list or dict of them; what is built already stays as it is.
        stages: In order.
        key: The config's key, for messages.

    Raises:
        DFERError: ``begin``, ``end``, ``periods`` or ``T_max`` disagree with the stages.
    """
    if isinstance(config, Mapping):
        if 'type' in config:
            return _fill(dict(config), stages, key)
        return {name: fill_schedulers(c, stages, f'{key}.{name}') for name, c in config.items()}
    if isinstance(config, (list, tuple)):
        parts = enumerate(config)
        return type(config)(fill_schedulers(c, stages, f'{key}.{index}') for index, c in parts)
    return config


def _fill(config: dict[str, Any], stages: Sequence[Stage], key: str) -> dict[str, Any]:
    """Fill in the config of one scheduler, which is changed in place."""
    kind = config['type']
    kind = PARAM_SCHEDULERS.get(kind) if isinstance(kind, str) else kind
    restarts = kind is not None and issubclass(kind, CosineRestartParamScheduler)
    if not config.get('by_epoch', True):
        if 'stage' in config or (restarts and 'periods' not in config):
            raise DFERError(
                f'{key} counts iterations, and the stages last epochs: set by_epoch=True, with '
                'convert_to_iter_based=True for a rate that changes in each iteration'
            )
        return config
    if 'stage' in config:
        _fill_range(config, stages, key)
    if restarts:
        _fill_periods(config, _lengths(config, stages, key), key)
    elif kind is not None and issubclass(kind, CosineAnnealingParamScheduler):
        epochs = sum(_lengths(config, stages, key))
        if config.get('T_max') not in (None, epochs):
            raise DFERError(
                f'{key}.T_max is {config["T_max"]}, the stages give it {epochs} epochs: leave '
                'T_max out, and it follows from them'
            )
    return config


def _fill_range(config: dict[str, Any], stages: Sequence[Stage], key: str) -> None:
    """Replace the name of a stage by its first epoch and its end."""
    name, names = config.pop('stage'), [stage.name for stage in stages]
    if names.count(name) != 1:
        raise DFERError(f"{key}.stage is {name!r}: name one of BAPHook's stages, {names}")
    index = names.index(name)
    end = sum(stage.epochs for stage in stages[: index + 1])
    begin = end - stages[index].epochs
    if begin == end:
        raise DFERError(f'{key}.stage is {name!r}, which has no epochs: leave the scheduler out')
    for bound, epoch in dict(begin=begin, end=end).items():
        if config.get(bound) not in (None, epoch):
            raise DFERError(
                f'{key}.{bound} is {config[bound]}, stage {name!r} has its {bound} at epoch '
                f'{epoch}: leave {bound} out'
            )
        config[bound] = epoch


def _lengths(config: dict[str, Any], stages: Sequence[Stage], key: str) -> list[int]:
    """Return how many epochs of each stage lie between a scheduler's begin and end."""
    ends = list(accumulate(stage.epochs for stage in stages))
    begin, end = config.get('begin', 0), config.get('end', sum(stage.epochs for stage in stages))
    if end not in ends:
        raise DFERError(
            f'{key}.end is {end}, the stages end at epochs {ends}: leave end out to end with the '
            "last, or give stage='NAME'"
        )
    bounds = sorted({begin, *(at for at in ends if begin < at <= end)})
    return [later - earlier for earlier, later in zip(bounds, bounds[1:])]


def _fill_periods(config: dict[str, Any], lengths: list[int], key: str) -> None:
    """Give a scheduler its restarts, or refuse those that it has where stages begin elsewhere."""
    periods = config.get('periods')
    if periods is None:
        periods = lengths
    elif isinstance(periods, int) and periods > 0 and len(lengths) == 1:
        periods = [periods] * math.ceil(lengths[0] / periods)
    elif isinstance(periods, int) or not _restarts_at_each(periods, lengths):
        raise DFERError(
            f'{key}.periods is {periods}, the stages last {lengths} epochs: leave periods out to '
            "restart at each stage, or give stage='NAME' and periods=N to restart every N epochs"
        )
    config['periods'] = periods
    if len(periods) > 1:
        config.setdefault('restart_weights', [1] * len(periods))
    weights = config.get('restart_weights', [1])
    if len(weights) != len(periods):
        raise DFERError(
            f'{key}.restart_weights has {len(weights)} numbers, and the rate has '
            f'{len(periods)} periods, {periods}: give as many, or leave restart_weights out'
        )


def _restarts_at_each(periods: Sequence[int], lengths: Sequence[int]) -> bool:
    """Return whether periods end where stages end, and possibly between."""
    ends = list(accumulate(periods))
    return set(accumulate(lengths)) <= set(ends) and sum(periods) == sum(lengths)
