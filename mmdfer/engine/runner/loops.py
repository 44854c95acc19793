"""The training loop that takes its epochs from the stages of BAPHook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from mmaction.registry import LOOPS

from mmdfer.engine.hooks.bap_hook import BAPHook
from mmdfer.engine.hooks.setup_hook import check_stage_hook
from mmdfer.engine.runner.stage_schedule import Stage, fill_schedulers, total_epochs
from mmdfer.errors import DFERError


@LOOPS.register_module()
class StagedTrainLoop(EpochBasedTrainLoop):
    """mmengine's EpochBasedTrainLoop, as long as the stages of BAPHook together.

    mmengine builds the loop before the schedulers, so that this is also where the schedulers get
    the epochs that follow from the stages; see :func:`fill_schedulers`.

    Args:
        runner: The Runner, with its hooks and the configs of its schedulers.
        dataloader: The loader of the training set, or its config.
        max_epochs: Need not be given. Another number than the stages' is refused.
        kwargs: As for ``EpochBasedTrainLoop``: ``val_begin``, ``val_interval``,
            ``dynamic_intervals``.

    Raises:
        DFERError: Before the training set is read: there is no BAPHook, its stages do not fit the
            model, or numbers of epochs in the config disagree with the stages.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict[str, Any],
        max_epochs: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_stage_hook(runner)
        hook = next((hook for hook in runner.hooks if isinstance(hook, BAPHook)), None)
        if hook is None:
            raise DFERError(
                'StagedTrainLoop takes its epochs from the stages of BAPHook, and the run has no '
                "BAPHook: add dict(type='BAPHook', stages=[...]) to custom_hooks, or set "
                "train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=...)"
            )
        epochs = total_epochs(hook.stages, max_epochs)
        hook.check(runner.model, epochs)
        runner.param_schedulers = fill_schedulers(runner.param_schedulers, hook.stages)
        super().__init__(runner, dataloader, max_epochs=epochs, **kwargs)


def last_epoch(cfg: Config) -> int | None:
    """Return the number of epochs that a config trains; None where it counts iterations.

    Raises:
        DFERError: ``train_cfg.max_epochs`` disagrees with the stages of BAPHook.
    """
    train_cfg = cfg.get('train_cfg') or {}
    stages, given = read_stages(cfg), train_cfg.get('max_epochs')
    if stages and (given is not None or _follows_stages(train_cfg)):
        return total_epochs(stages, given)
    return given


def check_schedule(runner: Runner) -> None:
    """Check the stages of a run against its model and its config, before any data is read.

    Raises:
        DFERError: They do not fit, or the training loop is another one and the config leaves out
            what only StagedTrainLoop fills in.
    """
    hook = next((hook for hook in runner.hooks if isinstance(hook, BAPHook)), None)
    if hook is None:
        return
    hook.check(runner.model, last_epoch(runner.cfg))
    given = runner.cfg.get('param_scheduler')
    filled = fill_schedulers(given, hook.stages)
    if filled != given and not _follows_stages(runner.cfg.train_cfg):
        raise DFERError(
            'param_scheduler leaves out epochs that follow from the stages of BAPHook, which '
            "StagedTrainLoop fills in: set train_cfg=dict(type='StagedTrainLoop')"
        )


def read_stages(cfg: Config) -> Sequence[Stage]:
    """Read the stages of the BAPHook that a config names; none where it names no such hook."""
    for hook in cfg.get('custom_hooks') or ():
        if isinstance(hook, Mapping) and _is_type(hook, BAPHook):
            return [Stage(**stage) for stage in hook['stages']]
    return ()


def _follows_stages(train_cfg: Mapping[str, Any]) -> bool:
    return _is_type(train_cfg, StagedTrainLoop)


def _is_type(config: Mapping[str, Any], cls: type) -> bool:
    """Return whether a config builds a class, which it names or holds."""
    kind = config.get('type')
    return kind is cls or str(kind).rpartition('.')[2] == cls.__name__
