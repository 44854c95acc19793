"""Test a checkpoint on another dataset than it was trained on.

    mmdfer zero_shot align_dfer_dfew epoch_100.pth --on ferv39k
    mmdfer zero_shot clip_zero_shot_synth --on synth_comic

CONFIG is the config that the checkpoint was trained with. The metrics are printed, and written as
JSON to the work directory.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mmdfer.apis.zero_shot import run_zero_shot
from mmdfer.cli.flags import (
    add_bank_flag,
    add_config,
    add_on_flags,
    add_run_flags,
    command_parser,
    name_work_dir,
    read_run_config,
)
from mmdfer.engine.runner.other_dataset import read_dataset_config
from mmdfer.errors import one_line_errors
from mmdfer.files import explain_full_disk


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_parser('zero_shot')
    add_config(parser)
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='path of the checkpoint; leave it out for a model that needs no training, such as '
        'zero-shot CLIP',
    )
    add_on_flags(parser, 'dataset to test on', required=True)
    parser.add_argument(
        '--levels',
        metavar='DIR',
        help='folder of the masks, landmarks and captions of this dataset, for models that read '
        'them (docs/levels.md); by default, the folder that the config of the dataset names. '
        'Without a folder, such a model is tested on the frames alone. The levels of the synthetic '
        'benchmark are made if they are missing. Captions of MAFW are only read if that config '
        'loads them',
    )
    add_bank_flag(parser)
    add_run_flags(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Test a checkpoint on another dataset."""
    args = parse_args(argv)
    with one_line_errors():
        if args.work_dir is None:
            args.work_dir = name_work_dir(args, 'zero_shot')
        cfg = read_run_config(args)
        target = read_dataset_config(args.on, args.on_options)
        with explain_full_disk(cfg.work_dir):
            run_zero_shot(cfg, args.checkpoint, target, args.levels, args.bank)
