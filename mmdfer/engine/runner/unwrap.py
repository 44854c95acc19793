"""Unwrap the model, which the Runner may have wrapped for distributed training."""

from __future__ import annotations

from mmengine.model import BaseModel, is_model_wrapper
from torch import nn


def unwrap(model: nn.Module) -> BaseModel:
    """Return the model inside a wrapper such as DistributedDataParallel.

    Args:
        model: The model of a Runner.

    Returns:
        The wrapped model, or ``model`` itself if it is not wrapped.
    """
    return model.module if is_model_wrapper(model) else model
