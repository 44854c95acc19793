"""A training in a folder of its own: its settings, how far it is, and how it is started.

Cross-validation and the leaderboard are many of these. Both continue where they were interrupted.
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

# What decides a result, and in it what does not: a run goes on only with the settings it began
# with. `fold` is the one that differs from fold to fold.
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


# ------------------------------------------------------------------ the config


def check_reports(cfg: Config) -> None:
    """Raise DFERError where a run of the config would not end in a report of a last epoch."""
    hooks = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    if not any('ReportHook' in str(hook and hook.get('type')) for hook in hooks):
        raise DFERError(
            f'{cfg.filename}: writes no report; add '
            "default_hooks=dict(report=dict(type='ReportHook'))"
        )
    if last_epoch(cfg) is None:
        raise DFERError(f'{cfg.filename}: a run ends with train_cfg.max_epochs, which is missing')


def fold_keys(cfg: Config) -> list[str]:
    """List where the config names the fold, in each loader's dataset and what it wraps.

    Returns:
        The dotted keys; none where the dataset has one split.

    Raises:
        DFERError: One loader only names a fold, and the other's dataset would stay as it is.
    """
    found = {}
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = (cfg.get(loader) or {}).get('dataset')
        if dataset is not None:
            found[loader] = list(_fold_keys(dataset, f'{loader}.dataset'))
    for loader, keys in found.items():
        if not keys and any(found.values()):
            raise DFERError(
                f'{cfg.filename}: {loader}.dataset names no fold, others do; add fold=1'
            )
    return [key for keys in found.values() for key in keys]


def _fold_keys(dataset: Any, path: str) -> Iterator[str]:
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
    """A command ended otherwise than it should.

    Args:
        reason: What is wrong.
        command: The command that can be given again.
    """

    def __init__(self, reason: str, command: Sequence[str]) -> None:
        super().__init__(reason)
        self.command = command


Failures = dict['Training', RunError]


@dataclass(frozen=True, eq=False)
class Training:
    """One run of `mmdfer train` in a folder of its own.

    Attributes:
        name: What it is, for messages.
        cfg: The config as `mmdfer train` will read it, the fold excepted.
        folder: The work dir.
        flags: The flags that are given, by their names in Python: `dict(seed=0, amp=True)`.
        options: The settings that replace those of the config, as `key=value`.
        fold: The number of the fold; None where the dataset has one split.
    """

    name: str
    cfg: Config
    folder: Path
    flags: Mapping[str, Any]
    options: Sequence[str]
    fold: int | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def last_epoch(self) -> int:
        """The number of the last epoch."""
        last = last_epoch(self.cfg)
        assert last is not None  # `check_reports` has seen to it
        return last

    def settings(self) -> dict[str, str]:
        """Return what decides the result, by dotted key; the fold itself excepted."""
        # Whichever folder the bank is in: one of other vectors is refused.
        flags = {key: True if key == 'bank' else value for key, value in self.flags.items()}
        parts = {key: value for key, value in self.cfg.to_dict().items() if key in DECISIVE}
        told = {f'--{key.replace("_", "-")}': repr(value) for key, value in flags.items()}
        return {**dict(_leaves(parts)), **told}

    def check(self) -> None:
        """Raise DFERError where it was begun with other settings, which resuming would mix."""
        what = 'run' if self.fold is None else 'fold'
        remedy = f'give another --work-dir, or delete the folder to redo the {what}'
        path, now = self.folder / 'settings.json', self.settings()
        if path.is_file() and begun(self.folder):
            then = json.loads(path.read_text())
            changed = [key for key in {**then, **now} if then.get(key) != now.get(key)]
            if changed:
                key, more = changed[0], f' and {len(changed) - 1} more' * (len(changed) > 1)
                was, is_ = (kept.get(key, 'not there') for kept in (then, now))
                raise DFERError(
                    f'{self.folder}: was begun with other settings ({key} was {was}, is {is_}'
                    f'{more}); {remedy}'
                )
        done = finished(self.folder)
        if done is not None and done.last.epoch > self.last_epoch:
            raise DFERError(
                f'{self.folder}: its report is of epoch {done.last.epoch}, the config ends with '
                f'{self.last_epoch}; {remedy}'
            )

    def result(self) -> Fold | None:
        """Return what the training came to; None where it is not done."""
        return finished(self.folder, self.last_epoch, self.fold or 1)

    def arguments(self) -> list[str]:
        """Return the arguments of `mmdfer train` that begin or continue the training."""
        words = [str(self.cfg.filename)]
        # Where a run begins with a `load_from`, `mmdfer train --resume` would do so all the same,
        # but without the flag the command says what happens.
        if self.cfg.get('load_from') is None or begun(self.folder):
            words.append('--resume')
        for key, value in self.flags.items():
            words += [f'--{key.replace("_", "-")}', *([] if value is True else [str(value)])]
        words += ['--work-dir', str(self.folder)]
        return words + (['--cfg-options', *self.options] if self.options else [])

    def keep_settings(self) -> None:
        """Write the settings beside a training that is about to begin; a begun one has them."""
        if not begun(self.folder):
            with write_aside(self.folder / 'settings.json') as aside:
                aside.write_text(json.dumps(self.settings(), indent=1))


def _leaves(value: Any, path: str = '') -> Iterator[tuple[str, str]]:
    if isinstance(value, (dict, list, tuple)) and value:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in pairs:
            if key not in INDIFFERENT:
                yield from _leaves(part, f'{path}.{key}' if path else str(key))
    else:
        yield path, repr(value)


def begun(folder: Path) -> bool:
    """Return whether there is a checkpoint to go on from, or a report."""
    return (folder / POINTER).is_file() or (folder / 'report.json').is_file()


def finished(folder: Path, last_epoch: int | None = None, fold: int = 1) -> Fold | None:
    """Return the result of a run that is done; None where there is none.

    Args:
        folder: The run's.
        last_epoch: With which the run ends; None takes a complete report of any epoch. A run that
            a hook such as EarlyStoppingHook has ended is done whatever its last epoch.
        fold: The fold's number.
    """
    path = folder / 'report.json'
    if not path.is_file():
        return None
    try:
        done = read_fold(path, fold)
    except DFERError as error:
        print(f'{error}; taken for not done', file=sys.stderr)
        return None
    return done if done.stopped_early or last_epoch in (None, done.last.epoch) else None


# ------------------------------------------------------------------ commands


def own_command(name: str, *arguments: str) -> list[str]:
    """Return a command line of `mmdfer NAME`, by this Python in whichever folder."""
    return [sys.executable, '-m', 'mmdfer', name, *arguments]


def report_failures(failures: Failures) -> None:
    """Print on stderr what failed, and the commands that resume it."""
    for training, error in failures.items():
        command = shlex.join(error.command)
        print(f'{training} failed ({error}); resume it with\n  {command}', file=sys.stderr)


def run_command(command: Sequence[str], log: Path | None = None) -> int:
    """Run a command to its end and return its exit status; end it if we are interrupted.

    Args:
        command: Program and arguments.
        log: The file for all that it prints; None lets it print here.
    """
    with nullcontext() if log is None else _open_log(log) as out:
        # Ctrl-C reaches both: this process answers, and ends the child, which says nothing.
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
    with explain_write_errors(path):
        return path.open('wb')


def _ignore_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
