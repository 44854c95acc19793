"""Describe a training in a separate folder: its settings, its progress, and the command to run it.

Cross-validation and the leaderboard consist of many such trainings. Both continue after an
interruption.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mmengine.config import Config

from mmdfer.engine.runner.loops import last_epoch
from mmdfer.engine.runner.resume_checkpoint import POINTER
from mmdfer.errors import DFERError
from mmdfer.evaluation.report import Fold, read_fold
from mmdfer.features.dataset_config import WRAPPED
from mmdfer.files import explain_write_errors, write_aside

# A run continues only with the settings that it was started with. DECISIVE are the parts of a
# config that influence the result, and INDIFFERENT are the keys within these parts that do not.
# `fold` is among the latter because it differs between the folds of one cross-validation.
DECISIVE = (
    'model',
    'train_dataloader',
    'val_dataloader',
    'val_evaluator',
    'train_cfg',
    'val_cfg',
    'optim_wrapper',
    'param_scheduler',
    'auto_scale_lr',
    'custom_hooks',
    'randomness',
    'load_from',
)
INDIFFERENT = ('fold', 'num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor')


# ------------------------------------------------------------------ configs


def check_reports(cfg: Config) -> None:
    """Check that a run of a config ends with a report of its last epoch.

    Args:
        cfg: The config.

    Raises:
        DFERError: If the config has no ReportHook or no number of epochs.
    """
    hooks = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    if not any('ReportHook' in str(hook and hook.get('type')) for hook in hooks):
        raise DFERError(
            f'{cfg.filename}: the run would write no report; add '
            "default_hooks=dict(report=dict(type='ReportHook'))"
        )
    if last_epoch(cfg) is None:
        raise DFERError(f'{cfg.filename}: set train_cfg.max_epochs, which is missing')


def fold_keys(cfg: Config) -> list[str]:
    """List the settings of a config that contain the number of the fold.

    Each loader's dataset is searched, including the datasets that it wraps.

    Args:
        cfg: The config.

    Returns:
        The dotted names of the settings, or an empty list if the dataset has one split.

    Raises:
        DFERError: If the dataset of one loader has a fold and that of another loader has not, so
            that the latter would be the same for all folds.
    """
    found = {}
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = (cfg.get(loader) or {}).get('dataset')
        if dataset is not None:
            found[loader] = list(_fold_keys(dataset, f'{loader}.dataset'))
    for loader, keys in found.items():
        if not keys and any(found.values()):
            raise DFERError(
                f'{cfg.filename}: {loader}.dataset has no fold, but others have; add fold=1 to it'
            )
    return [key for keys in found.values() for key in keys]


def _fold_keys(dataset: Any, path: str) -> Iterator[str]:
    """Yield the dotted names of the fold settings in the config of a dataset."""
    if isinstance(dataset, (list, tuple)):
        for index, part in enumerate(dataset):
            yield from _fold_keys(part, f'{path}.{index}')
    elif isinstance(dataset, dict):
        if 'fold' in dataset:
            yield f'{path}.fold'
        for key in WRAPPED:
            if key in dataset:
                yield from _fold_keys(dataset[key], f'{path}.{key}')


# ------------------------------------------------------------------ one training


class RunError(Exception):
    """Report that a command has failed or has not produced its result.

    Args:
        reason: What is wrong.
        command: The command to run again.
    """

    def __init__(self, reason: str, command: Sequence[str]) -> None:
        super().__init__(reason)
        self.command = command


Failures = dict['Training', RunError]


@dataclass(frozen=True, eq=False)
class Training:
    """Describe one run of `mmdfer train` in a separate folder.

    Attributes:
        name: The name of the training in messages.
        cfg: The config as `mmdfer train` reads it, except for the number of the fold.
        folder: The work directory of the run.
        flags: Flags of `mmdfer train`, keyed by their Python names: `dict(seed=0, amp=True)`.
        options: Settings that replace those of the config, in the form `key=value`.
        fold: The number of the fold, or None if the dataset has one split.
    """

    name: str
    cfg: Config
    folder: Path
    flags: Mapping[str, Any]
    options: Sequence[str]
    fold: int | None = None

    def __str__(self) -> str:
        """Return the name of the training."""
        return self.name

    @property
    def last_epoch(self) -> int:
        """Return the number of the last epoch."""
        last = last_epoch(self.cfg)
        assert last is not None  # `check_reports` has checked this
        return last

    def settings(self) -> dict[str, str]:
        """Return the settings that determine the result of the training, except for the fold.

        Returns:
            The settings as text, keyed by their dotted names.
        """
        # The folder of the feature bank does not matter: a bank of other vectors is refused anyway.
        flags = {key: True if key == 'bank' else value for key, value in self.flags.items()}
        parts = {key: value for key, value in self.cfg.to_dict().items() if key in DECISIVE}
        told = {f'--{key.replace("_", "-")}': repr(value) for key, value in flags.items()}
        return {**dict(_leaves(parts)), **told}

    def check(self) -> None:
        """Check that the training was not started earlier with other settings.

        Resuming it would mix the settings.

        Raises:
            DFERError: If the folder contains a training with other settings, or a report of a later
                epoch than the last epoch of the config.
        """
        what = 'run' if self.fold is None else 'fold'
        remedy = f'Use another --work-dir, or delete the folder to redo the {what}'
        path, now = self.folder / 'settings.json', self.settings()
        if path.is_file() and begun(self.folder):
            then = json.loads(path.read_text())
            changed = [key for key in {**then, **now} if then.get(key) != now.get(key)]
            if changed:
                key, more = changed[0], f' and {len(changed) - 1} more' * (len(changed) > 1)
                was, is_ = (kept.get(key, 'not set') for kept in (then, now))
                raise DFERError(
                    f'{self.folder}: the {what} was started with other settings ({key} was {was}, '
                    f'is now {is_}{more}). {remedy}'
                )
        done = finished(self.folder)
        if done is not None and done.last.epoch > self.last_epoch:
            raise DFERError(
                f'{self.folder}: the report is of epoch {done.last.epoch}, but the config ends '
                f'with epoch {self.last_epoch}. {remedy}'
            )

    def result(self) -> Fold | None:
        """Return the result of the training, or None if the training is not finished."""
        return finished(self.folder, self.last_epoch, self.fold or 1)

    def arguments(self) -> list[str]:
        """Return the arguments of `mmdfer train` that start or continue the training."""
        words = [str(self.cfg.filename)]
        # `mmdfer train --resume` would also start from `load_from` if there is no checkpoint, but
        # the command is clearer without the flag.
        if self.cfg.get('load_from') is None or begun(self.folder):
            words.append('--resume')
        for key, value in self.flags.items():
            words += [f'--{key.replace("_", "-")}', *([] if value is True else [str(value)])]
        words += ['--work-dir', str(self.folder)]
        return words + (['--cfg-options', *self.options] if self.options else [])

    def keep_settings(self) -> None:
        """Write the settings to the folder, unless the training has already started."""
        if not begun(self.folder):
            with write_aside(self.folder / 'settings.json') as aside:
                aside.write_text(json.dumps(self.settings(), indent=1))


def _leaves(value: Any, path: str = '') -> Iterator[tuple[str, str]]:
    """Yield the dotted names and the values of all settings that influence the result."""
    if isinstance(value, (dict, list, tuple)) and value:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in pairs:
            if key not in INDIFFERENT:
                yield from _leaves(part, f'{path}.{key}' if path else str(key))
    else:
        yield path, repr(value)


def begun(folder: Path) -> bool:
    """Return whether a folder contains a checkpoint to continue from, or a report.

    Args:
        folder: The work directory of a run.
    """
    return (folder / POINTER).is_file() or (folder / 'report.json').is_file()


def finished(folder: Path, last_epoch: int | None = None, fold: int = 1) -> Fold | None:
    """Return the result of a run if it is finished.

    A run that a hook such as EarlyStoppingHook has stopped is finished at any epoch.

    Args:
        folder: The work directory of the run.
        last_epoch: The last epoch of the run. With None, a complete report of any epoch counts.
        fold: The number of the fold.

    Returns:
        The result, or None if the run is not finished.
    """
    path = folder / 'report.json'
    if not path.is_file():
        return None
    try:
        done = read_fold(path, fold)
    except DFERError as error:
        print(f'{error}. The run counts as unfinished', file=sys.stderr)
        return None
    return done if done.stopped_early or last_epoch in (None, done.last.epoch) else None


# ------------------------------------------------------------------ commands


def own_command(name: str, *arguments: str) -> list[str]:
    """Return a command line for `mmdfer NAME` that uses the current Python and works in any folder.

    Args:
        name: The name of the command, such as 'train'.
        arguments: The arguments of the command.
    """
    return [sys.executable, '-m', 'mmdfer', name, *arguments]


def report_failures(failures: Failures) -> None:
    """Print the failed trainings, and the commands that resume them, to stderr.

    Args:
        failures: The failed trainings, with their errors.
    """
    for training, error in failures.items():
        command = shlex.join(error.command)
        print(f'{training} failed ({error}); resume it with\n  {command}', file=sys.stderr)


def run_command(command: Sequence[str], log: Path | None = None) -> int:
    """Run a command and wait until it ends.

    If this process is interrupted, the command is terminated.

    Args:
        command: The program and its arguments.
        log: The file for the output of the command. With None, the output is printed.

    Returns:
        The exit status of the command.
    """
    with nullcontext() if log is None else _open_log(log) as out:
        # Ctrl-C reaches both processes. Only this one reports it, and then terminates the child.
        child = subprocess.Popen(
            command,
            stdout=out,
            stderr=None if out is None else subprocess.STDOUT,
            preexec_fn=_ignore_ctrl_c if os.name == 'posix' else None,
        )
        try:
            return child.wait()
        finally:
            if child.poll() is None:
                child.terminate()
                child.wait()


def _open_log(path: Path) -> BinaryIO:
    """Open a log file for writing, and turn write errors into one line."""
    with explain_write_errors(path):
        return path.open('wb')


def _ignore_ctrl_c() -> None:
    """Ignore Ctrl-C in the child process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
