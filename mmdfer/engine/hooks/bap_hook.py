"""The Bidirectional Alignment training Paradigm: the stages of training, as data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner
from torch import nn
from torch.optim import SGD, Optimizer

from mmaction.registry import HOOKS

from mmdfer.engine.runner.progress import train_loop, unit
from mmdfer.engine.runner.stage_schedule import Stage, fill_schedulers, total_epochs
from mmdfer.engine.runner.unwrap import unwrap
from mmdfer.errors import DFERError
from mmdfer.models.parameter_patterns import is_named
from mmdfer.models.stages import list_staged_modules


@HOOKS.register_module()
class BAPHook(Hook):
    """Switches the stages of training inside one Runner (Align-DFER, Sec. 3.4).

    Before each epoch it sets the stage that the epoch belongs to: what trains, and how many layers
    have joined. Once, in a stage's first epoch, the optimizer's momentum and gradients are cleared
    and the modules that change with the stage are told, so that a resume inside a stage repeats
    nothing. Before each epoch's first step what is frozen is put in eval.

    Modules that inherit from StagedModule, as JAS does, are switched with the stages. They save
    their stage in the checkpoint, which testing reads: this hook does nothing outside training.
    Models without such modules (a TSN, say) are frozen and unfrozen all the same.

    The epochs are written here only: ``train_cfg=dict(type='StagedTrainLoop')`` trains as many as
    all stages have, and ``CosineRestartLR`` restarts at each; see ``fill_schedulers``. Under
    mmengine's EpochBasedTrainLoop ``max_epochs`` and ``periods`` have to be given, and to agree.

    Args:
        stages: Configs of :class:`Stage`, in order.

    Raises:
        DFERError: At the start of the run: numbers of epochs in the config disagree with the
            stages, a pattern matches no parameter or only what cannot train, or a stage does not
            fit a module.
    """

    def __init__(self, stages: Sequence[dict[str, Any]]) -> None:
        self.stages = [Stage(**stage) for stage in stages]
        self._frozen: set[str] | None = None  # what was frozen when built stays so

    def check(self, model: nn.Module, max_epochs: int | None) -> None:
        """Raise DFERError where the stages do not fit the model or the length of training.

        Args:
            model: The recognizer.
            max_epochs: The length of training; None where the training loop counts iterations.
        """
        if max_epochs is None:
            raise DFERError(
                'BAPHook: its stages last a number of epochs, but train_cfg counts iterations: use '
                "train_cfg=dict(type='StagedTrainLoop'), or type='EpochBasedTrainLoop' with "
                f'max_epochs={total_epochs(self.stages, None)}'
            )
        total_epochs(self.stages, max_epochs)
        parameters = dict(unwrap(model).named_parameters())
        if self._frozen is None:
            self._frozen = {name for name, p in parameters.items() if not p.requires_grad}
        for stage in self.stages:
            for pattern in stage.trains:
                self._check_pattern(stage, pattern, list(parameters))
            grows_at = list(stage.grows_at or ())
            if any(not 0 <= at < stage.epochs for at in grows_at):
                raise DFERError(
                    f'BAPHook: stage {stage.name!r}: grows_at={grows_at} must lie in '
                    f"0..{stage.epochs - 1}, the stage's epochs"
                )
            for module in list_staged_modules(model):
                module.check_stage(stage.name, stage.grows_at)

    def _check_pattern(self, stage: Stage, pattern: str, names: list[str]) -> None:
        matched = {name for name in names if is_named(name, [pattern])}
        if not matched:
            raise DFERError(
                f'BAPHook: stage {stage.name!r}: trains={pattern!r} matches no parameter; '
                f'their names begin with {", ".join(_beginnings(names))}'
            )
        if matched <= (self._frozen or set()):
            raise DFERError(
                f'BAPHook: stage {stage.name!r}: trains={pattern!r} matches only what is frozen '
                'when built: name it in backbone.trains too, or it would not be saved'
            )

    def before_run(self, runner: Runner) -> None:
        """Check the stages against the model and the schedule before anything is loaded.

        StagedTrainLoop has done so before the data were read; mmengine's own loops do not.

        Raises:
            DFERError: They do not fit, or the training loop counts iterations.
        """
        loop = train_loop(runner)
        if loop is not None:
            self.check(runner.model, loop.max_epochs if unit(runner) == 'epoch' else None)
            fill_schedulers(runner.cfg.get('param_scheduler'), self.stages)

    def before_train_epoch(self, runner: Runner) -> None:
        """Sets the stage of this epoch, and enters it where it is the stage's first."""
        index, epoch = self.position(runner.epoch)
        stage = self.stages[index]
        if epoch == 0:
            self._enter(runner, index)
        joined = stage.joined(epoch)
        for module in list_staged_modules(runner.model):
            module.set_stage(stage.name, joined)
        self._freeze(runner.model, stage)
        if epoch == 0:
            self._report_switch(runner, index)
        elif stage.grows_at is not None and epoch in stage.grows_at:
            for optimizer in _optimizers(runner):
                _start_momentum(optimizer)
            added = len(stage.grows_at)
            runner.logger.info(f'Stage {stage.name!r}: layer {joined} of {added} joins')

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Puts what is frozen in eval, after the loop has put the model in train."""
        if batch_idx == 0:
            for module in unwrap(runner.model).modules():
                parameters = list(module.parameters())
                if parameters and not any(p.requires_grad for p in parameters):
                    module.eval()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Logs the metrics under the stage's name."""
        if metrics and train_loop(runner) is not None and runner.epoch > 0:
            index, epoch = self.position(runner.epoch - 1)
            stage = self.stages[index]
            runner.logger.info(
                f'Stage {index + 1}/{len(self.stages)} {stage.name!r}, epoch {epoch + 1}/'
                f'{stage.epochs}: {_in_words(metrics)}'
            )

    def position(self, epoch: int) -> tuple[int, int]:
        """The index of the stage that an epoch of the run belongs to, and its epoch there."""
        for index, stage in enumerate(self.stages):
            if epoch < stage.epochs:
                return index, epoch
            epoch -= stage.epochs
        raise DFERError(f'BAPHook: the run is {epoch + 1} epochs longer than its stages')

    def _enter(self, runner: Runner, index: int) -> None:
        """Momentum and gradients anew, and what modules do when the stage begins."""
        for optimizer in _optimizers(runner):
            optimizer.state.clear()
            optimizer.zero_grad(set_to_none=True)
        for module in list_staged_modules(runner.model):
            module.enter_stage(self.stages[index].name)

    def _freeze(self, model: nn.Module, stage: Stage) -> None:
        """Let only what the stage trains require a gradient."""
        frozen = self._frozen or set()
        older = set(_older_parameters(model)) if stage.newest_only else set()
        for name, parameter in unwrap(model).named_parameters():
            trains = stage.matches(name) and name not in frozen
            parameter.requires_grad_(trains and parameter not in older)

    def _report_switch(self, runner: Runner, index: int) -> None:
        """Logs what trains, and the metrics before and after the switch."""
        stage, model = self.stages[index], unwrap(runner.model)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        runner.logger.info(
            f'Stage {index + 1}/{len(self.stages)} {stage.name!r} begins: {stage.epochs} epochs, '
            f'trains {trained:,} parameters ({", ".join(stage.trains)})'
        )
        if index > 0 and runner._val_loop is not None:
            runner.logger.info(f'On entering stage {stage.name!r}: {_in_words(_evaluate(runner))}')


