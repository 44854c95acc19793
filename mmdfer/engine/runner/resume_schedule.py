"""Adapt a checkpoint to another number of iterations per epoch.

The number differs if a run resumes with another batch size or another number of ranks.
"""

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
    'number of ranks: use the batch size and the number of ranks that the run was started with'
)
_PROGRESS = {'optimizer', 'base_values', 'last_step', '_global_step', '_last_value', 'verbose'}
Part = tuple[str, OptimWrapper, Sequence[_ParamScheduler]]


def fit_to_epoch_length(runner: Runner, checkpoint: dict[str, Any]) -> None:
    """Rewrite the iteration count and the schedules in a checkpoint for the present epoch length.

    A checkpoint counts iterations, and the states of its schedulers depend on the length of an
    epoch. If the run resumes with another batch size or another number of ranks, these values are
    those of the run that saved the checkpoint. This function replaces them by the values of a run
    that has had the present batch size from the start: the iteration count, the state of each
    scheduler, and the initial learning rates of the optimizer, which `auto_scale_lr` may scale with
    the batch size.

    The schedulers are also replaced if the config has changed their settings, such as their length.
    mmengine would restore the saved settings.

    Args:
        runner: The resuming Runner, with its optimizer and schedulers built and no state loaded
            yet.
        checkpoint: The content of the checkpoint file, which is changed in place if the epoch
            length, the learning rates or the scheduler settings differ.

    Raises:
        DFERError: If a scheduler depends on past validations, so that its state cannot be
            recomputed.
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
            f'{saved_at}. The run resumes as if it had had {length} iterations per epoch and the '
            'present schedule from the start'
        )
        _step(schedulers, meta['epoch'], length)
        for ours, theirs in _groups(wrapper, saved):
            theirs.update({k: ours[k] for k in _scheduled(schedulers) if k in ours})
        states[:] = [scheduler.state_dict() for scheduler in schedulers]


def _parts(runner: Runner) -> Iterator[Part]:
    """Yield each optimizer of the run with its schedulers.

    Yields:
        The key of the optimizer ('' if the run has one optimizer), its wrapper, and its schedulers.
    """
    wrapper, schedulers = runner.optim_wrapper, runner.param_schedulers or []
    if isinstance(wrapper, OptimWrapperDict):
        for key, single in wrapper.items():
            yield key, single, schedulers[key] if schedulers else []
    else:
        yield '', wrapper, schedulers


def _groups(wrapper: OptimWrapper, saved: dict[str, Any]) -> Iterator[tuple[Group, Group]]:
    """Yield the parameter groups of the optimizer together with those of its saved state."""
    yield from zip(wrapper.optimizer.param_groups, saved['param_groups'])
    # If groups have their own learning rate factors, mmengine schedules one more group, which holds
    # the base learning rate that it logs.
    if wrapper.base_param_settings is not None and 'base_param_settings' in saved:
        yield wrapper.base_param_settings, saved['base_param_settings']


def _has_other_rates(
    wrapper: OptimWrapper, schedulers: Sequence[_ParamScheduler], saved: Group
) -> bool:
    """Return whether the initial learning rates differ from those in the checkpoint."""
    rate = 'initial_lr' if schedulers else 'lr'
    return any(ours.get(rate) != theirs.get(rate) for ours, theirs in _groups(wrapper, saved))


def _has_other_settings(schedulers: Sequence[_ParamScheduler], states: Sequence[Group]) -> bool:
    """Return whether the schedulers of the config differ from those in the checkpoint."""
    if len(schedulers) != len(states):
        return True
    for scheduler, state in zip(schedulers, states):
        ours = {k: v for k, v in vars(scheduler).items() if k not in _PROGRESS}
        if any(state.get(key) != value for key, value in ours.items() if not callable(value)):
            return True
    return False


def _step(schedulers: Sequence[_ParamScheduler], epochs: int, length: int) -> None:
    """Step new schedulers through a number of epochs, in the order of ParamSchedulerHook.

    Args:
        schedulers: The schedulers in their initial state, which are changed in place.
        epochs: The number of epochs to step through.
        length: The number of iterations in an epoch.
    """
    by_iter = [scheduler for scheduler in schedulers if not scheduler.by_epoch]
    by_epoch = [scheduler for scheduler in schedulers if scheduler.by_epoch]
    with warnings.catch_warnings():
        # torch warns that the optimizer has not stepped, which is intended here.
        warnings.filterwarnings('ignore', message=r'Detected call of `scheduler\.step\(\)`')
        for _ in range(epochs):
            for _ in range(length):
                for scheduler in by_iter:
                    scheduler.step()
            for scheduler in by_epoch:
                scheduler.step()


def _scheduled(schedulers: Sequence[_ParamScheduler]) -> set[str]:
    """Return the keys of a parameter group that schedulers change or start from.

    These are the learning rate and other scheduled parameters, with prefixes such as ``initial_``.
    """
    names = {'lr', *(scheduler.param_name for scheduler in schedulers)}
    keys = {f'{prefix}{name}' for name in names for prefix in ('', 'initial_', 'max_', 'min_')}
    # For Adam, mmengine schedules the momentum as the first element of the tuple `betas`.
    return keys | {'betas'} if 'momentum' in names else keys
