"""Encode every view of a dataset once, into a feature bank.

    python tools/extract_features.py configs/align_dfer_dfew.py
    python tools/train.py configs/align_dfer_dfew.py --bank

The V views of each training clip and the test view of each test clip, as the config's pipelines
show them; of a dataset with folds, both of every clip, so that all folds read the same bank.
Interrupted, the same command goes on where it stopped; several at once, or several ranks (torchrun
and ``--launcher pytorch``), share the work. A shard that is damaged is encoded anew.
"""

from __future__ import annotations

import argparse
import sys

from mmaction.registry import DATASETS

from mmdfer.cli.flags import add_bank_flag, add_run_flags
from mmdfer.engine.runner.build import build_runner
from mmdfer.engine.runner.config import read_config, use_bank
from mmdfer.errors import one_line_errors
from mmdfer.files import explain_full_disk


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description='Encode a dataset into a feature bank')
    parser.add_argument('config', help='path of the config')
    add_bank_flag(parser)
    add_run_flags(parser)
    return parser.parse_args()


def main() -> None:
    """Encodes."""
    args = parse_args()
    with one_line_errors():
        cfg = read_config(args)
        use_bank(cfg, args.bank or True)
        with explain_full_disk(cfg.work_dir):
            runner = build_runner(cfg)
            loaders = [runner._train_dataloader, runner._val_dataloader]
            if cfg.get('test_dataloader') != cfg.get('val_dataloader'):
                loaders.append(runner._test_dataloader)
            for loader in loaders:
                if loader is not None:
                    DATASETS.build(loader['dataset']).full_init()


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt:
        sys.exit('Interrupted; the same command goes on where it stopped.')
