"""Convert a checkpoint of training into a small checkpoint for publication."""

from __future__ import annotations

import datetime
import hashlib
import io
from pathlib import Path

import torch
from mmengine.runner import CheckpointLoader

from mmdfer.errors import DFERError
from mmdfer.files import write_aside
from mmdfer.models.necks.jas import drop_unused_encoders
from mmdfer.version import __version__

# The entries of the checkpoint's meta data that a published checkpoint keeps.
META = ('dataset_meta', 'config_text', 'epoch', 'iter', 'seed', 'mmengine_version')


def publish_model(in_file: str | Path, out_file: str | Path) -> Path:
    """Write a small copy of a checkpoint, which other people can test.

    The copy contains the tensors that testing reads, the class names and the text of the config. It
    contains neither the state of the optimizer and the schedule nor the logs. No code from the
    checkpoint is executed.

    Args:
        in_file: The path of a checkpoint that training wrote.
        out_file: The path to write to. The date and a hash of the content are added to the file
            name.

    Returns:
        The path of the written file, `<out_file>_<date>-<first 8 hex digits of the SHA-256>.pth`.

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
    published = dict(
        meta=dict(kept, mmdfer_version=__version__),
        state_dict=drop_unused_encoders(checkpoint['state_dict']),
    )
    buffer = io.BytesIO()
    torch.save(published, buffer)
    content = buffer.getvalue()
    date, digest = datetime.date.today(), hashlib.sha256(content).hexdigest()
    path = Path(f'{str(out_file).removesuffix(".pth")}_{date:%Y%m%d}-{digest[:8]}.pth')
    with write_aside(path) as aside:
        aside.write_bytes(content)
    return path
