"""Provide the adapters: small trained modules inside the frozen towers of CLIP."""

from mmdfer.models.adapters.aim_adapter import AIMAdapter
from mmdfer.models.adapters.frame_mixing_adapter import FrameMixingAdapter
from mmdfer.models.adapters.fru_adapter import FRUAdapter
from mmdfer.models.adapters.lora import LoRA
from mmdfer.models.adapters.tower_adapter import TowerAdapter

__all__ = [
    'AIMAdapter',
    'FRUAdapter',
    'FrameMixingAdapter',
    'LoRA',
    'TowerAdapter',
]
