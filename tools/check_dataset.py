"""Check whether a dataset on disk is the release: counts, labels, missing and damaged clips.

    python tools/check_dataset.py dfew data/DFEW

Prints one table and a verdict, writes them as json, and ends with status 1 where training on it
would give wrong numbers.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from mmdfer.datasets.licensed.discovery import MEDIA
from mmdfer.datasets.licensed.verify import DATASETS, check
from mmdfer.errors import one_line_errors
from mmdfer.files import write_aside


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description='Check a dataset on disk against its release')
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
    return parser.parse_args()


def main() -> None:
    """Checks."""
    args = parse_args()
    with one_line_errors():
        report = check(args.dataset, args.root, args.media, args.decode, args.workers)
    out = Path(args.out or f'work_dirs/check_dataset/{args.dataset}.json')
    with write_aside(out) as aside:
        aside.write_text(json.dumps(report.to_json(), indent=1))
    print(f'{report}\nWritten to {out}')
    sys.exit(0 if report.right else 1)


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt:
        sys.exit('Interrupted; nothing was written.')
