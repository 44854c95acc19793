"""Train and test a config on each fold of its dataset, and put the folds into one table.

    mmdfer cross_validate align_dfer_dfew
    mmdfer cross_validate align_dfer_dfew --launcher pytorch --gpus 8

Each fold is a run of `mmdfer train` in `<work dir>/fold_<number>`. A fold whose `report.json` is
there is not run again, and one that was interrupted goes on where it stopped. So the same command
continues, and deleting a fold's folder, or its `report.json`, redoes only that fold. A fold that
fails does not keep the others from running. The table is of all folds that are done, and is written
to `<work dir>/cross_validation.txt`, `.md`, `.csv`, `.json` and `.png`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from mmdfer.cli.flags import add_bank_flag, add_config, add_passed_options, command_parser
from mmdfer.cli.resumable import run_resumable
from mmdfer.experiments.cross_validation import Launcher, cross_validate
from mmdfer.experiments.cross_validation_tables import PROTOCOL
from mmdfer.experiments.runs import Failures


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_parser('cross_validate')
    add_config(parser)
    parser.add_argument(
        '--folds', nargs='+', type=int, default=list(PROTOCOL), help='which; all five if left out'
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm'],
        default='none',
        help='run each fold in one process, by dist_train.sh or by slurm_train.sh',
    )
    parser.add_argument('--gpus', type=int, help='ranks of each run, for pytorch and slurm')
    parser.add_argument('--partition', help='of slurm')
    parser.add_argument('--work-dir', help='folder for the folds and the table')
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    parser.add_argument('--auto-scale-lr', action='store_true', help='as for train')
    parser.add_argument('--seed', type=int, help='random seed')
    parser.add_argument('--deterministic', action='store_true', help='as for train')
    add_bank_flag(parser)
    add_passed_options(parser)
    return parser.parse_args(argv)


def train_flags(args: argparse.Namespace) -> dict[str, Any]:
    """Return the flags of `mmdfer train` that are given, by their names in Python."""
    names = ('amp', 'auto_scale_lr', 'deterministic', 'seed', 'bank')
    flags = {name: getattr(args, name) for name in names}
    return {k: v for k, v in flags.items() if v is not None and v is not False}  # seed 0 is one


def run(args: argparse.Namespace) -> Failures:
    """Cross-validate as the command line says."""
    launcher = Launcher(args.launcher, args.gpus, args.partition)
    flags, options = train_flags(args), args.cfg_options
    return cross_validate(args.config, args.folds, launcher, flags, options, args.work_dir)


def main(argv: Sequence[str] | None = None) -> None:
    """Cross-validate."""
    args = parse_args(argv)
    run_resumable(lambda: run(args))
