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
