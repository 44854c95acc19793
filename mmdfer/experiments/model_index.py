"""The methods that ``model-index.yml`` names: their configs, and what their papers print.

The format is OpenMMLab's: the index imports metafiles, and each metafile lists models with their
config. Here a config is named ``<method>_<dataset>.py``, and Results are figures of papers only:
what we measure stands in the leaderboard, where each figure has its command.
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
    """A method on one dataset.

    Attributes:
        name: The config's name without the dataset: ``coop`` of ``coop_synth.py``.
        config: The path.
        published: By dataset, as the metafiles name it (``DFEW``), what the paper prints.
    """

    name: str
    config: Path
    published: dict[str, Printed]

    @property
    def ablation(self) -> bool:
        """Whether it takes a part off another method: its config is in ``ablations/``."""
        return self.config.parent.name == 'ablations'


def read_methods(index: str | Path, dataset: str) -> dict[str, Method]:
    """Reads the methods that have a config on a dataset.

    Args:
        index: ``model-index.yml``; paths in it and in its metafiles are relative to its folder.
        dataset: As it stands in the configs' names: ``synth``, ``dfew``.

    Returns:
        The methods by name, in the index's order.

    Raises:
        DFERError: A file is missing or is no YAML of this form, or no config is of this dataset.
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
            f'{index}: no config is of the dataset {dataset!r}; they are named '
            f'<method>_<dataset>.py, for instance {Path(models[0]["Config"]).name}'
        )
    return methods


def read_models(index: str | Path) -> list[dict[str, Any]]:
    """Reads the entries under ``Models`` of every metafile that an index imports.

    Raises:
        DFERError: A file is missing or is no YAML of this form.
    """
    paths = _read(Path(index), 'Import')
    models = [model for path in paths for model in _read(Path(index).parent / path, 'Models')]
    for model in models:
        if not isinstance(model, dict) or 'Config' not in model:
            raise DFERError(f'{index}: the entry {model!r} of a metafile has no Config: add one')
    return models


def _read(path: Path, key: str) -> list[Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
        return content[key]
    except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
        raise DFERError(
            f'{path}: is not a YAML file with a list {key}: ({" ".join(str(error).split())})'
        ) from error


def _without(stem: str, dataset: str) -> str | None:
    """``align_dfer_dfew_vitl14`` without ``dfew`` is ``align_dfer_vitl14``; None if not in it."""
    words = stem.split('_')
    if dataset not in words[1:]:
        return None
    words.remove(dataset)
    return '_'.join(words)
