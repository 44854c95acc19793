"""Write a small copy of a training checkpoint for publication.

    mmdfer publish_model work_dirs/align_dfer_synth/epoch_40.pth align_dfer_synth.pth

This command writes `align_dfer_synth_<date>-<first 8 hex digits of the SHA-256>.pth`. If the output
ends in `.safetensors`, a safetensors file is written.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmdfer.apis import publish_model
from mmdfer.cli.flags import command_parser
from mmdfer.errors import one_line_errors


def main(argv: Sequence[str] | None = None) -> None:
    """Write the small copy of a checkpoint, and print its path."""
    parser = command_parser('publish_model')
    parser.add_argument('in_file', help='path of a checkpoint that training wrote')
    parser.add_argument(
        'out_file',
        help='path of the copy; the date and a hash of the content are added to the file name',
    )
    parser.add_argument(
        '--half', action='store_true', help='store numbers in half precision (half the size)'
    )
    args = parser.parse_args(argv)
    with one_line_errors():
        print(publish_model(args.in_file, args.out_file, args.half))
