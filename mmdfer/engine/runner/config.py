"""Read a config and apply what the command line changes in it."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmdfer.errors import DFERError

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
WRAPPED = ('dataset', 'datasets')  # what mmengine's dataset wrappers call what is inside


def use_bank(cfg: Config, bank: str | bool | None) -> None:
    """Have every dataset keep its features in a bank; those without EncodedClips get one.

    Args:
        cfg: Changed in place.
        bank: As for EncodedClips. None leaves the config as it is.
    """
    for loader in LOADERS if bank is not None else ():
        if cfg.get(loader) is not None:
            cfg[loader].dataset = _with_bank(cfg[loader].dataset, bank)


def _with_bank(dataset: dict, bank: str | bool | None) -> dict:
    if is_encoded(dataset):
        return dict(dataset, bank=bank)
    for key in WRAPPED:
        if isinstance(dataset.get(key), dict):
            return dict(dataset, **{key: _with_bank(dataset[key], bank)})
        if key in dataset:
            return dict(dataset, **{key: [_with_bank(part, bank) for part in dataset[key]]})
    return dict(type='EncodedClips', bank=bank, dataset=dataset)


def is_encoded(dataset: dict) -> bool:
    """Return whether a dataset's config is that of an EncodedClips."""
    kind = dataset.get('type')
    return getattr(kind, '__name__', kind) == 'EncodedClips'


def uses_features(cfg: Config) -> bool:
    """Return whether a config trains on encoded features."""
    return _reads_features((cfg.get('train_dataloader') or {}).get('dataset'))


def _reads_features(part: Any) -> bool:
    if isinstance(part, (list, tuple)):
        return any(map(_reads_features, part))
    if not isinstance(part, dict):
        return False
    return is_encoded(part) or any(_reads_features(part.get(key)) for key in WRAPPED)


def without_features(dataset: dict) -> dict:
    """Return the config of a dataset that shows frames where the given one shows features."""
    if is_encoded(dataset):
        return dataset['dataset']
    for key in WRAPPED:
        if isinstance(dataset.get(key), dict):
            return dict(dataset, **{key: without_features(dataset[key])})
        if key in dataset:
            return dict(dataset, **{key: [without_features(part) for part in dataset[key]]})
    return dataset


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
