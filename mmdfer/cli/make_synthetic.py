"""Make the synthetic benchmark, or a drawn tree in the layout of a licensed dataset.

    mmdfer make_synthetic data/synth
    mmdfer make_synthetic --layout dfew data/drawn/DFEW --clips 140

Made once, then reused; interrupted, it goes on where it stopped. What it holds: docs/synthetic.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mmdfer.cli.flags import command_parser
from mmdfer.files import write_aside
from mmdfer.synthetic import EXTRAS, make_benchmark, make_identities, make_specs
from mmdfer.synthetic.media import check_picture_name, write_picture
from mmdfer.synthetic.releases import MEDIA, RELEASES, make_release

_MEDIA_HELP = (
    'all frames as pictures (the default)',
    'the folder of 16 frames each, which dfew has; can be given with --frames',
    'videos; can be given with the others',
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_parser('make_synthetic')
    parser.add_argument('out', nargs='?', help='folder for the videos; without it, none are made')
    parser.add_argument('--train', type=int, default=1400, help='training clips (default 1400)')
    parser.add_argument('--test', type=int, default=700, help='test clips (default 700)')
    parser.add_argument('--train-identities', type=int, default=140, help='faces to train on (140)')
    parser.add_argument('--test-identities', type=int, default=70, help='faces to test on (70)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--size', type=int, default=112, help='side of the frames in pixels (112)')
    parser.add_argument('--workers', type=int, help='processes (default: the CPUs, at most 8)')
    parser.add_argument('--extras', nargs='+', choices=EXTRAS, default=[], help='also written')
    parser.add_argument(
        '--check-order', action='store_true', help='show what order tells, on true action units'
    )
    parser.add_argument('--contact-sheet', metavar='PNG', help='draw an overview')
    tree = parser.add_argument_group('a tree in the layout of a dataset, in place of the benchmark')
    tree.add_argument('--layout', choices=RELEASES, help='of which dataset')
    tree.add_argument('--clips', type=int, help='how many (default: as many as the release has)')
    for kind, text in zip(MEDIA, _MEDIA_HELP, strict=True):
        tree.add_argument(f'--{kind}', action='append_const', dest='media', const=kind, help=text)
    args = parser.parse_args(argv)
    if args.layout is None and (args.clips is not None or args.media):
        parser.error('--clips, --frames, --frames16 and --videos are for a --layout')
    if args.layout is not None and not args.out:
        parser.error('--layout: give OUT, the folder to make it in')
    if not (args.out or args.check_order or args.contact_sheet):
        parser.error('give OUT, --check-order or --contact-sheet')
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Make what the command line asks for; an error ends in one line."""
    args = parse_args(argv)
    try:
        make(args)
    except (ValueError, OSError) as error:
        sys.exit(f'{error}')
    except KeyboardInterrupt:
        sys.exit('Interrupted; the same command goes on where it stopped.')


def make(args: argparse.Namespace) -> None:
    """Make what the flags ask for."""
    if args.layout:
        media = args.media or ['frames']
        options = dict(seed=args.seed, size=args.size, workers=args.workers)
        root = make_release(args.layout, args.out, args.clips, media, **options)
        print(f'Drawn tree in the layout of {args.layout}: {root}')
        return
    people = (args.train_identities, args.test_identities)
    specs = make_specs(args.train, args.test, *people, args.seed)
    if args.check_order:
        from mmdfer.synthetic.order import order_table

        print(order_table(specs))
    if args.contact_sheet:
        from mmdfer.synthetic.sheet import contact_sheet

        check_picture_name(args.contact_sheet)
        sheet = contact_sheet(specs, make_identities(*people, args.seed))
        with write_aside(args.contact_sheet) as aside:
            write_picture(aside, sheet)
        print(f'Contact sheet: {args.contact_sheet}')
    if args.out:
        root = make_benchmark(
            args.out,
            num_train=args.train,
            num_test=args.test,
            num_train_identities=people[0],
            num_test_identities=people[1],
            seed=args.seed,
            size=args.size,
            workers=args.workers,
            extras=args.extras,
        )
        print(f'Synthetic benchmark: {root}')
