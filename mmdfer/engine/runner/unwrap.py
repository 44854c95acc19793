"""The model itself, which the Runner may have wrapped for several ranks."""

from __future__ import annotations

from mmengine.model import BaseModel, is_model_wrapper
from torch import nn


def unwrap(model: nn.Module) -> BaseModel:
    """The model inside a DistributedDataParallel, or the model as it is."""
    return model.module if is_model_wrapper(model) else model
