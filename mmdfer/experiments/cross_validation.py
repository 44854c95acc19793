"""Cross-validation: a training on each fold of a dataset, and one table of all that are done."""

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
    """How each fold's training is started.

    Attributes:
        kind: 'none' for one process; 'pytorch' for dist_train.sh; 'slurm' for slurm_train.sh.
        gpus: The number of ranks.
        partition: The partition of Slurm.

    Raises:
        DFERError: The kind needs what is not given.
    """

    kind: Literal['none', 'pytorch', 'slurm'] = 'none'
    gpus: int | None = None
    partition: str | None = None

    def __post_init__(self) -> None:
        if self.kind == 'pytorch' and self.gpus is None:
            raise DFERError('--launcher pytorch: how many ranks? Add --gpus N')
        if self.kind == 'slurm' and self.partition is None:
            raise DFERError('--launcher slurm: on which partition? Add --partition NAME')

    def command(self, training: Training) -> list[str]:
        """Return the command that trains a fold, or continues it."""
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
    """Train the folds that are not done, and write the table of all that are.

    Each fold is a run of `mmdfer train` in `<work dir>/fold_<number>`. One that was interrupted is
    continued; one that fails does not keep the others from running.

    Args:
        config: The path or name of a config whose dataset has folds.
        folds: Which folds to train.
        launcher: How each training is started; by default in one process.
        flags: Flags of `mmdfer train`, by their names in Python: `dict(seed=0, amp=True)`.
        options: Settings that replace those of the config, as `key=value`.
        work_dir: The folder for the folds and the table.

    Returns:
        The folds that failed.

    Raises:
        DFERError: The config cannot be cross-validated, or a fold was begun with other settings.
    """
    cfg = read_config(config, parse_options(options), work_dir)
    if min(folds) < 1:
        raise DFERError(f'--folds {min(folds)}: folds are counted from 1')
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
    """List the trainings of these folds, and of all that the work dir has, by number.

    Raises:
        DFERError: The dataset has no folds.
    """
    keys, work_dir = fold_keys(cfg), Path(cfg.work_dir)
    if not keys:
        raise DFERError(
            f'{cfg.filename}: no dataset has a fold, so this dataset has one split; use '
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
    """Train what is not done, and return what failed."""
    failures: Failures = {}
    for index, training in enumerate(trainings, 1):
        what = f'==== {training} ({index} of {len(trainings)}), {training.folder}'
        if training.result() is not None:
            print(f'{what}: done before', flush=True)
            continue
        print(f'{what}:', flush=True)
        training.keep_settings()
        status = run_command(launcher.command(training))
        reason = f'exit status {status}'
        if status == 0:
            reason = f'it ended without a report of epoch {training.last_epoch}'
        if status != 0 or training.result() is None:
            # Now that it has begun, the command may have --resume.
            failures[training] = RunError(reason, launcher.command(training))
    return failures
