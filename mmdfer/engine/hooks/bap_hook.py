"""Define the hook for the Bidirectional Alignment training Paradigm (BAP) of Align-DFER."""

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
from mmdfer.models.stages import StagedModule, list_staged_modules


@HOOKS.register_module()
class BAPHook(Hook):
    """Switch the stages of training within one run (BAP; Align-DFER, Sec. 3.4).

    Each stage names the parameters that it trains and the epochs at which layers join. The hook
    acts at these points:

    - Before each epoch, it applies the stage that the epoch belongs to: it freezes all other
      parameters and sets the number of layers that have joined.
    - Before the first epoch of a stage, it also clears the momentum and the gradients of the
      optimizer, and calls ``enter_stage`` of the modules that change with the stage. A run that
      resumes in the middle of a stage does not repeat this.
    - Before the first step of each epoch, it puts modules in eval mode if all their parameters are
      frozen.

    Modules that inherit from StagedModule, such as JAS, change with the stage. They save their
    stage in the checkpoint, and testing reads it from there. The hook therefore does nothing
    outside training. In models without such modules, such as a TSN, the hook only freezes and
    unfreezes parameters.

    The stages are the only place where a config states numbers of epochs. With
    ``train_cfg=dict(type='StagedTrainLoop')`` training lasts as long as all stages together, and
    ``CosineRestartLR`` restarts at the start of each stage; see ``fill_schedulers``. With
    mmengine's EpochBasedTrainLoop, ``max_epochs`` and ``periods`` are required and must agree with
    the stages.

    Args:
        stages: The config of each :class:`Stage`, in order of training.

    Raises:
        DFERError: At the start of the run, if the numbers of epochs in the config disagree with the
            stages, if a pattern matches no parameter or only parameters that cannot be trained, or
            if a stage does not fit a module.
    """

    def __init__(self, stages: Sequence[dict[str, Any]]) -> None:
        self.stages = [Stage(**stage) for stage in stages]
        self._frozen: set[str] | None = None  # parameters that the model froze when it was built

    def check(self, model: nn.Module, max_epochs: int | None) -> None:
        """Check that the stages fit the model and the length of training.

        Args:
            model: The recognizer, which may be wrapped for distributed training.
            max_epochs: The number of epochs that the training loop runs, or None if the loop counts
                iterations.

        Raises:
            DFERError: If the stages do not fit the model or the length of training.
        """
        if max_epochs is None:
            raise DFERError(
                'BAPHook: the stages are measured in epochs, but train_cfg counts iterations. Use '
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
                    f'BAPHook: stage {stage.name!r}: grows_at={grows_at} must be epochs of the '
                    f'stage, from 0 to {stage.epochs - 1}'
                )
            for module in list_staged_modules(model):
                module.check_stage(stage.name, stage.grows_at)

    def _check_pattern(self, stage: Stage, pattern: str, names: list[str]) -> None:
        """Raise DFERError if a pattern of a stage matches no parameter that can be trained."""
        matched = {name for name in names if is_named(name, [pattern])}
        if not matched:
            raise DFERError(
                f'BAPHook: stage {stage.name!r}: trains={pattern!r} matches no parameter. '
                f'Parameter names begin with {", ".join(_beginnings(names))}'
            )
        if matched <= (self._frozen or set()):
            raise DFERError(
                f'BAPHook: stage {stage.name!r}: trains={pattern!r} matches only parameters that '
                'the model froze when it was built, and checkpoints leave these out. Add the '
                'pattern to backbone.trains too'
            )

    def before_run(self, runner: Runner) -> None:
        """Check the stages against the model and the schedule before a checkpoint is loaded.

        StagedTrainLoop has already checked them before it read the training set. This check is for
        mmengine's own training loops.

        Raises:
            DFERError: If the stages do not fit, or if the training loop counts iterations.
        """
        loop = train_loop(runner)
        if loop is not None:
            self.check(runner.model, loop.max_epochs if unit(runner) == 'epoch' else None)
            self._warn_of_untrained(runner)
            fill_schedulers(runner.cfg.get('param_scheduler'), self.stages)

    def _warn_of_untrained(self, runner: Runner) -> None:
        """Warn of parameters that no stage trains, although the model did not freeze them.

        Modules with stages, such as JAS, may have parts that the given stages do not use.
        """
        model, frozen = unwrap(runner.model), self._frozen or set()
        modules = model.named_modules()
        staged = tuple(f'{name}.' for name, module in modules if isinstance(module, StagedModule))
        left = [
            name
            for name, _ in model.named_parameters()
            if not (name in frozen or name.startswith(staged))
            and not any(stage.matches(name) for stage in self.stages)
        ]
        if left:
            runner.logger.warning(
                f'BAPHook: no stage trains {len(left)} of the parameters that can be trained, such '
                f'as {left[0]}; add a pattern for them to trains of a stage'
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Apply the stage of the coming epoch, and enter the stage if this is its first epoch."""
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
        """Put modules in eval mode if all their parameters are frozen.

        The training loop calls ``train()`` on the whole model after ``before_train_epoch``, so this
        must happen before the first step.
        """
        if batch_idx == 0:
            for module in unwrap(runner.model).modules():
                parameters = list(module.parameters())
                if parameters and not any(p.requires_grad for p in parameters):
                    module.eval()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Log the validation metrics together with the name of the stage."""
        if metrics and train_loop(runner) is not None and runner.epoch > 0:
            index, epoch = self.position(runner.epoch - 1)
            stage = self.stages[index]
            runner.logger.info(
                f'Stage {index + 1}/{len(self.stages)} {stage.name!r}, epoch {epoch + 1}/'
                f'{stage.epochs}: {_in_words(metrics)}'
            )

    def position(self, epoch: int) -> tuple[int, int]:
        """Return the stage that an epoch belongs to, and the number of the epoch within the stage.

        Args:
            epoch: The number of the epoch in the run, counted from 0.

        Returns:
            The index of the stage, and the epoch counted from the start of the stage. Both count
            from 0.

        Raises:
            DFERError: If the run has more epochs than its stages.
        """
        for index, stage in enumerate(self.stages):
            if epoch < stage.epochs:
                return index, epoch
            epoch -= stage.epochs
        raise DFERError(f'BAPHook: the run is {epoch + 1} epochs longer than its stages')

    def _enter(self, runner: Runner, index: int) -> None:
        """Clear the optimizer's momentum and gradients, and call ``enter_stage`` of the modules."""
        for optimizer in _optimizers(runner):
            optimizer.state.clear()
            optimizer.zero_grad(set_to_none=True)
        for module in list_staged_modules(runner.model):
            module.enter_stage(self.stages[index].name)

    def _freeze(self, model: nn.Module, stage: Stage) -> None:
        """Require gradients only for the parameters that the stage trains."""
        frozen = self._frozen or set()
        older = set(_older_parameters(model)) if stage.newest_only else set()
        for name, parameter in unwrap(model).named_parameters():
            trains = stage.matches(name) and name not in frozen
            parameter.requires_grad_(trains and parameter not in older)

    def _report_switch(self, runner: Runner, index: int) -> None:
        """Log what the new stage trains, and the validation metrics right after the switch."""
        stage, model = self.stages[index], unwrap(runner.model)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        runner.logger.info(
            f'Stage {index + 1}/{len(self.stages)} {stage.name!r} begins: {stage.epochs} epochs, '
            f'trains {trained:,} parameters ({", ".join(stage.trains)})'
        )
        if index > 0 and runner._val_loop is not None:
            runner.logger.info(
                f'At the start of stage {stage.name!r}: {_in_words(_evaluate(runner))}'
            )


@torch.no_grad()
def _evaluate(runner: Runner) -> dict[str, float]:
    """Return the validation metrics of the current model without calling the validation hooks.

    The hooks would save a checkpoint or add an entry to the history of the run.
    """
    loop = runner.val_loop
    runner.model.eval()
    for batch in loop.dataloader:
        loop.evaluator.process(data_samples=runner.model.val_step(batch), data_batch=batch)
    return loop.evaluator.evaluate(len(loop.dataloader.dataset))


def _optimizers(runner: Runner) -> list[Optimizer]:
    """List the torch optimizers of a run."""
    wrapper = runner.optim_wrapper
    several = isinstance(wrapper, OptimWrapperDict)
    return [single.optimizer for single in (wrapper.values() if several else [wrapper])]


def _start_momentum(optimizer: Optimizer) -> None:
    """Give zero momentum to parameters that have just started to train.

    Zero is the value that SGD would start with. torch's fused SGD fails if only some of the
    parameters have momentum.
    """
    for group in optimizer.param_groups:
        for parameter in (
            group['params'] if isinstance(optimizer, SGD) and group['momentum'] else ()
        ):
            if parameter.requires_grad and parameter not in optimizer.state:
                optimizer.state[parameter]['momentum_buffer'] = torch.zeros_like(parameter)


def _in_words(metrics: dict[str, float]) -> str:
    """Format the metrics that are numbers for the log."""
    return ', '.join(f'{k} {v:.2f}' for k, v in metrics.items() if isinstance(v, (int, float)))


def _older_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the parameters of all layers that have joined, except each module's newest one."""
    for module in list_staged_modules(model):
        for layer in module.working_layers[:-1]:
            yield from layer.parameters()


def _beginnings(names: Sequence[str]) -> list[str]:
    """List the distinct first two parts of parameter names, such as ``backbone.clip``."""
    return list(dict.fromkeys('.'.join(name.split('.')[:2]) for name in names))
