"""Make a small checkpoint for others out of one of training.

    mmdfer publish_model work_dirs/align_dfer_synth/epoch_40.pth align_dfer_synth.pth

writes `align_dfer_synth_<date>-<sha256, 8 digits>.pth`.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmdfer.apis import publish_model
from mmdfer.cli.flags import command_parser
from mmdfer.errors import one_line_errors


def main(argv: Sequence[str] | None = None) -> None:
    """Publish."""
    parser = command_parser('publish_model')
    parser.add_argument('in_file', help='checkpoint of training')
    parser.add_argument('out_file', help='where to; date and digest are added to the name')
    args = parser.parse_args(argv)
    with one_line_errors():
        print(publish_model(args.in_file, args.out_file))
