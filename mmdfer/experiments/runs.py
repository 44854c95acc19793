"""Runs of tools/train.py in folders of their own: with which settings, how far, to their end.

What the tools share that train more than one thing and continue where they were interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

from mmengine.config import Config

from mmdfer.cli.flags import add_run_flags
from mmdfer.engine.runner.config import read_config
from mmdfer.engine.runner.loops import last_epoch
from mmdfer.engine.runner.resume import POINTER
from mmdfer.errors import DFERError
from mmdfer.evaluation.report import Fold, read_fold
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


def read_as_train(config: str | Path, options: Sequence[str], work_dir: str | None) -> Config:
    """Reads a config as train.py will.

    Args:
        config: Its path.
        options: As ``key=value``, from ``--cfg-options``.
        work_dir: The flag's value.

    Raises:
        DFERError: There is no such config, or one that it is based on is missing.
    """
    parser = argparse.ArgumentParser()
    add_run_flags(parser)
    flags = parser.parse_args(['--cfg-options', *options] if options else [])
    flags.config, flags.work_dir = str(config), work_dir
    return read_config(flags)


def check_reports(cfg: Config, config: str) -> None:
    """Raises DFERError where a run of the config would not end in a report of a last epoch."""
    hooks = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    if not any('ReportHook' in str(hook and hook.get('type')) for hook in hooks):
        raise DFERError(
            f"{config}: writes no report; add default_hooks=dict(report=dict(type='ReportHook'))"
        )
    if last_epoch(cfg) is None:
        raise DFERError(f'{config}: a run ends with train_cfg.max_epochs, which is missing')


def fold_keys(cfg: Config, config: str) -> list[str]:
    """Where the config names the fold, dotted, in each loader's dataset and what it wraps.

    Returns:
        The keys; none where the dataset has one split.

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
            raise DFERError(f'{config}: {loader}.dataset names no fold, others do; add fold=1')
    return [key for keys in found.values() for key in keys]


def _fold_keys(dataset: Any, path: str) -> Iterator[str]:
    if isinstance(dataset, (list, tuple)):
        for index, part in enumerate(dataset):
            yield from _fold_keys(part, f'{path}.{index}')
    elif isinstance(dataset, dict):
        if 'fold' in dataset:
            yield f'{path}.fold'
        for key in ('dataset', 'datasets'):
            if key in dataset:
                yield from _fold_keys(dataset[key], f'{path}.{key}')


# ------------------------------------------------------------------ what is done


def decisive_settings(cfg: Config, **flags: Any) -> dict[str, str]:
    """What decides a run's result, by dotted key; the fold itself apart.

    Args:
        cfg: The run's config.
        flags: What train.py is told on top of it, by the flag's name in Python.
    """
    parts = {key: value for key, value in cfg.to_dict().items() if key in DECISIVE}
    told = {f'--{flag.replace("_", "-")}': repr(value) for flag, value in flags.items()}
    return {**dict(_leaves(parts)), **told}


def _leaves(value: Any, path: str = '') -> Iterator[tuple[str, str]]:
    if isinstance(value, (dict, list, tuple)) and value:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in pairs:
            if key not in INDIFFERENT:
                yield from _leaves(part, f'{path}.{key}' if path else str(key))
    else:
        yield path, repr(value)


def keep_settings(folder: Path, settings: dict[str, str]) -> None:
    """Writes the settings beside a run that is about to begin; one that goes on has them."""
    if not begun(folder):
        with write_aside(folder / 'settings.json') as aside:
            aside.write_text(json.dumps(settings, indent=1))


def check_settings(folder: Path, now: dict[str, str], last_epoch: int, what: str = 'run') -> None:
    """Raises DFERError where a run was begun with other settings, which resuming would mix.

    Args:
        folder: The run's.
        now: Its :func:`decisive_settings`.
        last_epoch: With which it ends.
        what: It is, for the message.
    """
    remedy = f'give another --work-dir, or delete the folder to redo the {what}'
    path = folder / 'settings.json'
    if path.is_file() and begun(folder):
        then = json.loads(path.read_text())
        changed = [key for key in {**then, **now} if then.get(key) != now.get(key)]
        if changed:
            key, more = changed[0], f' and {len(changed) - 1} more' * (len(changed) > 1)
            raise DFERError(
                f'{folder}: was begun with other settings ({key} was {then.get(key, "not there")}, '
                f'is {now.get(key, "not there")}{more}); {remedy}'
            )
    done = finished(folder)
    if done is not None and done.last.epoch > last_epoch:
        raise DFERError(
            f'{folder}: its report is of epoch {done.last.epoch}, the config ends with '
            f'{last_epoch}; {remedy}'
        )


def begun(folder: Path) -> bool:
    """Whether there is a checkpoint to go on from, or a report."""
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


# ------------------------------------------------------------------ running


def resume_flag(cfg: Config, folder: Path) -> list[str]:
    """Return ``--resume``, for train.py; nothing where the run begins with a ``load_from``.

    train.py would begin with it all the same, but the command then says what happens.
    """
    return ['--resume'] if cfg.get('load_from') is None or begun(folder) else []


def run_command(command: list[str], log: Path | None = None) -> int:
    """Runs a command to its end and returns its exit status; ends it if we are interrupted.

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
