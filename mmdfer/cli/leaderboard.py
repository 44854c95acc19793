"""Train and test methods on one dataset with several seeds, and put them into one table.

    mmdfer leaderboard --dataset synth
    mmdfer leaderboard --dataset synth --methods align_dfer coop 'cl*' --seeds 1

The methods are those of `model-index.yml`; left out, all but the ablations. Each run is one of
`mmdfer train` in `<work dir>/<dataset>/<method>/seed_<k>`, on a dataset with folds in a `fold_<n>`
in it for each of the five; what it prints goes to `train.log` there. Where the image tower is
frozen the runs read one feature bank, encoded before the first. Afterwards a run is tested on
shuffled frames, and each method's parameters, FLOPs and clips/s are measured once. What is done is
not done again, and what was interrupted goes on where it stopped. So the same command continues,
and deleting a run's `report.json`, or its folder, redoes only that run. A run that fails does not
keep the others from running.

The table is of the methods named, written to `<work dir>/<dataset>/leaderboard.txt`, `.md`, `.csv`,
`.json` and `.png`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mmdfer.cli.flags import add_passed_options, command_parser
from mmdfer.cli.resumable import run_resumable
from mmdfer.experiments.leaderboard import compare_methods
from mmdfer.installed import installed


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_parser('leaderboard')
    parser.add_argument(
        '--dataset', required=True, help="as in the configs' names: synth, dfew, ferv39k, mafw"
    )
    parser.add_argument(
        '--methods',
        nargs='+',
        metavar='METHOD',
        help="names, or patterns such as 'align_dfer*'; default: all but the ablations",
    )
    parser.add_argument('--seeds', type=int, default=3, help='how many; they are 0, 1, ...')
    parser.add_argument('--work-dir', default='work_dirs/leaderboard', help='folder for all of it')
    parser.add_argument(
        '--model-index',
        default=str(installed('model-index.yml')),
        help="the file that names the methods; default: this package's",
    )
    add_passed_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run, and write the table."""
    args = parse_args(argv)
    run_resumable(
        lambda: compare_methods(
            args.dataset,
            args.methods,
            args.seeds,
            args.work_dir,
            args.model_index,
            args.cfg_options,
        )
    )
