"""Read a config and apply what the command line changes in it."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from mmengine.config import Config

from mmdfer.errors import DFERError


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
