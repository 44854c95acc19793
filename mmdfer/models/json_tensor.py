"""What a checkpoint says of itself in words, written as tensors: state dicts hold nothing else."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor


def to_tensor(value: Any) -> Tensor:
    """Writes a JSON value as its UTF-8 bytes, uint8 (bytes,)."""
    return torch.tensor(list(json.dumps(value, sort_keys=True).encode()), dtype=torch.uint8)


def from_tensor(tensor: Tensor) -> Any:
    """Reads what :func:`to_tensor` wrote."""
    return json.loads(bytes(tensor.tolist()))
