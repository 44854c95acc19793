"""Flags that several commands have in common, and the config that they lead to."""

from __future__ import annotations

import argparse
import os

from mmengine.config import Config, DictAction

from mmdfer.cli import COMMANDS
from mmdfer.engine.runner.config import read_config

_OPTIONS = (
    'settings that replace those of the config: key=value, nested as a.b=value, '
    'lists as key="[a,b]" without spaces'
)


def command_parser(name: str) -> argparse.ArgumentParser:
    """Return a parser for the arguments of `mmdfer NAME`."""
    return argparse.ArgumentParser(prog=f'mmdfer {name}', description=f'{COMMANDS[name]}.')


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names a config."""
    parser.add_argument(
        'config', help='path of the config, or name of one that is installed with the package'
    )


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that MMAction2's train.py and test.py have in common."""
    parser.add_argument('--work-dir', help='folder for logs, checkpoints and metrics')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help=_OPTIONS)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what has started the ranks; without an accelerator they run on the CPU',
    )
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help='set by old launchers'
    )


def read_run_config(args: argparse.Namespace) -> Config:
    """Read the config that `add_config` and `add_run_flags` describe.

    The command's own flags come after and win.

    Raises:
        DFERError: There is no such config, or one that it is based on is missing.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return read_config(args.config, args.cfg_options, args.work_dir, args.launcher)


def add_passed_options(parser: argparse.ArgumentParser) -> None:
    """Add `--cfg-options` for a command that passes them on to others, as they are written."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        default=[],
        metavar='KEY=VALUE',
        help=f'for every run, {_OPTIONS}',
    )


def add_bank_flag(parser: argparse.ArgumentParser) -> None:
    """Add `--bank`, which `use_bank` writes into the config."""
    parser.add_argument(
        '--bank',
        nargs='?',
        const=True,
        metavar='DIR',
        help='read frame vectors from the feature bank in this folder, encoded first where it is '
        'missing; without a value from work_dirs/banks/<dataset>-<arch>-<train or test>-<key>, '
        'the key made of all that the vectors depend on',
    )
