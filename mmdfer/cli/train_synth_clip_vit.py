"""Train the image tower of the small ViT CLIP of the synthetic benchmark, on single rendered faces.

    mmdfer train_synth_clip_vit --out mmdfer/synthetic/small_clip

The tower learns the vectors of the other small CLIP's ResNet, with losses inside the face. The
command writes the architecture, the weights and their provenance to `--out`. Training uses neither
clips nor labels of the benchmark. After an interruption, the same command with `--resume` continues
from the last saved state and produces the same weights.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields

from mmdfer.cli.flags import command_parser
from mmdfer.cli.train_synth_clip import add_training_flags, read_args
from mmdfer.errors import one_line_errors
from mmdfer.synthetic.small_clip.making import make_small_vit
from mmdfer.synthetic.small_clip.vit_training import Settings


def main(argv: Sequence[str] | None = None) -> None:
    """Train the image tower, and print its measured figures."""
    parser, default = command_parser('train_synth_clip_vit'), Settings()
    add_training_flags(parser, default, 'work_dirs/synth_clip_vit')
    parser.add_argument(
        '--adamw-lr',
        type=float,
        default=default.adamw_lr,
        help='highest learning rate of AdamW, for all but the matrices of the blocks (default: '
        '%(default)s)',
    )
    args = read_args(parser, argv)
    settings = Settings(**{field.name: getattr(args, field.name) for field in fields(Settings)})
    with one_line_errors():
        figures = make_small_vit(args.out, args.work, settings, args.workers, args.resume)
    print(json.dumps(figures, indent=4))
