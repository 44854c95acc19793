"""Define the flags that several commands share, and read the config that these flags describe."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from mmengine.config import Config, DictAction

from mmdfer.cli import COMMANDS
from mmdfer.engine.runner.config import read_config
from mmdfer.engine.runner.other_dataset import list_datasets
from mmdfer.faces import DETECTORS

_OPTIONS = (
    'settings that replace those of the config, as key=value; a nested key is written a.b=value, '
    'and a list key="[a,b]" without spaces'
)
AUTO_SCALE_LR_HELP = (
    'scale the learning rate linearly with the batch size, from the base_batch_size in the '
    "config's auto_scale_lr"
)
SEED_HELP = "random seed (default: the config's)"
DETERMINISTIC_HELP = 'use only deterministic algorithms, which may be slower'


def command_parser(name: str) -> argparse.ArgumentParser:
    """Return a parser for the arguments of the command `mmdfer NAME`."""
    return argparse.ArgumentParser(prog=f'mmdfer {name}', description=f'{COMMANDS[name]}.')


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names a config."""
    parser.add_argument(
        'config', help='path of a config, or name of a config that is installed with the package'
    )


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add `--cfg-options` for a command that reads a config."""
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help=_OPTIONS)


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that MMAction2's train.py and test.py share."""
    parser.add_argument(
        '--work-dir',
        help='folder for logs, checkpoints and metrics (default: work_dirs/<name of the config>)',
    )
    add_config_options(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how the ranks of this run were started; without an accelerator, they run on the CPU '
        '(default: none, a single process)',
    )
    parser.add_argument(
        '--local_rank',
        '--local-rank',
        type=int,
        default=0,
        help='set by old versions of the launcher of torch; not for use by hand',
    )


def read_run_config(args: argparse.Namespace) -> Config:
    """Read the config that the arguments of `add_config` and `add_run_flags` describe.

    The other flags of a command are applied afterwards, and take precedence over `--cfg-options`.

    Args:
        args: The parsed command line.

    Returns:
        The config, with `--cfg-options`, `--work-dir` and `--launcher` applied.

    Raises:
        DFERError: If there is no such config, or if a config that it is based on is missing.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return read_config(args.config, args.cfg_options, args.work_dir, args.launcher)


def add_passed_options(parser: argparse.ArgumentParser) -> None:
    """Add `--cfg-options` for a command that passes the options on, unparsed, to other commands."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        default=[],
        metavar='KEY=VALUE',
        help=f'for every training, {_OPTIONS}',
    )


def add_bank_flag(parser: argparse.ArgumentParser) -> None:
    """Add the flag `--bank`, which `use_bank` applies to the config."""
    parser.add_argument(
        '--bank',
        nargs='?',
        const=True,
        metavar='DIR',
        help='use the feature bank in this folder, which saves the vectors of all frames on disk; '
        'missing vectors are encoded first. Without DIR, the folder is '
        'work_dirs/banks/<dataset>-<arch>-<train or test>-<key>, where the key is a hash of '
        'everything that the vectors depend on',
    )


def add_on_flags(parser: argparse.ArgumentParser, what: str, required: bool = False) -> None:
    """Add the flags `--on` and `--on-options`, which `read_dataset_config` reads.

    Args:
        parser: The parser of the command.
        what: What the dataset is for, at the start of the help.
        required: Whether the command requires `--on`.
    """
    parser.add_argument(
        '--on',
        required=required,
        metavar='DATASET',
        help=f'{what}: one of {", ".join(list_datasets())}, or a config that loads the dataset',
    )
    parser.add_argument(
        '--on-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings that replace those of the config of DATASET, for example '
        'test_dataloader.dataset.fold=2',
    )


def name_work_dir(args: argparse.Namespace, run: str = '') -> str:
    """Return the default work directory of a run of `config` on the dataset `on`.

    Args:
        args: The parsed command line.
        run: A word for the kind of the run, if it is not a training.
    """
    words = [Path(args.config).stem, run, 'on', Path(args.on).stem.lower()]
    return str(Path('work_dirs', '_'.join(filter(None, words))))


def add_detector_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that choose the face detector, as `build_detector` takes it."""
    parser.add_argument(
        '--detector',
        choices=DETECTORS,
        default='centerface',
        help='face detector; "none" takes each whole frame for the face (default: %(default)s)',
    )
    parser.add_argument('--face-model', metavar='FILE', help='model file of the face detector')
