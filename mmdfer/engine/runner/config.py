"""Read a config and apply the options of the command line."""

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


def read_config(
    config: str | Path,
    options: Mapping[str, Any] | None = None,
    work_dir: str | Path | None = None,
    launcher: str = 'none',
) -> Config:
    """Read a config and set the launcher and the work directory.

    Args:
        config: The path of a config, or the name of a config that is installed with the package.
        options: Settings that replace those of the config, keyed by their dotted name. By default
            the config is unchanged.
        work_dir: The work directory of the run. By default the one that the config names, or else a
            folder in `work_dirs/` with the name of the config.
        launcher: The program that starts the ranks: 'none' (the default, one process), 'pytorch',
            'slurm' or 'mpi'.

    Returns:
        The config of the run.

    Raises:
        DFERError: If the config or one of its base configs does not exist, or if the config uses a
            name that was removed or renamed after version 0.1.
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
    """Parse settings of the form `key=value`, as `--cfg-options` does.

    Args:
        options: The settings, for example `['train_cfg.max_epochs=10']`.

    Returns:
        The parsed values, keyed by the dotted names of the settings.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={})
    return parser.parse_args(['--cfg-options', *options] if options else []).cfg_options


def check_checkpoint(path: str) -> None:
    """Check that a local checkpoint exists.

    Args:
        path: The path of the checkpoint. Addresses with a scheme, such as `https:`, are not
            checked.

    Raises:
        DFERError: If there is no file at a local path.
    """
    if not re.match(r'[\w-]{2,}:', path) and not Path(path).is_file():
        raise DFERError(f'{path}: no such checkpoint; check the path')
