"""Define a stage of training, and derive the lengths of learning rate schedules from stages."""

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
    """Describe one stage of training.

    Args:
        name: The name of the stage, for the log and for the modules that change with the stage.
        epochs: The number of epochs that the stage lasts.
        trains: Patterns of the names of the parameters that the stage trains. ``is_named`` defines
            how they match.
        grows_at: The epochs at which a layer joins, counted from the first epoch of the stage. None
            (the default) if the stage adds no layers.
        newest_only: Whether only the newest of the layers that have joined is trained. By default
            all of them are.
    """

    name: str
    epochs: int
    trains: Sequence[str]
    grows_at: Sequence[int] | None = None
    newest_only: bool = False

    def joined(self, epoch: int) -> int | None:
        """Return the number of layers that have joined by an epoch.

        Args:
            epoch: The epoch, counted from 0 at the start of the stage.

        Returns:
            The number of layers, or None if the stage adds no layers.
        """
        return None if self.grows_at is None else sum(at <= epoch for at in self.grows_at)

    def matches(self, name: str) -> bool:
        """Return whether the stage trains the parameter with this name."""
        return is_named(name, self.trains)


def total_epochs(stages: Sequence[Stage], max_epochs: int | None) -> int:
    """Return the number of epochs of all stages together.

    Args:
        stages: The stages in order of training.
        max_epochs: The number of epochs in the config, or None if the config has no such number.

    Raises:
        DFERError: If ``max_epochs`` is another number.
    """
    epochs = [stage.epochs for stage in stages]
    if max_epochs not in (None, sum(epochs)):
        raise DFERError(
            f'BAPHook: the stages last {" + ".join(map(str, epochs))} = {sum(epochs)} epochs, but '
            f'train_cfg.max_epochs is {max_epochs}. Make them equal, or use '
            "train_cfg=dict(type='StagedTrainLoop') without max_epochs"
        )
    return sum(epochs)


def fill_schedulers(config: Any, stages: Sequence[Stage], key: str = 'param_scheduler') -> Any:
    """Fill in the epochs of learning rate schedulers that follow from the stages of training.

    - A scheduler with ``stage='NAME'`` acts during that stage: its ``begin`` and ``end`` are filled
      in.
    - A ``CosineRestartLR`` without ``periods`` restarts at the start of each stage.
    - A ``CosineRestartLR`` with ``periods=N``, an integer, restarts every N epochs of its stage.
    - ``restart_weights`` of a ``CosineRestartLR`` default to 1.

    Args:
        config: The config of a scheduler, or a list or dict of such configs. Schedulers that are
            already built are returned unchanged.
        stages: The stages in order of training.
        key: The name of the config, for error messages.

    Returns:
        The filled configs, in the same structure as ``config``.

    Raises:
        DFERError: If ``begin``, ``end``, ``periods`` or ``T_max`` disagree with the stages.
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
                f'{key} counts iterations, but the stages are measured in epochs. '
                'Set by_epoch=True. To change the learning rate in each iteration, set '
                'convert_to_iter_based=True as well'
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
                f'{key}.T_max is {config["T_max"]}, but the stages last {epochs} epochs. '
                'Omit T_max to derive it from the stages'
            )
    return config


def _fill_range(config: dict[str, Any], stages: Sequence[Stage], key: str) -> None:
    """Replace the name of a stage in a scheduler's config by the stage's begin and end."""
    name, names = config.pop('stage'), [stage.name for stage in stages]
    if names.count(name) != 1:
        raise DFERError(f'{key}.stage must be one of the stages of BAPHook, {names}, got {name!r}')
    index = names.index(name)
    end = sum(stage.epochs for stage in stages[: index + 1])
    begin = end - stages[index].epochs
    if begin == end:
        raise DFERError(f'{key}.stage is {name!r}, which has no epochs: remove the scheduler')
    for bound, epoch in dict(begin=begin, end=end).items():
        if config.get(bound) not in (None, epoch):
            raise DFERError(
                f'{key}.{bound} is {config[bound]}, but stage {name!r} has its {bound} at epoch '
                f'{epoch}: omit {bound}'
            )
        config[bound] = epoch


def _lengths(config: dict[str, Any], stages: Sequence[Stage], key: str) -> list[int]:
    """Return the number of epochs of each stage between a scheduler's begin and end."""
    ends = list(accumulate(stage.epochs for stage in stages))
    begin, end = config.get('begin', 0), config.get('end', sum(stage.epochs for stage in stages))
    if end not in ends:
        raise DFERError(
            f'{key}.end is {end}, but the stages end at epochs {ends}. Omit end to end with the '
            "last stage, or set stage='NAME'"
        )
    bounds = sorted({begin, *(at for at in ends if begin < at <= end)})
    return [later - earlier for earlier, later in zip(bounds, bounds[1:])]


def _fill_periods(config: dict[str, Any], lengths: list[int], key: str) -> None:
    """Fill in the periods of a scheduler with restarts, or check those that its config has.

    Args:
        config: The config of the scheduler, which is changed in place.
        lengths: The number of epochs of each stage between the scheduler's begin and end.
        key: The name of the config, for error messages.

    Raises:
        DFERError: If the periods do not restart at each stage, or if their number differs from that
            of the restart weights.
    """
    periods = config.get('periods')
    if periods is None:
        periods = lengths
    elif isinstance(periods, int) and periods > 0 and len(lengths) == 1:
        periods = [periods] * math.ceil(lengths[0] / periods)
    elif isinstance(periods, int) or not _restarts_at_each(periods, lengths):
        raise DFERError(
            f'{key}.periods is {periods}, but the stages last {lengths} epochs. Omit periods to '
            "restart at each stage, or set stage='NAME' and periods=N to restart every N epochs"
        )
    config['periods'] = periods
    if len(periods) > 1:
        config.setdefault('restart_weights', [1] * len(periods))
    weights = config.get('restart_weights', [1])
    if len(weights) != len(periods):
        raise DFERError(
            f'{key}.restart_weights has {len(weights)} numbers, but there are {len(periods)} '
            f'periods, {periods}. Set one weight for each period, or omit restart_weights'
        )


def _restarts_at_each(periods: Sequence[int], lengths: Sequence[int]) -> bool:
    """Return whether a period ends wherever a stage ends.

    Other periods may end within a stage.

    Args:
        periods: The number of epochs of each period.
        lengths: The number of epochs of each stage.
    """
    ends = list(accumulate(periods))
    return set(accumulate(lengths)) <= set(ends) and sum(periods) == sum(lengths)
