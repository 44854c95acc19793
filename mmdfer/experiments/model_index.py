"""Read the methods, their configs and their published figures from ``model-index.yml``.

The format is OpenMMLab's: the index imports metafiles, and each metafile lists models with their
configs. In this package a config is named ``<method>_<dataset>.py``. ``Results`` contain only
figures from papers. Figures measured with this package are in the leaderboard, which has the
command for each figure.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mmdfer.errors import DFERError

Printed = dict[str, float]  # 'WAR' and 'UAR' in percent


@dataclass(frozen=True)
class Method:
    """Hold a method with its config on one dataset.

    Attributes:
        name: The name of the config without the dataset: ``coop`` for ``coop_synth.py``.
        config: The path of the config.
        published: The figures from the paper, keyed by the dataset's name in the metafiles, such as
            ``DFEW``.
    """

    name: str
    config: Path
    published: dict[str, Printed]

    @property
    def ablation(self) -> bool:
        """Return whether the method is an ablation, which removes a part of another method.

        The configs of ablations are in the folder ``ablations/``.
        """
        return self.config.parent.name == 'ablations'


def read_methods(index: str | Path, dataset: str) -> dict[str, Method]:
    """Read the methods that have a config on a dataset.

    Args:
        index: The path of ``model-index.yml``. Paths in the index and in its metafiles are relative
            to its folder.
        dataset: The dataset as it is named in the file names of configs, such as ``synth`` or
            ``dfew``.

    Returns:
        The methods, keyed by name, in the order of the index.

    Raises:
        DFERError: If a file does not exist or is not YAML of this form, or if there is no config on
            the dataset.
    """
    models = read_models(index)
    published: dict[str, dict[str, Printed]] = {}
    for model in models:
        for result in model.get('Results') or ():
            name = _without(Path(model['Config']).stem, result['Dataset'].lower())
            published.setdefault(name or '', {})[result['Dataset']] = result['Metrics']
    methods = {}
    for model in models:
        config = Path(index).parent / model['Config']
        name = _without(config.stem, dataset)
        if name is not None:
            methods[name] = Method(name, config, published.get(name, {}))
    if not methods:
        raise DFERError(
            f'{index}: there is no config for the dataset {dataset!r}; configs are named '
            f'<method>_<dataset>.py, for example {Path(models[0]["Config"]).name}'
        )
    return methods


def read_models(index: str | Path) -> list[dict[str, Any]]:
    """Read the models in all metafiles that an index imports.

    Args:
        index: The path of ``model-index.yml``.

    Returns:
        The entries under ``Models`` of all metafiles.

    Raises:
        DFERError: If a file does not exist or is not YAML of this form.
    """
    paths = _read(Path(index), 'Import')
    models = [model for path in paths for model in _read(Path(index).parent / path, 'Models')]
    for model in models:
        if not isinstance(model, dict) or 'Config' not in model:
            raise DFERError(f'{index}: the entry {model!r} of a metafile has no Config; add it')
    return models


def _read(path: Path, key: str) -> list[Any]:
    """Read the list under a key of a YAML file."""
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
        return content[key]
    except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
        raise DFERError(
            f'{path}: is not a YAML file with a list {key} ({" ".join(str(error).split())})'
        ) from error


def _without(stem: str, dataset: str) -> str | None:
    """Remove the dataset from the name of a config.

    ``align_dfer_dfew_vitl14`` without ``dfew`` is ``align_dfer_vitl14``.

    Args:
        stem: The name of the config without its suffix.
        dataset: The dataset as it is named in the file names of configs.

    Returns:
        The name of the method, or None if the config is on another dataset.
    """
    words = stem.split('_')
    if dataset not in words[1:]:
        return None
    words.remove(dataset)
    return '_'.join(words)
