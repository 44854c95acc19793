"""Train the small CLIP of the synthetic benchmark from scratch, on single rendered faces.

    mmdfer train_synth_clip --out mmdfer/synthetic/small_clip

The command writes four files to `--out`: the architecture, the merges of the tokenizer, the weights
and their provenance. Training uses neither clips nor labels of the benchmark. The work directory
(`--work`) holds the rendered faces and the training state. After an interruption, the same command
with `--resume` continues from the last saved state and produces the same weights.
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
from mmdfer.synthetic.small_clip import vit_training
from mmdfer.synthetic.small_clip.making import make_small_clip
from mmdfer.synthetic.small_clip.training import Settings


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_parser('train_synth_clip')
    add_training_flags(parser, Settings(), 'work_dirs/synth_clip')
    return read_args(parser, argv)


def add_training_flags(
    parser: argparse.ArgumentParser, default: Settings | vit_training.Settings, work: str
) -> None:
    """Add the flags that the trainings of both small CLIPs have.

    Args:
        parser: The parser.
        default: The default settings.
        work: The default folder for the rendered faces and the training state.
    """
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        help='folder for the architecture, the merges of the tokenizer, the weights and their '
        'provenance',
    )
    parser.add_argument(
        '--work',
        type=Path,
        default=Path(work),
        help='folder for the rendered faces and the training state (default: %(default)s)',
    )
    parser.add_argument(
        '--steps',
        type=int,
        default=default.steps,
        help='number of training steps (default: %(default)s)',
    )
    parser.add_argument(
        '--batch',
        type=int,
        default=default.batch,
        help='number of faces in a batch (default: %(default)s)',
    )
    parser.add_argument(
        '--lr',
        type=float,
        default=default.lr,
        help='highest learning rate of the schedule (default: %(default)s)',
    )
    parser.add_argument(
        '--faces',
        type=int,
        default=default.faces,
        help='number of training faces to render (default: %(default)s)',
    )
    parser.add_argument(
        '--seed',
        type=int,
        default=default.seed,
        help='seed of the faces, the batches and the initial weights (default: %(default)s)',
    )
    parser.add_argument(
        '--threads',
        type=int,
        default=default.threads,
        help='number of threads for training, which affects the last digits of sums '
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--workers',
        type=int,
        default=os.cpu_count(),
        help='number of processes for rendering (default: the number of CPUs)',
    )
    parser.add_argument(
        '--bf16',
        action=argparse.BooleanOptionalAction,
        default=default.bf16,
        help='compute the image tower in bfloat16 during training, unless --no-bf16 is given; this '
        'is twice as fast on a CPU that supports bfloat16',
    )
    parser.add_argument(
        '--resume', action='store_true', help='continue from the last saved training state'
    )


def read_args(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line, and refuse a batch that is larger than the number of faces."""
    args = parser.parse_args(argv)
    if not 2 <= args.batch <= args.faces:
        parser.error(
            f'--batch must be between 2 and --faces, which is {args.faces}, got {args.batch}'
        )
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Train the small CLIP, and print its measured figures."""
    args = parse_args(argv)
    settings = Settings(**{field.name: getattr(args, field.name) for field in fields(Settings)})
    with one_line_errors():
        figures = make_small_clip(args.out, args.work, settings, args.workers, args.resume)
    print(json.dumps(figures, indent=4))
