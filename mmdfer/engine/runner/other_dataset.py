"""Put the clips of another dataset into a config, and keep the views of the config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmdfer.datasets import LoadLevels, SynthDFER
from mmdfer.datasets.base import find_dataset_class
from mmdfer.datasets.class_names import match_classes
from mmdfer.datasets.synth import DATA_ROOT
from mmdfer.engine.runner.config import read_config
from mmdfer.errors import DFERError
from mmdfer.features.dataset_config import LOADERS, replace_clips, without_features
from mmdfer.installed import installed
from mmdfer.synthetic import DOMAINS

_SWITCHES = ('masks', 'landmarks', 'captions')  # the arguments of LoadLevels that switch it off
VIEWS = ('pipeline', 'num_views', 'seed')  # what a dataset keeps of the config that it is put into


def list_datasets() -> list[str]:
    """Return the names of the datasets that have a file in ``configs/_base_/datasets``."""
    stems = (path.stem for path in (installed('configs') / '_base_' / 'datasets').glob('*.py'))
    drawn = {domain.dataset for domain in DOMAINS.values()}
    return sorted(stem for stem in stems if stem in drawn or '_' not in stem)


def read_dataset_config(name: str, options: Mapping[str, Any] | None = None) -> Config:
    """Read the config of a dataset.

    Args:
        name: The name of a dataset, one of :func:`list_datasets` in upper or lower case, or a
            config that loads the dataset.
        options: Settings that replace those of this config, keyed by their dotted name.

    Returns:
        The config, which has the loaders of the dataset.

    Raises:
        DFERError: If there is no such dataset or config, or if it loads no dataset.
    """
    below = installed('configs') / '_base_' / 'datasets' / f'{name.lower()}.py'
    is_dataset = name.lower() in list_datasets()
    # Only with this entry does a `data_root` among the options reach the loaders (compat.py).
    ours = {'custom_imports.imports': ['mmdfer']} if is_dataset else {}
    try:
        cfg = read_config(below if is_dataset else name, {**ours, **(options or {})})
    except DFERError as error:
        names = ', '.join(list_datasets())
        raise DFERError(f'{error}; give a config, or one of the datasets {names}') from None
    if cfg.get('test_dataloader') is None:
        raise DFERError(f'{name}: the config has no test_dataloader; give a config that has one')
    return cfg


def find_clips(cfg: Config, loader: str, name: str) -> dict[str, Any]:
    """Return the config of the clips of a loader, which must be one DFERDataset.

    Args:
        cfg: The config.
        loader: Name of the loader, such as ``'test_dataloader'``.
        name: Name of the config, for the error message.

    Raises:
        DFERError: If the loader is missing, or if its clips are wrapped in something else than
            EncodedClips, or belong to a dataset of another kind.
    """
    part = cfg.get(loader)
    clips = dict(without_features(part.dataset)) if part is not None else {}
    if find_dataset_class(clips) is not None:
        return clips
    raise DFERError(
        f'{name}: {loader}.dataset must be a dataset of this package, with EncodedClips around it '
        f'or without, but is {clips.get("type", "missing")}'
    )


def take_clips(
    cfg: Config, target: Config, loader: str, levels: str | None = None
) -> tuple[dict[str, Any], bool]:
    """Return the config of a dataset with the clips of another config and the views of this one.

    Args:
        cfg: The config of the model.
        target: The config of the other dataset.
        loader: Name of the loader.
        levels: Folder of the levels of the other dataset (docs/levels.md), if its config does not
            name it.

    Returns:
        The config of the dataset, and whether it lacks levels that the pipeline loads. They are
        then switched off in the pipeline. So are levels that the other config switches off, and
        captions that the class of the dataset keeps out of tests.
    """
    own = find_clips(cfg, loader, Path(cfg.filename or 'config').stem)
    theirs = find_clips(target, loader, Path(target.filename or 'config').stem)
    kept = {key: own[key] for key in VIEWS if key in own}
    clips = {key: value for key, value in theirs.items() if key not in VIEWS} | kept
    load = _find_loading(own.get('pipeline', ()))
    if load is None:
        if levels is not None:
            raise DFERError(
                f'{cfg.filename}: the pipeline has no LoadLevels, so the model reads no levels; '
                'leave out --levels'
            )
        clips.pop('levels', None)  # they would be made, but not read
        return clips, False
    kind, found = find_dataset_class(theirs), _find_loading(theirs.get('pipeline', ()))
    if found is None:
        found = dict(captions=kind is None or kind.TEST_CAPTIONS)
    if levels is None:
        levels = theirs.get('levels') or found.get('folder')
    synthetic = kind is not None and issubclass(kind, SynthDFER)
    if synthetic:
        levels = levels or str(Path(theirs.get('data_root', DATA_ROOT), 'levels'))
    if synthetic or clips.get('levels') is not None:  # a dataset that makes some of its levels
        clips['levels'] = levels
    off = {key: False for key in _SWITCHES if levels is None or not found.get(key, True)}
    changed = dict(load, **off, **({} if levels is None else dict(folder=levels)))
    clips['pipeline'] = [changed if part is load else part for part in own['pipeline']]
    return clips, levels is None


def list_levels(pipeline: Sequence[Any]) -> list[str]:
    """Return the levels that a pipeline loads, by the names that FineCLIPER gives them."""
    load = _find_loading(pipeline)
    if load is None:
        return ['frames']
    return ['frames', *LoadLevels(**{k: v for k, v in load.items() if k != 'type'}).levels]


def _find_loading(pipeline: Sequence[Any]) -> Any:
    """Return the config of the transform LoadLevels in a pipeline, or None."""
    kinds = (LoadLevels, LoadLevels.__name__)
    return next((part for part in pipeline if part.get('type') in kinds), None)


def use_dataset(cfg: Config, target: Config) -> None:
    """Put the clips of another dataset into all loaders of a config, to train on them.

    Args:
        cfg: The config, which is changed in place.
        target: The config of the other dataset, with the same classes in the same order.

    Raises:
        DFERError: If the classes differ, or if the dataset has no levels that the config loads.
    """
    own, theirs = cfg.get('classes'), target.get('classes')
    if own and theirs and match_classes(own, theirs).labels != tuple(range(len(own))):
        raise DFERError(
            f'the config has the classes ({", ".join(own)}), but the dataset has '
            f'({", ".join(theirs)}); to train on other classes, write a config of the dataset'
        )
    for loader in LOADERS:
        if cfg.get(loader) is not None:
            clips, lacks = take_clips(cfg, target, loader)
            if lacks:
                raise DFERError(
                    f'{cfg.filename}: the model reads levels, but the dataset has none; write a '
                    'config of the dataset with LoadLevels (docs/levels.md)'
                )
            cfg[loader].dataset = replace_clips(cfg[loader].dataset, clips)
