"""Turn your own films and labels into a dataset of face crops that training reads.

    mmdfer prepare_faces films/train.csv data/custom
    mmdfer prepare_faces films data/custom          # a folder with train.csv and test.csv

The CSV files have the columns clip and label. The face that a film shows longest is found, followed
and cropped; films without a face are left out, and listed with the reason in OUT/report/films.csv.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mmdfer.cli.flags import add_detector_flags, command_parser
from mmdfer.cli.resumable import resumable
from mmdfer.inference.face_clips import Cropping, Outcome, prepare_faces


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_parser('prepare_faces')
    parser.add_argument(
        'source', metavar='IN', help='a CSV file, or a folder with train.csv and test.csv'
    )
    parser.add_argument('out', metavar='OUT', help='folder of the new dataset')
    default = Cropping()
    parser.add_argument(
        '--margin',
        type=float,
        default=default.margin,
        help='border around the face box, as a fraction of its longer side (default: %(default)s)',
    )
    parser.add_argument(
        '--size', type=int, default=default.size, help='side in pixels (default: %(default)s)'
    )
    parser.add_argument(
        '--fps',
        type=float,
        default=default.fps,
        help='largest number of frames per second that are kept (default: %(default)s)',
    )
    add_detector_flags(parser)
    parser.add_argument(
        '--workers', type=int, help='number of processes (default: the number of CPUs)'
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the dataset, and print how many films were dropped and why."""
    args = parse_args(argv)
    with resumable():
        cropping = Cropping(
            fps=args.fps,
            margin=args.margin,
            size=args.size,
            detector=args.detector,
            face_model=args.face_model,
        )
        outcomes = prepare_faces(Path(args.source), Path(args.out), cropping, args.workers)
    print(describe(outcomes, Path(args.out)))


def describe(outcomes: Sequence[Outcome], out: Path) -> str:
    """Return the numbers of clips by CSV file, and the films that were dropped."""
    lines = []
    for split in dict.fromkeys(outcome.split for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.split == split]
        kept = Counter(outcome.label for outcome in own if outcome.crops)
        classes = ', '.join(f'{label} {count}' for label, count in sorted(kept.items()))
        lines.append(f'{split}.csv: {kept.total()} of {len(own)} films ({classes})')
    dropped = [outcome for outcome in outcomes if not outcome.crops]
    lines += [f'dropped {outcome.path}: {outcome.reason}' for outcome in dropped[:20]]
    if len(dropped) > 20:
        lines.append(f'... and {len(dropped) - 20} more')
    lost = sum(outcome.frames - outcome.crops for outcome in outcomes if outcome.crops)
    total = sum(outcome.frames for outcome in outcomes if outcome.crops)
    lines.append(f'{lost} of {total} frames of the other films show no face and were left out')
    lines.append(f'The dataset is in {out}; {out / "report" / "films.csv"} lists all films.')
    return '\n'.join(lines)
