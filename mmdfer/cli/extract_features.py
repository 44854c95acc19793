"""Encode every view of a dataset once, and save the frame vectors in a feature bank.

    mmdfer extract_features align_dfer_dfew
    mmdfer train align_dfer_dfew --bank

The command encodes the V training views of each training clip and the test view of each test clip,
with the pipelines of the config. For a dataset with folds, it encodes the training views and the
test view of every clip, so that all folds read the same feature bank.

To continue after an interruption, run the same command again. Several such commands that run at the
same time share the work, and so do several ranks (torchrun with ``--launcher pytorch``). A damaged
shard of the bank is encoded again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mmaction.registry import DATASETS

from mmdfer.cli.flags import (
    add_bank_flag,
    add_config,
    add_run_flags,
    command_parser,
    read_run_config,
)
from mmdfer.engine.runner.build import build_runner
from mmdfer.errors import one_line_errors
from mmdfer.features.dataset_config import use_bank
from mmdfer.files import explain_full_disk


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_parser('extract_features')
    add_config(parser)
    add_bank_flag(parser)
    add_run_flags(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Encode the views of a dataset into a feature bank."""
    args = parse_args(argv)
    try:
        with one_line_errors():
            extract(args)
    except KeyboardInterrupt:
        sys.exit('Interrupted. Run the same command again to continue.')


def extract(args: argparse.Namespace) -> None:
    """Encode the views that are missing in the feature bank.

    Args:
        args: The parsed command line.

    Raises:
        DFERError: If the config cannot be read, or if its dataset cannot be encoded.
    """
    cfg = read_run_config(args)
    use_bank(cfg, args.bank or True)
    with explain_full_disk(cfg.work_dir):
        runner = build_runner(cfg)
        loaders = [runner._train_dataloader, runner._val_dataloader]
        if cfg.get('test_dataloader') != cfg.get('val_dataloader'):
            loaders.append(runner._test_dataloader)
        for loader in loaders:
            if loader is not None:
                DATASETS.build(loader['dataset']).full_init()
