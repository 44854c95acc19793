"""Define the training loop that derives its number of epochs from the stages of BAPHook."""

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
    """Train for as many epochs as all stages of BAPHook have together.

    The loop is mmengine's EpochBasedTrainLoop with another number of epochs. mmengine builds the
    loop before the learning rate schedulers, so this class also fills in the epochs of the
    schedulers that follow from the stages; see :func:`fill_schedulers`.

    Args:
        runner: The Runner, with its hooks and the configs of its schedulers.
        dataloader: The loader of the training set, or its config.
        max_epochs: The number of epochs, which may be omitted. It must be that of the stages.
        kwargs: Other arguments of ``EpochBasedTrainLoop``: ``val_begin``, ``val_interval``,
            ``dynamic_intervals``.

    Raises:
        DFERError: If the run has no BAPHook, if the stages do not fit the model, or if numbers of
            epochs in the config disagree with the stages. The error is raised before the training
            set is read.
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
                'StagedTrainLoop takes its epochs from the stages of BAPHook, but the run has no '
                "BAPHook. Add dict(type='BAPHook', stages=[...]) to custom_hooks, or set "
                "train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=...)"
            )
        epochs = total_epochs(hook.stages, max_epochs)
        hook.check(runner.model, epochs)
        runner.param_schedulers = fill_schedulers(runner.param_schedulers, hook.stages)
        super().__init__(runner, dataloader, max_epochs=epochs, **kwargs)


def last_epoch(cfg: Config) -> int | None:
    """Return the number of epochs that a config trains.

    Args:
        cfg: The config of a run.

    Returns:
        The number of epochs, or None if the training loop counts iterations.

    Raises:
        DFERError: If ``train_cfg.max_epochs`` disagrees with the stages of BAPHook.
    """
    train_cfg = cfg.get('train_cfg') or {}
    stages, given = read_stages(cfg), train_cfg.get('max_epochs')
    if stages and (given is not None or _follows_stages(train_cfg)):
        return total_epochs(stages, given)
    return given


def check_schedule(runner: Runner) -> None:
    """Check the stages of a run against its model and its config, before any data is read.

    Args:
        runner: The Runner. Runs without BAPHook are not checked.

    Raises:
        DFERError: If the stages do not fit, or if the config omits numbers of epochs although its
            training loop is not StagedTrainLoop, which would fill them in.
    """
    hook = next((hook for hook in runner.hooks if isinstance(hook, BAPHook)), None)
    if hook is None:
        return
    hook.check(runner.model, last_epoch(runner.cfg))
    given = runner.cfg.get('param_scheduler')
    filled = fill_schedulers(given, hook.stages)
    if filled != given and not _follows_stages(runner.cfg.train_cfg):
        raise DFERError(
            'param_scheduler omits numbers of epochs, which only StagedTrainLoop fills in from the '
            "stages of BAPHook: set train_cfg=dict(type='StagedTrainLoop')"
        )


def read_stages(cfg: Config) -> Sequence[Stage]:
    """Read the stages of the BAPHook in a config.

    Args:
        cfg: The config of a run.

    Returns:
        The stages in order of training, or an empty sequence if the config has no BAPHook.
    """
    for hook in cfg.get('custom_hooks') or ():
        if isinstance(hook, Mapping) and _is_type(hook, BAPHook):
            return [Stage(**stage) for stage in hook['stages']]
    return ()


def _follows_stages(train_cfg: Mapping[str, Any]) -> bool:
    """Return whether the training loop of a config is StagedTrainLoop."""
    return _is_type(train_cfg, StagedTrainLoop)


def _is_type(config: Mapping[str, Any], cls: type) -> bool:
    """Return whether a config builds a class, given as the class itself or by its name."""
    kind = config.get('type')
    return kind is cls or str(kind).rpartition('.')[2] == cls.__name__
