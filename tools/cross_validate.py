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
import os
import shlex
import signal
import sys
from pathlib import Path

from mmengine.config import Config

from mmdfer.cli.flags import add_bank_flag
from mmdfer.engine.runner.loops import last_epoch
from mmdfer.errors import DFERError, one_line_errors
from mmdfer.evaluation.report import Fold
from mmdfer.experiments.cross_validation import PROTOCOL, save_tables
from mmdfer.experiments.runs import (
    check_reports,
    check_settings,
    decisive_settings,
    finished,
    fold_keys,
    keep_settings,
    read_as_train,
    resume_flag,
    run_command,
)

TOOLS = Path(__file__).resolve().parent


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
    cfg = read_as_train(args.config, args.cfg_options, args.work_dir)
    if args.launcher == 'pytorch' and args.gpus is None:
        raise DFERError('--launcher pytorch: how many ranks? Add --gpus N')
    if args.launcher == 'slurm' and args.partition is None:
        raise DFERError('--launcher slurm: on which partition? Add --partition NAME')
    if min(args.folds) < 1:
        raise DFERError(f'--folds {min(args.folds)}: folds are counted from 1')
    check_reports(cfg, args.config)
    return cfg


# ------------------------------------------------------------------ what is done


def settings(cfg: Config, args: argparse.Namespace) -> dict[str, str]:
    """What decides a fold's result, by dotted key; the fold itself apart."""
    flags = {f: getattr(args, f) for f in ('amp', 'seed', 'deterministic', 'auto_scale_lr')}
    if args.bank is not None:
        flags['bank'] = True  # whichever folder: a bank of other vectors is refused
    return decisive_settings(cfg, **flags)


def number_of(folder: Path) -> int:
    """The fold's number, from the folder's name."""
    return int(folder.name.removeprefix('fold_'))


def fold_folders(work_dir: Path) -> list[Path]:
    """The folders of all folds begun so far, in order."""
    found = [p for p in work_dir.glob('fold_*') if p.name.removeprefix('fold_').isdecimal()]
    return sorted(found, key=number_of)


def result(folder: Path, last_epoch: int) -> Fold | None:
    """The result of a fold that is done."""
    return finished(folder, last_epoch, number_of(folder))


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
    command += resume_flag(cfg, folder)
    for flag in ('amp', 'auto_scale_lr', 'deterministic'):
        command += [f'--{flag.replace("_", "-")}'] * getattr(args, flag)
    if args.seed is not None:
        command += ['--seed', str(args.seed)]
    if args.bank is not None:
        command += ['--bank'] if args.bank is True else ['--bank', args.bank]
    options = [*args.cfg_options, *(f'{key}={fold}' for key in keys)]
    return [*command, '--work-dir', str(folder), '--cfg-options', *options]


def run_fold(folder: Path, cfg: Config, args: argparse.Namespace, keys: list[str]) -> str:
    """Trains a fold, or goes on with it; returns why it is not done, or ``''``."""
    keep_settings(folder, settings(cfg, args))
    status = run_command(command_of(folder, cfg, args, keys))
    if status != 0:
        return f'exit status {status}'
    epoch = last_epoch(cfg)
    return '' if result(folder, epoch) else f'it ended without a report of epoch {epoch}'


def cross_validate(cfg: Config, args: argparse.Namespace) -> int:
    """Runs what is not done, writes the table, and returns the exit status."""
    keys, now = fold_keys(cfg, args.config), settings(cfg, args)
    if not keys:
        raise DFERError(
            f'{args.config}: no dataset has a fold, so this dataset has one split; use '
            'tools/train.py'
        )
    work_dir, epoch = Path(cfg.work_dir), last_epoch(cfg)
    folders = [work_dir / f'fold_{fold}' for fold in sorted(set(args.folds))]
    for folder in sorted({*folders, *fold_folders(work_dir)}):
        check_settings(folder, now, epoch, 'fold')
    failed = {}
    for index, folder in enumerate(folders, 1):
        what = f'==== fold {number_of(folder)} ({index} of {len(folders)}), {folder}'
        if result(folder, epoch):
            print(f'{what}: done before', flush=True)
            continue
        print(f'{what}:', flush=True)
        if reason := run_fold(folder, cfg, args, keys):
            failed[folder] = reason
    done = [fold for f in fold_folders(work_dir) if (fold := result(f, epoch)) is not None]
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
