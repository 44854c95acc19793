"""Provide invented class texts, and a small CLIP under the name of DFER-CLIP's architecture."""

from __future__ import annotations

import open_clip
import pytest
import torch
from references import dfer_clip
from torch import Tensor

TEXTS = [
    "the mouth's corners go up, and both eyes shine.",
    'a low look: lips (the lower one) tremble.',
    'nothing moves; a half-open mouth.',
    'brows pulled down, jaws clenched, hard stare.',
    'a jump of the brows! a gasp.',
    'the tongue out, nose in folds.',
    "don't look, 100 times pale.",
    'one smirk.',
    'darting eyes, bitten lips.',
    'shoulders drop, eyes ask for help.',
    'a sigh, then a slow shake of the head.',
]
_SMALL = dict(
    embed_dim=64,
    quick_gelu=True,
    vision_cfg=dict(image_size=224, layers=2, width=64, patch_size=32),
    text_cfg=dict(context_length=77, vocab_size=49408, width=64, heads=1, layers=2),
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small_clip(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Give the architecture of DFER-CLIP's config a small size, and return weights of this size."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, 'ViT-B-32-quickgelu', _SMALL)
    return dfer_clip.clip_state(64, 2, 64, 2, 64, generator=generator())
