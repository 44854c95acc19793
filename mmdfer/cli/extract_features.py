"""Encode every view of a dataset once, into a feature bank.

    mmdfer extract_features align_dfer_dfew
    mmdfer train align_dfer_dfew --bank

The V views of each training clip and the test view of each test clip, as the config's pipelines
show them; of a dataset with folds, both of every clip, so that all folds read the same bank.
Interrupted, the same command goes on where it stopped; several at once, or several ranks (torchrun
and ``--launcher pytorch``), share the work. A damaged shard is encoded again.
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
    """Encode; an interruption ends in one line."""
    args = parse_args(argv)
    try:
        with one_line_errors():
            extract(args)
    except KeyboardInterrupt:
        sys.exit('Interrupted; the same command goes on where it stopped.')


def extract(args: argparse.Namespace) -> None:
    """Encode what is missing in the bank.

    Raises:
        DFERError: The config cannot be read, or its dataset cannot be encoded.
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
