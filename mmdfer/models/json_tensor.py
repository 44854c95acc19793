"""Convert JSON values to tensors and back, so that a state dict can store names and digests.

A state dict may hold only tensors. The class names of a head and the identity of the CLIP weights
are stored in checkpoints in this form.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor


def to_tensor(value: Any) -> Tensor:
    """Convert a JSON value to a uint8 tensor of its UTF-8 bytes, of shape (number of bytes,)."""
    return torch.tensor(list(json.dumps(value, sort_keys=True).encode()), dtype=torch.uint8)


def from_tensor(tensor: Tensor) -> Any:
    """Convert a tensor that :func:`to_tensor` returned back to the JSON value."""
    return json.loads(bytes(tensor.tolist()))
