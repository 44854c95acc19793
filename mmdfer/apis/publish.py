"""Make a small checkpoint for others out of one of training."""

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

# What a reader of the checkpoint needs to know of the run; the rest of its meta stays behind.
META = ('dataset_meta', 'config_text', 'epoch', 'iter', 'seed', 'mmengine_version')


def publish_model(in_file: str | Path, out_file: str | Path) -> Path:
    """Write a small form of a checkpoint, for others to test.

    It has the tensors that testing reads, the class names and the text of the config. Optimizer,
    schedule and logs are left out. No code from the file is executed.

    Args:
        in_file: A checkpoint of training.
        out_file: Where to write; the date and the digest of the content are added to the name.

    Returns:
        The path of the file, `<out_file>_<date>-<sha256, 8 digits>.pth`.

    Raises:
        DFERError: ``in_file`` is missing, unreadable, or not a checkpoint of training.
    """
    checkpoint = CheckpointLoader.load_checkpoint(str(in_file), map_location='cpu')
    if 'state_dict' not in checkpoint:
        raise DFERError(f'{in_file}: has no state_dict; give a checkpoint that training wrote')
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
