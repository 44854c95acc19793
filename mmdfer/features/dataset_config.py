"""Put the datasets of a config into EncodedClips, and take them out."""

from __future__ import annotations

from typing import Any

from mmengine.config import Config

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


def serves_features(part: Any) -> bool:
    """Return whether there is an EncodedClips in a loader's config, however deep in wrappers."""
    if isinstance(part, (list, tuple)):
        return any(map(serves_features, part))
    if not isinstance(part, dict):
        return False
    return is_encoded(part) or any(map(serves_features, part.values()))


def uses_features(cfg: Config) -> bool:
    """Return whether a config trains on encoded features."""
    return serves_features(cfg.get('train_dataloader'))


def show_frames(cfg: Config) -> None:
    """Take the datasets of all loaders out of EncodedClips; the config is changed in place."""
    for loader in LOADERS:
        if cfg.get(loader) is not None:
            cfg[loader].dataset = without_features(cfg[loader].dataset)


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
