"""Wrap the datasets of a config in EncodedClips, or remove that wrapper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmengine.config import Config

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
WRAPPED = ('dataset', 'datasets')  # arguments of mmengine's wrappers that hold inner datasets


def use_bank(cfg: Config, bank: str | bool | None) -> None:
    """Make every dataset of a config read its features from a feature bank.

    A dataset that is not inside EncodedClips yet is wrapped in EncodedClips.

    Args:
        cfg: The config, which is changed in place.
        bank: Argument ``bank`` of EncodedClips. None leaves the config unchanged.
    """

    def change(clips: dict) -> dict:
        inner = clips if is_encoded(clips) else dict(type='EncodedClips', dataset=clips)
        return dict(inner, bank=bank)

    for loader in LOADERS if bank is not None else ():
        if cfg.get(loader) is not None:
            cfg[loader].dataset = _change_clips(cfg[loader].dataset, change)


def _change_clips(dataset: dict, change: Callable[[dict], dict]) -> dict:
    """Apply a function to the config of each EncodedClips, or else of each innermost dataset.

    Args:
        dataset: Config of a dataset, which may be nested in dataset wrappers.
        change: Function that converts the config of an EncodedClips or an innermost dataset.

    Returns:
        The changed config.
    """
    if not is_encoded(dataset):
        for key in WRAPPED:
            if key not in dataset:
                continue
            inner = dataset[key]
            if isinstance(inner, dict):
                return dict(dataset, **{key: _change_clips(inner, change)})
            return dict(dataset, **{key: [_change_clips(part, change) for part in inner]})
    return change(dataset)


def is_encoded(dataset: dict) -> bool:
    """Return whether the config of a dataset has the type EncodedClips."""
    kind = dataset.get('type')
    return getattr(kind, '__name__', kind) == 'EncodedClips'


def serves_features(part: Any) -> bool:
    """Return whether the config of a loader contains an EncodedClips, at any depth."""
    if isinstance(part, (list, tuple)):
        return any(map(serves_features, part))
    if not isinstance(part, dict):
        return False
    return is_encoded(part) or any(map(serves_features, part.values()))


def uses_features(cfg: Config) -> bool:
    """Return whether the training loader of a config serves features from EncodedClips."""
    return serves_features(cfg.get('train_dataloader'))


def show_frames(cfg: Config) -> None:
    """Remove EncodedClips from all loaders of a config, which is changed in place.

    The loaders then serve frames instead of features.
    """
    for loader in LOADERS:
        if cfg.get(loader) is not None:
            cfg[loader].dataset = without_features(cfg[loader].dataset)


def without_features(dataset: dict) -> dict:
    """Return the config of a dataset without EncodedClips, so that the dataset serves frames."""
    return _change_clips(dataset, lambda clips: clips['dataset'] if is_encoded(clips) else clips)


def without_argument(dataset: dict, name: str) -> dict:
    """Return the config of a dataset without an argument of its innermost datasets."""
    return _change_clips(
        dataset, lambda clips: {key: value for key, value in clips.items() if key != name}
    )


def replace_clips(dataset: dict, clips: dict) -> dict:
    """Return the config of a dataset in which other clips take the place of its own.

    Args:
        dataset: Config of a dataset, which may be inside EncodedClips and other wrappers.
        clips: Config of the innermost dataset to put in.
    """
    return _change_clips(
        dataset, lambda old: dict(old, dataset=clips) if is_encoded(old) else clips
    )
