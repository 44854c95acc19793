"""Resuming with another number of iterations in an epoch: another batch size, or other ranks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.optim import OptimWrapper, OptimWrapperDict, _ParamScheduler
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmdfer.engine.progress import train_loop
from mmdfer.errors import DFERError

Group = dict[str, Any]
Part = tuple[str, OptimWrapper, Sequence[_ParamScheduler]]


def fit_to_epoch_length(runner: Runner, checkpoint: dict[str, Any]) -> None:
    """Rewrite the iterations in a checkpoint for the length that an epoch has now.

    A checkpoint counts iterations, and its schedulers know the length of an epoch. With another
    batch size or number of ranks both would be those of the run that saved it. They become those
    of a run that had this batch size from the start: the count, each scheduler's state, and the
    rates that the optimizer starts from, which `auto_scale_lr` may scale to the batch size.

    Args:
        runner: Resuming, its optimizer and schedulers built and nothing loaded yet.
        checkpoint: Changed in place where the lengths, or the scaled rates, differ.

    Raises:
        DFERError: A scheduler depends on past validations and cannot be computed again.
    """
    loop, meta = train_loop(runner), checkpoint['meta']
    if not isinstance(loop, EpochBasedTrainLoop):
        return
    length, iteration = len(loop.dataloader), meta['epoch'] * len(loop.dataloader)
    parts = list(_parts(runner))
    if meta['iter'] == iteration and not _is_rescaled(runner, parts, checkpoint):
        return
    runner.logger.info(
        f'Resuming epoch {meta["epoch"]} at iteration {iteration}, not {meta["iter"]}: an epoch '
        f'has {length} iterations now, and the schedule is that of a run with this batch size'
    )
    meta['iter'] = iteration
    for key, wrapper, schedulers in parts:
        _check_repeatable(schedulers, runner)
        _step(schedulers, meta['epoch'], length)
        saved = checkpoint['optimizer'][key] if key else checkpoint['optimizer']
        for ours, theirs in _groups(wrapper, saved):
            theirs.update({k: ours[k] for k in _scheduled(schedulers) if k in ours})
        states = [scheduler.state_dict() for scheduler in schedulers]
        if key:
            checkpoint['param_schedulers'][key] = states
        elif schedulers:
            checkpoint['param_schedulers'] = states


def _parts(runner: Runner) -> Iterator[Part]:
    """Yield each optimizer under its key, '' where there is one, with its schedulers."""
    wrapper, schedulers = runner.optim_wrapper, runner.param_schedulers or []
    if isinstance(wrapper, OptimWrapperDict):
        for key, single in wrapper.items():
            yield key, single, schedulers[key] if schedulers else []
    else:
        yield '', wrapper, schedulers


def _groups(wrapper: OptimWrapper, saved: dict[str, Any]) -> Iterator[tuple[Group, Group]]:
    """Yield the optimizer's parameter groups beside those of its saved state."""
    yield from zip(wrapper.optimizer.param_groups, saved['param_groups'])
    # mmengine schedules one group more, whose rate it logs where groups have their own factors.
    if wrapper.base_param_settings is not None and 'base_param_settings' in saved:
        yield wrapper.base_param_settings, saved['base_param_settings']


def _is_rescaled(runner: Runner, parts: Sequence[Part], checkpoint: dict[str, Any]) -> bool:
    """Return whether `auto_scale_lr` starts from other rates than the saved run did."""
    if not (runner.auto_scale_lr or {}).get('enable', False):
        return False
    for key, wrapper, schedulers in parts:
        rate = 'initial_lr' if schedulers else 'lr'
        saved = checkpoint['optimizer'][key] if key else checkpoint['optimizer']
        if any(ours.get(rate) != theirs.get(rate) for ours, theirs in _groups(wrapper, saved)):
            return True
    return False


def _check_repeatable(schedulers: Sequence[_ParamScheduler], runner: Runner) -> None:
    for scheduler in schedulers:
        if getattr(scheduler, 'need_val_args', False):
            raise DFERError(
                f'{type(scheduler).__name__} depends on past validations, so the run cannot be '
                'resumed with another number of iterations in an epoch: use the batch size and '
                'the number of ranks that it began with'
            )


def _step(schedulers: Sequence[_ParamScheduler], epochs: int, length: int) -> None:
    """Step schedulers that are at the start as ParamSchedulerHook does in training."""
    by_iter = [scheduler for scheduler in schedulers if not scheduler.by_epoch]
    by_epoch = [scheduler for scheduler in schedulers if scheduler.by_epoch]
    with warnings.catch_warnings():
        # They warn that no optimizer has stepped, which is so on purpose.
        warnings.filterwarnings('ignore', message=r'Detected call of `scheduler\.step\(\)`')
        for _ in range(epochs):
            for _ in range(length):
                for scheduler in by_iter:
                    scheduler.step()
            for scheduler in by_epoch:
                scheduler.step()


def _scheduled(schedulers: Sequence[_ParamScheduler]) -> set[str]:
    """Return the entries of a parameter group that are the schedulers' and the rate's."""
    names = {'lr', *(scheduler.param_name for scheduler in schedulers)}
    keys = {f'{prefix}{name}' for name in names for prefix in ('', 'initial_', 'max_', 'min_')}
    # Of Adam, mmengine schedules the momentum inside the tuple `betas`.
    return keys | {'betas'} if 'momentum' in names else keys
