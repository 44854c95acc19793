"""Make the synthetic benchmark, or drawn clips in the layout of a licensed dataset.

    mmdfer make_synthetic data/synth
    mmdfer make_synthetic data/synth --levels data/synth/levels
    mmdfer make_synthetic data/synth_comic --domain comic
    mmdfer make_synthetic --scene scene.mp4
    mmdfer make_synthetic --layout dfew data/drawn/DFEW --clips 140

A folder that is complete is not made again. To continue after an interruption, run the same command
again. `docs/synthetic.md` describes the files of the benchmark.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmdfer.cli.flags import command_parser
from mmdfer.errors import DFERError
from mmdfer.files import write_aside
from mmdfer.synthetic import DOMAINS, EXTRAS, make_benchmark
from mmdfer.synthetic.levels import make_levels
from mmdfer.synthetic.media import check_picture_name, write_picture
from mmdfer.synthetic.releases import MEDIA, RELEASES, make_release

_MEDIA_HELP = (
    'write a folder with all frames of each clip, as pictures (default)',
    'write a folder with 16 frames of each clip, for dfew; can be combined with --frames',
    'write a video of each clip; can be combined with the other two',
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_parser('make_synthetic')
    parser.add_argument(
        'out', nargs='?', help='folder for the videos; without this folder, no videos are made'
    )
    parser.add_argument(
        '--train', type=int, default=1400, help='number of training clips (default: 1400)'
    )
    parser.add_argument('--test', type=int, default=700, help='number of test clips (default: 700)')
    parser.add_argument(
        '--train-identities',
        type=int,
        default=140,
        help='number of different faces in the training clips (default: 140)',
    )
    parser.add_argument(
        '--test-identities',
        type=int,
        default=70,
        help='number of different faces in the test clips (default: 70)',
    )
    parser.add_argument(
        '--domain',
        choices=DOMAINS,
        default='shaded',
        help='style of the faces: with soft shading, or another benchmark with other people in '
        'the style of a comic (default: %(default)s)',
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of all random choices (default: 0)'
    )
    parser.add_argument(
        '--size', type=int, default=112, help='width and height of a frame in pixels (default: 112)'
    )
    parser.add_argument(
        '--workers',
        type=int,
        help='number of processes (default: the number of CPUs, at most 8)',
    )
    parser.add_argument(
        '--extras',
        nargs='+',
        choices=EXTRAS,
        default=[],
        help='annotations to write for each clip: action units, masks of the parts of the face, '
        'landmarks, captions (default: none)',
    )
    parser.add_argument(
        '--levels',
        metavar='DIR',
        help='folder for masks and landmarks with the errors of a detector, and for captions with '
        'those of an observer (docs/levels.md)',
    )
    parser.add_argument(
        '--check-order',
        action='store_true',
        help='print how much a classifier of the true action units loses without the order of '
        'the frames',
    )
    parser.add_argument(
        '--contact-sheet', metavar='PNG', help='picture to draw with an overview of the clips'
    )
    parser.add_argument(
        '--scene',
        metavar='MP4',
        help='film to draw, of a moving face that shows each expression for three seconds. The '
        'CSV file beside it has the box and the expression of each frame',
    )
    tree = parser.add_argument_group(
        'layout of a licensed dataset', 'make drawn clips in this layout instead of the benchmark'
    )
    tree.add_argument('--layout', choices=RELEASES, help='name of the licensed dataset')
    tree.add_argument(
        '--clips', type=int, help='number of clips (default: as many as the dataset has)'
    )
    for kind, text in zip(MEDIA, _MEDIA_HELP, strict=True):
        tree.add_argument(f'--{kind}', action='append_const', dest='media', const=kind, help=text)
    args = parser.parse_args(argv)
    if args.layout is None and (args.clips is not None or args.media):
        parser.error('--clips, --frames, --frames16 and --videos require --layout')
    if args.layout is not None and not args.out:
        parser.error('--layout requires OUT, the folder to write to')
    if not (args.out or args.levels or args.check_order or args.contact_sheet or args.scene):
        parser.error(
            'give at least one of OUT, --levels, --check-order, --contact-sheet and --scene'
        )
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Make the synthetic benchmark or the drawn clips, and report an error in one line."""
    args = parse_args(argv)
    try:
        make(args)
    except (ValueError, OSError) as error:
        sys.exit(f'{error}')
    except KeyboardInterrupt:
        sys.exit('Interrupted. Run the same command again to continue.')


def make(args: argparse.Namespace) -> None:
    """Make the files that the command line requests.

    Args:
        args: The parsed command line.
    """
    if args.layout:
        media = args.media or ['frames']
        options = dict(seed=args.seed, size=args.size, workers=args.workers)
        root = make_release(args.layout, args.out, args.clips, media, **options)
        print(f'Drawn clips in the layout of {args.layout}: {root}')
        return
    if args.scene:
        from mmdfer.synthetic.scene import draw_scene, write_scene

        if Path(args.scene).suffix != '.mp4':
            raise DFERError(f'--scene {args.scene}: the name must end in .mp4')
        table = write_scene(Path(args.scene), draw_scene(seed=args.seed))
        print(f'Scene: {args.scene}, with boxes and expressions in {table}')
    people = (args.train_identities, args.test_identities)
    domain = DOMAINS[args.domain]
    specs = domain.make_specs(args.train, args.test, *people, args.seed)
    if args.check_order:
        from mmdfer.synthetic.order import order_table

        print(order_table(specs))
    if args.contact_sheet:
        from mmdfer.synthetic.sheet import contact_sheet

        check_picture_name(args.contact_sheet)
        sheet = contact_sheet(specs, domain.make_identities(*people, args.seed), domain)
        with write_aside(args.contact_sheet) as aside:
            write_picture(aside, sheet)
        print(f'Contact sheet: {args.contact_sheet}')
    arguments = dict(
        num_train=args.train,
        num_test=args.test,
        num_train_identities=people[0],
        num_test_identities=people[1],
        seed=args.seed,
        size=args.size,
        workers=args.workers,
        domain=args.domain,
    )
    if args.out:
        root = make_benchmark(args.out, **arguments, extras=args.extras)
        print(f'Synthetic benchmark: {root}')
    if args.levels:
        print(f'Levels of the synthetic benchmark: {make_levels(args.levels, **arguments)}')
