"""Give EncodedClips the encoder of the model that its Runner builds."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmdfer.compat import is_patched, replaces
from mmdfer.errors import DFERError
from mmdfer.features.dataset_config import LOADERS, is_encoded, serves_features


def hand_model_to_datasets() -> None:
    """Patch mmengine's Runner to give EncodedClips the encoder of the model that it feeds.

    mmengine builds datasets without a word about the model. An EncodedClips in a loader's config,
    however deep in wrappers, that has no `encoder` takes the config of the model's backbone and
    preprocessor. A model that does not read features is refused before any data are read.
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
        for loader in LOADERS:
            given = getattr(self, f'_{loader}')
            if not serves_features(given):
                continue
            check_reads_features(self.model, loader)
            setattr(self, f'_{loader}', _with_encoder(given, encoder))

    Runner.__init__ = build


def check_reads_features(model: torch.nn.Module, loader: str) -> None:
    """Raise DFERError unless a model says that it reads features, by `reads_features`.

    Args:
        model: The model, or the wrapper of a distributed one.
        loader: The name in the config of the loader that serves them.
    """
    inner: Any = model.module if is_model_wrapper(model) else model
    if not getattr(inner, 'reads_features', False):
        preprocessor = type(getattr(inner, 'data_preprocessor', None)).__name__
        raise DFERError(
            f'{loader}: EncodedClips (--bank) serves features, but {type(inner).__name__} with '
            f'{preprocessor} reads frames: give the loader the dataset inside EncodedClips, or '
            'train CLIPRecognizer with CLIPDataPreprocessor'
        )


def _with_encoder(part: Any, encoder: dict | None) -> Any:
    """Return a loader's config in which each EncodedClips has an encoder, its own or the given."""
    if isinstance(part, (list, tuple)):
        return type(part)(_with_encoder(item, encoder) for item in part)
    if not isinstance(part, dict):
        return part
    if is_encoded(part):
        return dict(part, encoder=part.get('encoder') or encoder)
    copy = part.copy()
    for key, value in part.items():
        copy[key] = _with_encoder(value, encoder)
    return copy
