"""Define what a converter returns, and build the model of a config of this package."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmaction.registry import MODELS

from mmdfer.installed import find_installed_config


@dataclass(frozen=True)
class Conversion:
    """Hold the weights of an authors' file in the form of this package.

    Attributes:
        state: The state dict of the model.
        settings: Settings of ``model`` that replace those of the method's config.
        clip: The tensors of the whole CLIP by their names in open_clip, if the model has a CLIP.
        texts: The text of each class, if the file has class texts.
    """

    state: Mapping[str, Tensor]
    settings: dict[str, Any]
    clip: Mapping[str, Tensor] | None = None
    texts: dict[str, str] = field(default_factory=dict)


def config_name(method: str, dataset: str) -> str:
    """Return the name of the config of a method for a dataset, below ``configs/``."""
    return f'{method}/{method}_{dataset}.py'


def read_config(method: str, dataset: str) -> Config:
    """Read the config of a method for a dataset."""
    return Config.fromfile(find_installed_config(config_name(method, dataset)))


def build_model(config: Config) -> nn.Module:
    """Build the model of a config, in eval mode, whose first weights are going to be replaced."""
    init_default_scope('mmaction')
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # open_clip warns that the weights are random
    try:
        return MODELS.build(config.model).eval()
    finally:
        logging.disable(before)