@torch.no_grad()
def _evaluate(runner: Runner) -> dict[str, float]:
    """The validation metrics of the model as it stands, outside the validation loop's hooks."""
    loop = runner.val_loop
    runner.model.eval()
    for batch in loop.dataloader:
        loop.evaluator.process(data_samples=runner.model.val_step(batch), data_batch=batch)
    return loop.evaluator.evaluate(len(loop.dataloader.dataset))


def _optimizers(runner: Runner) -> list[Optimizer]:
    wrapper = runner.optim_wrapper
    several = isinstance(wrapper, OptimWrapperDict)
    return [single.optimizer for single in (wrapper.values() if several else [wrapper])]


def _start_momentum(optimizer: Optimizer) -> None:
    """Gives what has just joined the momentum that it starts from anyway, zero.

    torch's fused SGD fails where some parameters have momentum and others do not.
    """
    for group in optimizer.param_groups:
        for parameter in (
            group['params'] if isinstance(optimizer, SGD) and group['momentum'] else ()
        ):
            if parameter.requires_grad and parameter not in optimizer.state:
                optimizer.state[parameter]['momentum_buffer'] = torch.zeros_like(parameter)


def _in_words(metrics: dict[str, float]) -> str:
    return ', '.join(f'{k} {v:.2f}' for k, v in metrics.items() if isinstance(v, (int, float)))


def _older_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the parameters of all layers that work, without each module's newest layer."""
    for module in list_staged_modules(model):
        for layer in module.working_layers[:-1]:
            yield from layer.parameters()


def _beginnings(names: Sequence[str]) -> list[str]:
    """The first two parts of each name, once."""
    return list(dict.fromkeys('.'.join(name.split('.')[:2]) for name in names))
