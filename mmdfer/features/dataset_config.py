"""Put the datasets of a config into EncodedClips, and take them out."""

from __future__ import annotations

from collections.abc import Callable
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

    def change(clips: dict) -> dict:
        inner = clips if is_encoded(clips) else dict(type='EncodedClips', dataset=clips)
        return dict(inner, bank=bank)

    for loader in LOADERS if bank is not None else ():
        if cfg.get(loader) is not None:
            cfg[loader].dataset = _change_clips(cfg[loader].dataset, change)


def _change_clips(dataset: dict, change: Callable[[dict], dict]) -> dict:
    """Return a dataset's config with each EncodedClips, or else each innermost dataset, changed."""
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
    return _change_clips(dataset, lambda clips: clips['dataset'] if is_encoded(clips) else clips)
