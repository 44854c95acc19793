"""Train and test a config on each fold of its dataset, and collect the folds in one table.

    mmdfer cross_validate align_dfer_dfew
    mmdfer cross_validate align_dfer_dfew --launcher pytorch --gpus 8

Each fold is a run of `mmdfer train` in `<work dir>/fold_<number>`. If a fold fails, the other folds
still run. To continue after an interruption, run the same command again: a fold that was
interrupted continues from its last checkpoint, and a fold with a `report.json` is not run again. To
repeat a single fold, delete its folder or its `report.json`.

The table contains all folds that are finished. It is written to
`<work dir>/cross_validation.txt`, `.md`, `.csv`, `.json` and `.png`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from mmdfer.cli.flags import (
    AUTO_SCALE_LR_HELP,
    DETERMINISTIC_HELP,
    SEED_HELP,
    add_bank_flag,
    add_config,
    add_passed_options,
    command_parser,
)
from mmdfer.cli.resumable import run_resumable
from mmdfer.experiments.cross_validation import Launcher, cross_validate
from mmdfer.experiments.cross_validation_tables import PROTOCOL
from mmdfer.experiments.runs import Failures


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_parser('cross_validate')
    add_config(parser)
    parser.add_argument(
        '--folds',
        nargs='+',
        type=int,
        default=list(PROTOCOL),
        help='numbers of the folds to run (default: all five)',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm'],
        default='none',
        help='how to start the training of a fold: none runs one process, pytorch runs '
        'tools/dist_train.sh, and slurm runs tools/slurm_train.sh (default: none)',
    )
    parser.add_argument(
        '--gpus', type=int, help='number of ranks of each training, with pytorch and slurm'
    )
    parser.add_argument('--partition', help='partition of Slurm, with --launcher slurm')
    parser.add_argument(
        '--work-dir',
        help='folder for the folds and the table (default: work_dirs/<name of the config>)',
    )
    parser.add_argument(
        '--amp', action='store_true', help='train in mixed precision (bfloat16 by default)'
    )
    parser.add_argument('--auto-scale-lr', action='store_true', help=AUTO_SCALE_LR_HELP)
    parser.add_argument('--seed', type=int, help=SEED_HELP)
    parser.add_argument('--deterministic', action='store_true', help=DETERMINISTIC_HELP)
    add_bank_flag(parser)
    add_passed_options(parser)
    return parser.parse_args(argv)


def train_flags(args: argparse.Namespace) -> dict[str, Any]:
    """Return the flags of `mmdfer train` that are given on the command line.

    Args:
        args: The parsed command line.

    Returns:
        The value of each given flag, by the name of its argument, such as `auto_scale_lr`.
    """
    names = ('amp', 'auto_scale_lr', 'deterministic', 'seed', 'bank')
    flags = {name: getattr(args, name) for name in names}
    # A seed of 0 is a given flag, so the values are not tested for truth.
    return {k: v for k, v in flags.items() if v is not None and v is not False}


def run(args: argparse.Namespace) -> Failures:
    """Cross-validate with the arguments of the command line, and return the folds that failed."""
    launcher = Launcher(args.launcher, args.gpus, args.partition)
    flags, options = train_flags(args), args.cfg_options
    return cross_validate(args.config, args.folds, launcher, flags, options, args.work_dir)


def main(argv: Sequence[str] | None = None) -> None:
    """Cross-validate a config."""
    args = parse_args(argv)
    run_resumable(lambda: run(args))
