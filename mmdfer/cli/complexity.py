"""Count the parameters and FLOPs of the model of a config, and measure its clips per second.

    mmdfer complexity align_dfer_synth

The measurement uses the first clip of the test set, so the dataset must exist. The FLOPs of each
clip and the FLOPs that are spent once are reported separately, because class vectors that do not
depend on the clip are computed once and kept.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

from mmdfer.cli.flags import add_config, add_run_flags, command_parser, read_run_config
from mmdfer.errors import one_line_errors
from mmdfer.evaluation.complexity import measure
from mmdfer.features.dataset_config import without_features
from mmdfer.files import write_aside


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_parser('complexity')
    add_config(parser)
    parser.add_argument('--out', metavar='JSON', help='file to which the figures are written too')
    add_run_flags(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the model of a config, and print the figures as JSON."""
    args = parse_args(argv)
    with one_line_errors():
        cfg = read_run_config(args)
        figures = asdict(measure(cfg, without_features(cfg.test_dataloader.dataset)))
    text = json.dumps(figures, indent=1)
    if args.out is not None:
        with write_aside(args.out) as aside:
            aside.write_text(text, encoding='utf-8')
    print(text)
