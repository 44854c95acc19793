"""Run cross-validation: train on each fold of a dataset, and summarise all finished folds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mmengine.config import Config

from mmdfer.engine.runner.config import parse_options, read_config
from mmdfer.errors import DFERError
from mmdfer.experiments.cross_validation_tables import PROTOCOL, save_tables
from mmdfer.experiments.runs import (
    Failures,
    RunError,
    Training,
    check_reports,
    fold_keys,
    own_command,
    run_command,
)
from mmdfer.installed import installed


@dataclass(frozen=True)
class Launcher:
    """Describe how the training of each fold is started.

    Attributes:
        kind: 'none' for one process, 'pytorch' for dist_train.sh, or 'slurm' for slurm_train.sh.
        gpus: The number of ranks. Required for 'pytorch'; by default 'slurm' uses the number that
            slurm_train.sh chooses.
        partition: The Slurm partition. Required for 'slurm'.

    Raises:
        DFERError: If a value that the kind requires is missing.
    """

    kind: Literal['none', 'pytorch', 'slurm'] = 'none'
    gpus: int | None = None
    partition: str | None = None

    def __post_init__(self) -> None:
        """Raise DFERError if a value that the kind requires is missing."""
        if self.kind == 'pytorch' and self.gpus is None:
            raise DFERError('--launcher pytorch requires the number of ranks. Add --gpus N')
        if self.kind == 'slurm' and self.partition is None:
            raise DFERError('--launcher slurm requires a partition. Add --partition NAME')

    def command(self, training: Training) -> list[str]:
        """Return the command that starts or continues the training of a fold.

        Args:
            training: The training of the fold.

        Returns:
            The program and its arguments.
        """
        config, *flags = training.arguments()
        if self.kind == 'none':
            return own_command('train', config, *flags)
        if self.kind == 'pytorch':
            script = str(installed('tools') / 'dist_train.sh')
            return ['bash', script, config, str(self.gpus), *flags]
        script = str(installed('tools') / 'slurm_train.sh')
        job = f'{Path(config).stem}_fold_{training.fold}'
        command = ['bash', script, str(self.partition), job, config, *flags]
        if self.gpus is None:
            return command
        per_node = os.environ.get('GPUS_PER_NODE', min(self.gpus, 8))
        return ['env', f'GPUS={self.gpus}', f'GPUS_PER_NODE={per_node}', *command]


def cross_validate(
    config: str | Path,
    folds: Sequence[int] = PROTOCOL,
    launcher: Launcher | None = None,
    flags: Mapping[str, Any] | None = None,
    options: Sequence[str] = (),
    work_dir: str | Path | None = None,
) -> Failures:
    """Train the folds that are not finished, and write a table of all finished folds.

    Each fold is trained by `mmdfer train` in `<work directory>/fold_<number>`. An interrupted fold
    continues. If a fold fails, the other folds are still trained.

    Args:
        config: The path or the name of a config with a dataset that has folds.
        folds: The numbers of the folds to train. The default is all five folds of the protocol.
        launcher: How the training of each fold is started. The default is one process.
        flags: Flags of `mmdfer train`, keyed by their Python names: `dict(seed=0, amp=True)`.
        options: Settings that replace those of the config, in the form `key=value`.
        work_dir: The folder for the folds and the table. By default the work directory of the
            config.

    Returns:
        The folds that failed, with their errors.

    Raises:
        DFERError: If the config does not allow cross-validation, or if a fold was started with
            other settings.
    """
    cfg = read_config(config, parse_options(options), work_dir)
    if min(folds) < 1:
        raise DFERError(f'--folds must be 1 or greater, got {min(folds)}')
    check_reports(cfg)
    trainings = list_trainings(cfg, folds, flags or {}, options)
    for training in trainings:
        training.check()
    failures = train_folds([t for t in trainings if t.fold in folds], launcher or Launcher())
    done = [fold for t in trainings if (fold := t.result()) is not None]
    if done:
        folder = Path(cfg.work_dir)
        print(save_tables(done, Path(cfg.filename).stem, folder))
        print(f'saved as {folder / "cross_validation"}.txt, .md, .csv, .json and .png')
    return failures


def list_trainings(
    cfg: Config, folds: Sequence[int], flags: Mapping[str, Any], options: Sequence[str]
) -> list[Training]:
    """List the trainings of the given folds, and of folds that are already in the work directory.

    Args:
        cfg: The config, with the command line's options and its work directory.
        folds: The numbers of the folds.
        flags: Flags of `mmdfer train`, keyed by their Python names.
        options: Settings that replace those of the config, in the form `key=value`.

    Returns:
        The trainings, sorted by the number of the fold.

    Raises:
        DFERError: If the dataset has no folds.
    """
    keys, work_dir = fold_keys(cfg), Path(cfg.work_dir)
    if not keys:
        raise DFERError(
            f'{cfg.filename}: no dataset has a fold, so there is nothing to cross-validate; use '
            'tools/train.py'
        )
    numbers = (path.name.removeprefix('fold_') for path in work_dir.glob('fold_*'))
    there = {int(number) for number in numbers if number.isdecimal()}
    return [
        Training(
            name=f'fold {fold}',
            cfg=cfg,
            folder=work_dir / f'fold_{fold}',
            flags=flags,
            options=[*options, *(f'{key}={fold}' for key in keys)],
            fold=fold,
        )
        for fold in sorted({*folds, *there})
    ]


def train_folds(trainings: Sequence[Training], launcher: Launcher) -> Failures:
    """Train the folds that are not finished, one after another.

    Args:
        trainings: The trainings of the folds.
        launcher: How each training is started.

    Returns:
        The folds that failed, with their errors.
    """
    failures: Failures = {}
    for index, training in enumerate(trainings, 1):
        what = f'==== {training} ({index} of {len(trainings)}), {training.folder}'
        if training.result() is not None:
            print(f'{what}: already finished', flush=True)
            continue
        print(f'{what}:', flush=True)
        training.keep_settings()
        status = run_command(launcher.command(training))
        reason = f'exit status {status}'
        if status == 0:
            reason = f'the training ended without a report of epoch {training.last_epoch}'
        if status != 0 or training.result() is None:
            # The training has started, so the command may contain --resume now.
            failures[training] = RunError(reason, launcher.command(training))
    return failures
