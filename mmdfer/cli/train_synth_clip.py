"""Train the small CLIP of the synthetic benchmark, from nothing, on single rendered faces.

    mmdfer train_synth_clip --out mmdfer/synthetic/small_clip

writes the architecture, the tokenizer's merges, the weights and their provenance to `--out`.
Training reads no clip and no label of the benchmark. The work dir (`--work`) holds the rendered
faces and the training state; after an interruption the same command with `--resume` goes on from
the last state and ends with the same weights.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from mmdfer.cli.flags import command_parser
from mmdfer.errors import one_line_errors
from mmdfer.synthetic.small_clip.making import make_small_clip
from mmdfer.synthetic.small_clip.training import Settings


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser, default = command_parser('train_synth_clip'), Settings()
    parser.add_argument('--out', type=Path, required=True, help='where the four files go')
    parser.add_argument('--work', type=Path, default=Path('work_dirs/synth_clip'))
    parser.add_argument('--steps', type=int, default=default.steps)
    parser.add_argument('--batch', type=int, default=default.batch)
    parser.add_argument('--lr', type=float, default=default.lr)
    parser.add_argument('--faces', type=int, default=default.faces, help='training faces to render')
    parser.add_argument('--seed', type=int, default=default.seed)
    parser.add_argument(
        '--threads', type=int, default=default.threads, help='for training; sums depend on it'
    )
    parser.add_argument('--workers', type=int, default=os.cpu_count(), help='for rendering')
    parser.add_argument(
        '--bf16',
        action=argparse.BooleanOptionalAction,
        default=default.bf16,
        help='image tower in bfloat16 while it trains, twice as fast where the CPU has it',
    )
    parser.add_argument('--resume', action='store_true', help='go on from the last saved state')
    args = parser.parse_args(argv)
    if not 2 <= args.batch <= args.faces:
        parser.error(f'--batch {args.batch}: take 2 to --faces, which is {args.faces}')
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Make the small CLIP, and print its figures."""
    args = parse_args(argv)
    settings = Settings(**{field.name: getattr(args, field.name) for field in fields(Settings)})
    with one_line_errors():
        figures = make_small_clip(args.out, args.work, settings, args.workers, args.resume)
    print(json.dumps(figures, indent=4))
