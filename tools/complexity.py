"""Parameters, FLOPs and clips per second of what a config describes, untrained.

    python tools/complexity.py configs/align_dfer_synth.py

The clip is the test set's first, so the data must be there. FLOPs are those of each further clip
and, apart, those that are spent once: a class vector that depends on no clip is kept.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from mmdfer.cli.flags import add_run_flags
from mmdfer.engine.runner.config import read_config, without_features
from mmdfer.errors import one_line_errors
from mmdfer.evaluation.complexity import measure
from mmdfer.files import write_aside


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description='Parameters, FLOPs and clips/s of a config')
    parser.add_argument('config', help='path of the config')
    parser.add_argument('--out', metavar='JSON', help='write the figures to this file too')
    add_run_flags(parser)
    return parser.parse_args()


def main() -> None:
    """Measures."""
    args = parse_args()
    with one_line_errors():
        cfg = read_config(args)
        figures = asdict(measure(cfg, without_features(cfg.test_dataloader.dataset)))
    text = json.dumps(figures, indent=1)
    if args.out is not None:
        with write_aside(args.out) as aside:
            aside.write_text(text, encoding='utf-8')
    print(text)


if __name__ == '__main__':
    main()
