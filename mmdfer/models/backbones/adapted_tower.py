"""Build the adapter of a frozen tower after checking that the tower can have it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import nn

from mmaction.registry import MODELS

from mmdfer.errors import DFERError
from mmdfer.models.adapters.frame_mixing_adapter import FrameMixingAdapter
from mmdfer.models.adapters.tower_adapter import TowerAdapter
from mmdfer.models.backbones.fast_towers import is_plain_image_tower, is_plain_transformer

Option = Literal['adapter', 'text_adapter']


def build_adapter(
    arch: str, option: Option, config: Mapping[str, Any], tower: nn.Module
) -> TowerAdapter:
    """Build an adapter for a tower of CLIP and attach it.

    Args:
        arch: Name of the architecture, for error messages.
        option: The argument of FrozenCLIP that has the config.
        config: Config of the adapter.
        tower: The image tower, or the module with the parts of the text tower.

    Returns:
        The adapter, whose sizes are those of the tower.

    Raises:
        DFERError: If the config is that of another kind of module; if a text tower gets an adapter
            that mixes frames; or if the tower is not plain, so that the formulas of the adapters do
            not apply to it.
    """
    name, is_image = config.get('type'), option == 'adapter'
    kind = MODELS.get(name) if isinstance(name, str) else name
    if not (isinstance(kind, type) and issubclass(kind, TowerAdapter)):
        raise DFERError(
            f'FrozenCLIP: {option}.type={name!r} is not an adapter: set it to '
            + ("'AIMAdapter', 'FRUAdapter' or 'LoRA'" if is_image else "'LoRA'")
        )
    if issubclass(kind, FrameMixingAdapter) and not is_image:
        raise DFERError(
            f'FrozenCLIP: text_adapter.type={name!r} mixes the frames of a clip, but a text tower '
            "reads no frames: set it to 'LoRA'"
        )
    transformer: Any = getattr(tower, 'transformer', None)
    if not is_plain_transformer(transformer) or (is_image and not is_plain_image_tower(tower)):
        raise DFERError(
            f'FrozenCLIP: {option}.type={name!r} does not fit the '
            f'{"image" if is_image else "text"} tower of {arch!r} ({type(tower).__name__}), which '
            "is not a plain transformer of CLIP: set arch to a ViT such as 'ViT-B-16-quickgelu', "
            f'or {option}=None'
        )
    sizes = dict(dims=transformer.width, layers=len(transformer.resblocks))
    adapter: TowerAdapter = MODELS.build({**sizes, **config})
    adapter.attach(transformer)
    return adapter
