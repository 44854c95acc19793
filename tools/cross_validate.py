"""Train and test a config on each fold of its dataset, and put the folds into one table.

    python tools/cross_validate.py configs/align_dfer_dfew.py
    python tools/cross_validate.py configs/align_dfer_dfew.py --launcher pytorch --gpus 8

Each fold is a run of train.py in ``<work dir>/fold_<number>``. A fold whose ``report.json`` is
there is not run again, and one that was interrupted goes on where it stopped: so the same command
continues, and deleting a fold's folder, or its ``report.json``, redoes that fold alone. A fold that
fails does not keep the others from running. The table is of all folds that are done, and is written
to ``<work dir>/cross_validation.txt``, ``.md``, ``.csv``, ``.json`` and ``.png``.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmdfer.engine.checkpoint import POINTER
from mmdfer.errors import DFERError, one_line_errors
from mmdfer.evaluation.folds import PROTOCOL, Fold, read_fold, save_tables
from mmdfer.files import write_aside
from mmdfer.launch import add_bank_flag, add_run_flags, read_config

TOOLS = Path(__file__).resolve().parent
# What decides a result, and in it what does not: a fold goes on only with the settings it began
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


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description='Train and test a config on each fold')
    parser.add_argument('config', help='path of the config')
    parser.add_argument(
        '--folds', nargs='+', type=int, default=list(PROTOCOL), help='which; all five if left out'
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm'],
        default='none',
        help='run each fold by train.py, dist_train.sh or slurm_train.sh',
    )
    parser.add_argument('--gpus', type=int, help='ranks of each run, for pytorch and slurm')
    parser.add_argument('--partition', help='of slurm')
    parser.add_argument('--work-dir', help='folder for the folds and the table')
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    parser.add_argument('--auto-scale-lr', action='store_true', help='as for train.py')
    parser.add_argument('--seed', type=int, help='random seed')
    parser.add_argument('--deterministic', action='store_true', help='as for train.py')
    add_bank_flag(parser)
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        default=[],
        metavar='KEY=VALUE',
        help='settings that replace those of the config, as for train.py',
    )
    return parser.parse_args()


# ------------------------------------------------------------------ the config


def read(args: argparse.Namespace) -> Config:
    """Reads the config as train.py will, but for the fold.

    Raises:
        DFERError: It cannot be cross-validated, or flags do not fit together.
    """
    parser = argparse.ArgumentParser()
    add_run_flags(parser)
    flags = parser.parse_args(['--cfg-options', *args.cfg_options] if args.cfg_options else [])
    flags.config, flags.work_dir = args.config, args.work_dir
    cfg = read_config(flags)
    if args.launcher == 'pytorch' and args.gpus is None:
        raise DFERError('--launcher pytorch: how many ranks? Add --gpus N')
    if args.launcher == 'slurm' and args.partition is None:
        raise DFERError('--launcher slurm: on which partition? Add --partition NAME')
    if min(args.folds) < 1:
        raise DFERError(f'--folds {min(args.folds)}: folds are counted from 1')
    hooks = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    if not any('ReportHook' in str(hook and hook.get('type')) for hook in hooks):
        raise DFERError(
            f'{args.config}: writes no report of a fold; add '
            "default_hooks=dict(report=dict(type='ReportHook'))"
        )
    if (cfg.get('train_cfg') or {}).get('max_epochs') is None:
        raise DFERError(f'{args.config}: a fold ends with train_cfg.max_epochs, which is missing')
    return cfg


def fold_keys(cfg: Config, config: str) -> list[str]:
    """Where the config names the fold, dotted, in each loader's dataset and what it wraps.

    Raises:
        DFERError: Nowhere; or in one loader only, and the other's dataset would stay as it is.
    """
    found = {}
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = (cfg.get(loader) or {}).get('dataset')
        if dataset is not None:
            found[loader] = list(_fold_keys(dataset, f'{loader}.dataset'))
    if not any(found.values()):
        raise DFERError(
            f'{config}: no dataset has a fold, so this dataset has one split; use tools/train.py'
        )
    for loader, keys in found.items():
        if not keys:
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


def settings(cfg: Config, args: argparse.Namespace) -> dict[str, str]:
    """What decides a fold's result, by dotted key; the fold itself apart."""
    flags = {f'--{flag}': getattr(args, flag) for flag in ('amp', 'seed', 'deterministic')}
    flags['--auto-scale-lr'] = args.auto_scale_lr
    if args.bank is not None:
        flags['--bank'] = True  # whichever folder: a bank of other vectors is refused
    parts = {key: value for key, value in cfg.to_dict().items() if key in DECISIVE}
    return {**dict(_leaves(parts)), **{flag: repr(value) for flag, value in flags.items()}}


def _leaves(value: Any, path: str = '') -> Iterator[tuple[str, str]]:
    if isinstance(value, (dict, list, tuple)) and value:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in pairs:
            if key not in INDIFFERENT:
                yield from _leaves(part, f'{path}.{key}' if path else str(key))
    else:
        yield path, repr(value)


def check_settings(folder: Path, now: dict[str, str], last_epoch: int) -> None:
    """Raises DFERError where a fold was begun with other settings, which resuming would mix."""
    remedy = 'give another --work-dir, or delete the folder to redo the fold'
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


