"""Train and test several methods on one dataset with several seeds, and compare them in a table.

    mmdfer leaderboard --dataset synth
    mmdfer leaderboard --dataset synth --methods align_dfer coop 'cl*' --seeds 1

The methods are listed in `model-index.yml`. Without `--methods`, all methods except the ablations
are trained. Each training is a run of `mmdfer train` in `<work dir>/<dataset>/<method>/seed_<k>`,
and its output is written to `train.log` in this folder. For a dataset with folds, each of the five
folds is a run in a subfolder `fold_<n>`. If the image tower of a method is frozen, its runs share
one feature bank, which is encoded before the first run.

After its training, each run is also tested with shuffled frames. The parameters, FLOPs and clips
per second of each method are measured once.

If a run fails, the other runs still start. To continue after an interruption, run the same command
again: a run that was interrupted continues from its last checkpoint, and finished runs are not
repeated. To repeat a single run, delete its folder or its `report.json`.

The table contains the chosen methods. It is written to `<work dir>/<dataset>/leaderboard.txt`,
`.md`, `.csv`, `.json` and `.png`.
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
        '--dataset',
        required=True,
        help='name of the dataset, as in the names of the configs: synth, dfew, ferv39k or mafw',
    )
    parser.add_argument(
        '--methods',
        nargs='+',
        metavar='METHOD',
        help="names of methods, or patterns such as 'align_dfer*' (default: all methods except "
        'the ablations)',
    )
    parser.add_argument(
        '--seeds', type=int, default=3, help='number of seeds, which are 0, 1, ... (default: 3)'
    )
    parser.add_argument(
        '--work-dir',
        default='work_dirs/leaderboard',
        help='folder for the runs and the tables (default: work_dirs/leaderboard)',
    )
    parser.add_argument(
        '--model-index',
        default=str(installed('model-index.yml')),
        help="file that lists the methods (default: this package's model-index.yml)",
    )
    add_passed_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Train and test the methods, and write the table."""
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
