"""Resuming with another number of iterations in an epoch: another batch size, or other ranks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.optim import OptimWrapper, OptimWrapperDict, _ParamScheduler
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmdfer.engine.runner.progress import train_loop
from mmdfer.errors import DFERError

Group = dict[str, Any]
_NOT_REPEATABLE = (
    'a scheduler that depends on past validations cannot be resumed with another batch size or '
    'number of ranks: use those that the run began with'
)
_PROGRESS = {'optimizer', 'base_values', 'last_step', '_global_step', '_last_value', 'verbose'}
Part = tuple[str, OptimWrapper, Sequence[_ParamScheduler]]


def fit_to_epoch_length(runner: Runner, checkpoint: dict[str, Any]) -> None:
    """Rewrite the iterations in a checkpoint for the length that an epoch has now.

    A checkpoint counts iterations, and its schedulers know the length of an epoch. With another
    batch size or number of ranks both would be those of the run that saved it. They become those
    of a run that had this batch size from the start: the count, each scheduler's state, and the
    rates that the optimizer starts from, which `auto_scale_lr` may scale to the batch size. The
    same holds where the config has changed a scheduler's settings, as its length, which mmengine
    would replace by the saved ones.

    Args:
        runner: Resuming, its optimizer and schedulers built and nothing loaded yet.
        checkpoint: Changed in place where lengths, scaled rates or settings differ.

    Raises:
        DFERError: A scheduler depends on past validations and cannot be computed again.
    """
    loop, meta = train_loop(runner), checkpoint['meta']
    if not isinstance(loop, EpochBasedTrainLoop):
        return
    length = len(loop.dataloader)
    saved_at, meta['iter'] = meta['iter'], meta['epoch'] * length
    scaled = (runner.auto_scale_lr or {}).get('enable', False)
    for key, wrapper, schedulers in _parts(runner):
        saved = checkpoint['optimizer'][key] if key else checkpoint['optimizer']
        states = checkpoint.get('param_schedulers', {} if key else [])
        states = states.get(key, []) if key else states
        longer = saved_at != meta['iter'] and any(not s.by_epoch for s in schedulers)
        rescaled = scaled and _has_other_rates(wrapper, schedulers, saved)
        if not (longer or rescaled or _has_other_settings(schedulers, states)):
            continue
        if any(getattr(scheduler, 'need_val_args', False) for scheduler in schedulers):
            if longer or rescaled:
                raise DFERError(_NOT_REPEATABLE)
            continue
        runner.logger.info(
            f'The schedule differs from that of the checkpoint, which was saved at iteration '
            f'{saved_at}: resuming as a run would that had {length} iterations in an epoch, and '
            'the present schedule, from the start'
        )
        _step(schedulers, meta['epoch'], length)
        for ours, theirs in _groups(wrapper, saved):
            theirs.update({k: ours[k] for k in _scheduled(schedulers) if k in ours})
        states[:] = [scheduler.state_dict() for scheduler in schedulers]


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


def _has_other_rates(
    wrapper: OptimWrapper, schedulers: Sequence[_ParamScheduler], saved: Group
) -> bool:
    """Return whether the optimizer starts from other rates than the saved one did."""
    rate = 'initial_lr' if schedulers else 'lr'
    return any(ours.get(rate) != theirs.get(rate) for ours, theirs in _groups(wrapper, saved))


def _has_other_settings(schedulers: Sequence[_ParamScheduler], states: Sequence[Group]) -> bool:
    """Return whether the config has other schedulers than the checkpoint."""
    if len(schedulers) != len(states):
        return True
    for scheduler, state in zip(schedulers, states):
        ours = {k: v for k, v in vars(scheduler).items() if k not in _PROGRESS}
        if any(state.get(key) != value for key, value in ours.items() if not callable(value)):
            return True
    return False


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
