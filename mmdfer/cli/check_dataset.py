"""Check whether a dataset on disk is the release: counts, labels, missing and damaged clips.

    mmdfer check_dataset dfew data/DFEW

Prints one table and a verdict, writes them as json, and ends with status 1 where training on it
would give wrong numbers.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mmdfer.cli.flags import command_parser
from mmdfer.datasets.licensed.discovery import MEDIA
from mmdfer.datasets.licensed.verify import DATASETS, check
from mmdfer.errors import one_line_errors
from mmdfer.files import write_aside


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_parser('check_dataset')
    parser.add_argument('dataset', choices=DATASETS, help='which one')
    parser.add_argument('root', help='the folder that holds it')
    parser.add_argument(
        '--media', nargs='+', choices=MEDIA, help='what to look at (default: all that is there)'
    )
    parser.add_argument(
        '--decode', action='store_true', help='decode every picture and video (hours)'
    )
    parser.add_argument('--workers', type=int, help='processes (default: the CPUs)')
    parser.add_argument(
        '--out', metavar='JSON', help='default: work_dirs/check_dataset/<dataset>.json'
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Check; exit with status 1 where training would give wrong numbers."""
    args = parse_args(argv)
    try:
        run(args)
    except KeyboardInterrupt:
        sys.exit('Interrupted; nothing was written.')


def run(args: argparse.Namespace) -> None:
    """Check, write the report and exit."""
    with one_line_errors():
        report = check(args.dataset, args.root, args.media, args.decode, args.workers)
    out = Path(args.out or f'work_dirs/check_dataset/{args.dataset}.json')
    with write_aside(out) as aside:
        aside.write_text(json.dumps(report.to_json(), indent=1))
    print(f'{report}\nWritten to {out}')
    sys.exit(0 if report.right else 1)
