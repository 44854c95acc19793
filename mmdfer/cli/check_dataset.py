"""Check that a dataset on disk is complete and matches its release.

    mmdfer check_dataset dfew data/DFEW

The command compares the numbers of clips and labels with those of the release, and looks for
missing and damaged clips. It prints one table and a verdict, and writes both to a JSON file. The
exit status is 1 if training on the dataset would give wrong results.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mmdfer.cli.flags import command_parser
from mmdfer.datasets.licensed.discovery import MEDIA
from mmdfer.datasets.licensed.verify import DATASETS, check
from mmdfer.errors import DFERError, one_line_errors
from mmdfer.faces.centerface import CenterFace
from mmdfer.files import write_aside
from mmdfer.inference.crop_check import count_face_crops


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_parser('check_dataset')
    parser.add_argument('dataset', choices=DATASETS, help='name of the dataset')
    parser.add_argument('root', help='folder of the dataset')
    parser.add_argument(
        '--media',
        nargs='+',
        choices=MEDIA,
        help='the media to check: folders of all frames, folders of 16 frames, or videos '
        '(default: all that the folder contains)',
    )
    parser.add_argument(
        '--decode',
        action='store_true',
        help='also decode every picture and video, which takes hours',
    )
    parser.add_argument(
        '--faces',
        action='store_true',
        help='also look for faces in a sample of the pictures, to see whether they are face crops',
    )
    parser.add_argument(
        '--workers', type=int, help='number of processes (default: the number of CPUs)'
    )
    parser.add_argument(
        '--out',
        metavar='JSON',
        help='file for the report (default: work_dirs/check_dataset/<dataset>.json)',
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Check a dataset, and exit with status 1 if training on it would give wrong results."""
    args = parse_args(argv)
    try:
        run(args)
    except KeyboardInterrupt:
        sys.exit('Interrupted. No report was written.')


def run(args: argparse.Namespace) -> None:
    """Check the dataset, write the report and exit."""
    with one_line_errors():
        if not Path(args.root).is_dir():
            raise DFERError(
                f'{args.root}: no such folder; give the folder of the dataset (docs/datasets.md '
                'shows the layout)'
            )
        count = partial(count_face_crops, detector=CenterFace()) if args.faces else None
        report = check(args.dataset, args.root, args.media, args.decode, args.workers, count)
    out = Path(args.out or f'work_dirs/check_dataset/{args.dataset}.json')
    with write_aside(out) as aside:
        aside.write_text(json.dumps(report.to_json(), indent=1))
    print(f'{report}\nWritten to {out}')
    sys.exit(0 if report.right else 1)
