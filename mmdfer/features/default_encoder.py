"""Patch mmengine's Runner to give EncodedClips the encoder and class count of the model."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmdfer.compat import is_patched, replaces
from mmdfer.errors import DFERError
from mmdfer.features.dataset_config import LOADERS, is_encoded, serves_features


def hand_model_to_datasets() -> None:
    """Patch mmengine's Runner to give every EncodedClips the encoder of the model.

    mmengine builds datasets independently of the model. With this patch, an EncodedClips in the
    config of a loader, at any depth, that has no `encoder` gets the configs of the model's backbone
    and data preprocessor. It also gets the number of classes of the model's head, to compare with
    its own before it encodes clips. If the model cannot read features, the Runner raises a
    DFERError before any data are read.
    """
    upstream = Runner.__init__
    if is_patched(upstream):
        return

    @replaces(upstream)
    def build(self: Runner, model: Any, *args: Any, **kwargs: Any) -> None:
        upstream(self, model, *args, **kwargs)
        config = model if isinstance(model, dict) else self.cfg.get('model') or {}
        encoder = None
        if isinstance(config, dict) and isinstance(config.get('backbone'), dict):
            preprocessor = config.get('data_preprocessor')
            encoder = dict(backbone=config['backbone'], data_preprocessor=preprocessor)
        inner = self.model.module if is_model_wrapper(self.model) else self.model
        num_classes = getattr(getattr(inner, 'cls_head', None), 'num_classes', None)
        defaults = dict(encoder=encoder, num_classes=num_classes)
        for loader in LOADERS:
            given = getattr(self, f'_{loader}')
            if not serves_features(given):
                continue
            check_reads_features(inner, loader)
            setattr(self, f'_{loader}', _with_defaults(given, defaults))

    Runner.__init__ = build


def check_reads_features(model: torch.nn.Module, loader: str) -> None:
    """Raise DFERError unless the model has a true attribute `reads_features`.

    Args:
        model: The model, without the wrapper of a distributed model.
        loader: Name in the config of the loader that serves the features, for the error message.
    """
    if not getattr(model, 'reads_features', False):
        preprocessor = type(getattr(model, 'data_preprocessor', None)).__name__
        raise DFERError(
            f'{loader}: EncodedClips (--bank) serves features, but {type(model).__name__} with '
            f'{preprocessor} reads frames; give the loader the dataset inside EncodedClips, or '
            'train CLIPRecognizer with CLIPDataPreprocessor'
        )


def _with_defaults(part: Any, defaults: dict[str, Any]) -> Any:
    """Return the config of a loader in which each EncodedClips has the arguments it lacks."""
    if isinstance(part, (list, tuple)):
        return type(part)(_with_defaults(item, defaults) for item in part)
    if not isinstance(part, dict):
        return part
    if is_encoded(part):
        return dict(part, **{key: part.get(key) or value for key, value in defaults.items()})
    copy = part.copy()
    for key, value in part.items():
        copy[key] = _with_defaults(value, defaults)
    return copy
