"""Convert a checkpoint of training into a small checkpoint for publication."""

from __future__ import annotations

import datetime
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import CheckpointLoader
from safetensors.torch import save
from torch import Tensor

from mmdfer.compat import SAFETENSORS_META
from mmdfer.errors import DFERError
from mmdfer.files import write_aside
from mmdfer.models.necks.jas import drop_unused_encoders
from mmdfer.version import __version__

# The entries of the checkpoint's meta data that a published checkpoint keeps.
META = ('dataset_meta', 'config_text', 'epoch', 'iter', 'seed', 'mmengine_version')


def publish_model(in_file: str | Path, out_file: str | Path, half: bool = False) -> Path:
    """Write a small copy of a checkpoint, which other people can test.

    The copy contains the tensors that testing reads, the class names and the text of the config. It
    contains neither the state of the optimizer and the schedule nor the logs. No code from the
    checkpoint is executed.

    Args:
        in_file: The path of a checkpoint that training wrote.
        out_file: The path to write to. The date and a hash of the content are added to the file
            name. If it ends in `.safetensors`, a safetensors file is written, which
            `load_checkpoint` and the commands of this package read like any other checkpoint.
        half: Whether to store numbers in half precision, which halves the size.

    Returns:
        The path of the written file, `<out_file>_<date>-<first 8 hex digits of the SHA-256>.pth` or
        `.safetensors`.

    Raises:
        DFERError: If ``in_file`` is missing, unreadable, or not a checkpoint of training.
    """
    checkpoint = CheckpointLoader.load_checkpoint(str(in_file), map_location='cpu')
    if 'state_dict' not in checkpoint:
        raise DFERError(
            f'{in_file}: the file has no state_dict; give a checkpoint that training wrote'
        )
    meta = checkpoint.get('meta', {})
    kept = {key: meta[key] for key in META if key in meta}
    kept['mmdfer_version'] = __version__
    state = drop_unused_encoders(checkpoint['state_dict'])
    if half:
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    suffix = '.safetensors' if Path(out_file).suffix == '.safetensors' else '.pth'
    content = (_to_safetensors if suffix == '.safetensors' else _to_pth)(state, kept)
    date, digest = datetime.date.today(), hashlib.sha256(content).hexdigest()
    path = Path(f'{str(out_file).removesuffix(suffix)}_{date:%Y%m%d}-{digest[:8]}{suffix}')
    with write_aside(path) as aside:
        aside.write_bytes(content)
    return path


def _to_pth(state: dict[str, Tensor], meta: dict[str, Any]) -> bytes:
    """Return the content of a file that torch.load reads."""
    buffer = io.BytesIO()
    torch.save(dict(meta=meta, state_dict=state), buffer)
    return buffer.getvalue()


def _to_safetensors(state: dict[str, Tensor], meta: dict[str, Any]) -> bytes:
    """Return the content of a safetensors file, with the meta data as JSON."""
    tensors = {key: value.contiguous() for key, value in state.items()}
    return save(tensors, {SAFETENSORS_META: json.dumps(meta), 'format': 'pt'})
