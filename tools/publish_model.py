"""Make a small checkpoint for others out of one of training.

    python tools/publish_model.py work_dirs/align_dfer_synth/epoch_40.pth align_dfer_synth.pth

writes ``align_dfer_synth_<date>-<sha256, 8 digits>.pth``: the tensors that testing reads, the
class names and the config's text. Optimizer, schedule and logs stay behind. Nothing that stands
in the file is executed.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import io
from pathlib import Path

import torch
from mmengine.runner import CheckpointLoader

import mmdfer
from mmdfer.errors import DFERError, one_line_errors
from mmdfer.files import write_aside
from mmdfer.models.necks.jas import published_keys

# What a reader of the checkpoint needs to know of the run; the rest of its meta stays behind.
META = ('dataset_meta', 'config_text', 'epoch', 'iter', 'seed', 'mmengine_version')


def publish(in_file: str, out_file: str) -> Path:
    """Writes the published form of a checkpoint.

    Args:
        in_file: A checkpoint of training.
        out_file: Where to; the date and the digest of the content are added to the name.

    Returns:
        The path written.

    Raises:
        DFERError: ``in_file`` is missing, unreadable, or not a checkpoint of training.
    """
    checkpoint = CheckpointLoader.load_checkpoint(in_file, map_location='cpu')
    if 'state_dict' not in checkpoint:
        raise DFERError(f'{in_file}: has no state_dict; give a checkpoint that training wrote')
    meta = checkpoint.get('meta', {})
    kept = {key: meta[key] for key in META if key in meta}
    published = dict(
        meta=dict(kept, mmdfer_version=mmdfer.__version__),
        state_dict=published_keys(checkpoint['state_dict']),
    )
    buffer = io.BytesIO()
    torch.save(published, buffer)
    content = buffer.getvalue()
    date, digest = datetime.date.today(), hashlib.sha256(content).hexdigest()
    path = Path(f'{out_file.removesuffix(".pth")}_{date:%Y%m%d}-{digest[:8]}.pth')
    with write_aside(path) as temporary:
        Path(temporary).write_bytes(content)
    return path


def main() -> None:
    """Publishes."""
    parser = argparse.ArgumentParser(description='Make a small checkpoint for others')
    parser.add_argument('in_file', help='checkpoint of training')
    parser.add_argument('out_file', help='where to; date and digest are added to the name')
    args = parser.parse_args()
    with one_line_errors():
        print(publish(args.in_file, args.out_file))


if __name__ == '__main__':
    main()
