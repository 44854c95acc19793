"""Read a config and apply what the command line changes in it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction

from mmdfer.engine.runner.renamed import check_options, check_types, explain
from mmdfer.errors import DFERError
from mmdfer.installed import find_config

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


def read_config(
    config: str | Path,
    options: Mapping[str, Any] | None = None,
    work_dir: str | Path | None = None,
    launcher: str = 'none',
) -> Config:
    """Read a config and set what every run needs.

    Args:
        config: The path of a config, or the name of one that is installed with the package.
        options: Settings that replace those of the config, by dotted key.
        work_dir: The run's folder. By default the config's own, or else one in `work_dirs/` with
            the config's name.
        launcher: What starts the ranks: 'none', 'pytorch', 'slurm' or 'mpi'.

    Raises:
        DFERError: There is no such config, one that it is based on is missing, or it has a name of
            an earlier version.
    """
    path = find_config(config)
    try:
        cfg = Config.fromfile(path)
    except FileNotFoundError as error:
        raise DFERError(f'{path}: {error}; check its _base_') from error
    except (AttributeError, KeyError, ImportError) as error:
        if (line := explain(error)) is None:
            raise
        raise DFERError(f'{path}: {line}') from error
    check_types(cfg)
    if options:
        check_options(cfg, options)
        cfg.merge_from_dict(dict(options))
    cfg.launcher = launcher
    if work_dir is not None:
        cfg.work_dir = str(work_dir)
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs', path.stem))
    return cfg


def parse_options(options: Sequence[str]) -> dict[str, Any]:
    """Parse settings written as `key=value`, as `--cfg-options` does."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={})
    return parser.parse_args(['--cfg-options', *options] if options else []).cfg_options


def check_checkpoint(path: str) -> None:
    """Raises DFERError where a local checkpoint is missing; addresses with a scheme pass."""
    if not re.match(r'[\w-]{2,}:', path) and not Path(path).is_file():
        raise DFERError(f'{path}: no such checkpoint; check the path')