def finished(folder: Path, last_epoch: int | None = None) -> Fold | None:
    """The result of a fold whose report is whole and of the last epoch (None: of any)."""
    path = folder / 'report.json'
    if not path.is_file():
        return None
    try:
        fold = read_fold(path, number_of(folder))
    except DFERError as error:
        print(f'{error}; taken for not done', file=sys.stderr)
        return None
    return fold if last_epoch in (None, fold.last.epoch) else None


def number_of(folder: Path) -> int:
    """The fold's number, from the folder's name."""
    return int(folder.name.removeprefix('fold_'))


def fold_folders(work_dir: Path) -> list[Path]:
    """The folders of all folds begun so far, in order."""
    found = [p for p in work_dir.glob('fold_*') if p.name.removeprefix('fold_').isdecimal()]
    return sorted(found, key=number_of)


# ------------------------------------------------------------------ running


def command_of(folder: Path, cfg: Config, args: argparse.Namespace, keys: list[str]) -> list[str]:
    """The command that trains a fold, or goes on with it."""
    fold = number_of(folder)
    if args.launcher == 'pytorch':
        command = ['bash', str(TOOLS / 'dist_train.sh'), args.config, str(args.gpus)]
    elif args.launcher == 'slurm':
        job = f'{Path(args.config).stem}_fold_{fold}'
        command = ['bash', str(TOOLS / 'slurm_train.sh'), args.partition, job, args.config]
        if args.gpus is not None:
            per_node = os.environ.get('GPUS_PER_NODE', min(args.gpus, 8))
            command = ['env', f'GPUS={args.gpus}', f'GPUS_PER_NODE={per_node}', *command]
    else:
        command = [sys.executable, str(TOOLS / 'train.py'), args.config]
    # With nothing to resume from, --resume would only take the config's load_from away.
    if cfg.get('load_from') is None or begun(folder):
        command.append('--resume')
    for flag in ('amp', 'auto_scale_lr', 'deterministic'):
        command += [f'--{flag.replace("_", "-")}'] * getattr(args, flag)
    if args.seed is not None:
        command += ['--seed', str(args.seed)]
    if args.bank is not None:
        command += ['--bank'] if args.bank is True else ['--bank', args.bank]
    options = [*args.cfg_options, *(f'{key}={fold}' for key in keys)]
    return [*command, '--work-dir', str(folder), '--cfg-options', *options]


def run_command(command: list[str]) -> int:
    """Runs a command to its end and returns its exit status; ends it if we are interrupted."""
    # Ctrl-C reaches both: this process answers, and ends the child, which says nothing.
    child = subprocess.Popen(command, preexec_fn=_ignore_ctrl_c if os.name == 'posix' else None)
    try:
        return child.wait()
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()


def _ignore_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def run_fold(folder: Path, cfg: Config, args: argparse.Namespace, keys: list[str]) -> str:
    """Trains a fold, or goes on with it; returns why it is not done, or ``''``."""
    if not begun(folder):
        with write_aside(folder / 'settings.json') as aside:
            aside.write_text(json.dumps(settings(cfg, args), indent=1))
    status = run_command(command_of(folder, cfg, args, keys))
    if status != 0:
        return f'exit status {status}'
    epoch = cfg.train_cfg.max_epochs
    return '' if finished(folder, epoch) else f'it ended without a report of epoch {epoch}'


def cross_validate(cfg: Config, args: argparse.Namespace) -> int:
    """Runs what is not done, writes the table, and returns the exit status."""
    keys, now = fold_keys(cfg, args.config), settings(cfg, args)
    work_dir, epoch = Path(cfg.work_dir), cfg.train_cfg.max_epochs
    folders = [work_dir / f'fold_{fold}' for fold in sorted(set(args.folds))]
    for folder in sorted({*folders, *fold_folders(work_dir)}):
        check_settings(folder, now, epoch)
    failed = {}
    for index, folder in enumerate(folders, 1):
        what = f'==== fold {number_of(folder)} ({index} of {len(folders)}), {folder}'
        if finished(folder, epoch):
            print(f'{what}: done before', flush=True)
            continue
        print(f'{what}:', flush=True)
        if reason := run_fold(folder, cfg, args, keys):
            failed[folder] = reason
    done = [fold for f in fold_folders(work_dir) if (fold := finished(f, epoch)) is not None]
    if done:
        print(save_tables(done, Path(args.config).stem, work_dir))
        print(f'saved as {work_dir / "cross_validation"}.txt, .md, .csv, .json and .png')
    for folder, reason in failed.items():
        command = shlex.join(command_of(folder, cfg, args, keys))
        fold = number_of(folder)
        print(f'fold {fold} failed ({reason}); resume it with\n  {command}', file=sys.stderr)
    return 1 if failed else 0


def main() -> None:
    """Cross-validates."""
    args = parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with one_line_errors():
            status = cross_validate(read(args), args)
    except KeyboardInterrupt:
        print('\ninterrupted; the same command continues', file=sys.stderr)
        status = 130
    sys.exit(status)


if __name__ == '__main__':
    main()
