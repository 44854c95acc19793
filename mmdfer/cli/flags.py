"""Flags that several commands have in common."""

from __future__ import annotations

import argparse

from mmengine.config import DictAction


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that MMAction2's train.py and test.py have in common."""
    parser.add_argument('--work-dir', help='folder for logs, checkpoints and metrics')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='settings that replace those of the config: key=value, nested as a.b=value, '
        'lists as key="[a,b]" without spaces',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what has started the ranks; without an accelerator they run on the CPU',
    )
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help='set by old launchers'
    )


def add_bank_flag(parser: argparse.ArgumentParser) -> None:
    """Adds ``--bank``, which :func:`use_bank` writes into the config."""
    parser.add_argument(
        '--bank',
        nargs='?',
        const=True,
        metavar='DIR',
        help='read frame vectors from the feature bank in this folder, encoded first where it is '
        'missing; without a value from work_dirs/banks/<dataset>-<arch>-<train or test>-<key>, '
        'the key made of all that the vectors depend on',
    )
