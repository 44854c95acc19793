"""What the command-line tools share: their common flags, reading the config, the Runner."""

from __future__ import annotations

import argparse
import itertools
import os
import re
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from mmaction.registry import RUNNERS

from mmdfer.compat import explain_taken_port, init_cpu_ranks
from mmdfer.errors import DFERError
from mmdfer.files import check_writable, warn_of_lost_logs

_BUILT = itertools.count()  # the runs of this process


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


def use_bank(cfg: Config, bank: str | bool | None) -> None:
    """Has EncodeOnceHook, added where the config has none, keep its vectors in a bank."""
    if bank is None:
        return
    hooks = list(cfg.get('custom_hooks') or [])
    if not any(_encodes_once(hook) for hook in hooks):
        hooks.append(dict(type='EncodeOnceHook'))
    cfg.custom_hooks = [dict(h, bank=bank) if _encodes_once(h) else h for h in hooks]


def _encodes_once(hook: dict) -> bool:
    return getattr(hook['type'], '__name__', hook['type']) == 'EncodeOnceHook'


def read_config(args: argparse.Namespace) -> Config:
    """Reads the config and applies the common flags; the tool's own come after and win.

    Args:
        args: With ``config`` and what :func:`add_run_flags` adds.

    Raises:
        DFERError: There is no such config, or one that it is based on is missing.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    path = Path(args.config)
    if not path.is_file():
        raise DFERError(f'{path}: no such config; check the path')
    try:
        cfg = Config.fromfile(path)
    except FileNotFoundError as error:
        raise DFERError(f'{path}: {error}; check its _base_') from error
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    cfg.launcher = args.launcher
    # The folder: the flag's, else the config's, else named after the config.
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs', path.stem))
    return cfg


def check_checkpoint(path: str) -> None:
    """Raises DFERError where a local checkpoint is missing; addresses with a scheme pass."""
    if not re.match(r'[\w-]{2,}:', path) and not Path(path).is_file():
        raise DFERError(f'{path}: no such checkpoint; check the path')


def build_runner(cfg: Config) -> Runner:
    """Joins the ranks where there is no accelerator, and builds the Runner that the config asks."""
    init_cpu_ranks(cfg.get('launcher', 'none'))
    # mmengine finds a run's logger, message hub and visualizer again by the config's name and the
    # second: a later run of this process must not take those of one begun in the same second.
    if number := next(_BUILT):
        cfg.setdefault('experiment_name', f'{Path(cfg.filename or "run").stem}_{number}')
    check_writable(cfg.work_dir)
    with explain_taken_port():  # where there is an accelerator, the Runner joins the ranks
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    warn_of_lost_logs(runner.logger)
    return runner
