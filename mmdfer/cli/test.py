"""Test a checkpoint of what a config describes.

    mmdfer test align_dfer_synth work_dirs/align_dfer_synth/epoch_40.pth

On several ranks: tools/dist_test.sh, tools/slurm_test.sh. The flags are those of MMAction2's
test.py, and ``--shuffle-frames``. The metrics are printed, and kept as json in the work dir.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config

from mmdfer.cli.flags import (
    add_bank_flag,
    add_config,
    add_run_flags,
    command_parser,
    read_run_config,
)
from mmdfer.engine.runner.build import build_runner
from mmdfer.engine.runner.config import check_checkpoint
from mmdfer.errors import DFERError, one_line_errors
from mmdfer.features.dataset_config import use_bank, without_features
from mmdfer.files import explain_full_disk


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_parser('test')
    add_config(parser)
    parser.add_argument('checkpoint', help='path of the checkpoint')
    parser.add_argument('--dump', metavar='FILE.pkl', help='keep the predictions in this file')
    parser.add_argument('--show-dir', help='folder for pictures of clips with their predictions')
    parser.add_argument(
        '--show', action='store_true', help='show clips with their predictions in a window'
    )
    parser.add_argument('--interval', type=int, default=1, help='show every n-th clip')
    parser.add_argument(
        '--wait-time', type=float, default=2, help='how long a window stays, in seconds'
    )
    parser.add_argument(
        '--shuffle-frames',
        action='store_true',
        help='put the frames of each clip in a random order: what does the model read of time?',
    )
    add_bank_flag(parser)
    add_run_flags(parser)
    return parser.parse_args(argv)


def apply_flags(cfg: Config, args: argparse.Namespace) -> None:
    """Write the flags into the config.

    Raises:
        DFERError: A flag does not fit the config, or the checkpoint is missing.
    """
    check_checkpoint(args.checkpoint)
    cfg.load_from, cfg.resume = args.checkpoint, False
    use_bank(cfg, args.bank)
    if args.show or args.show_dir is not None:
        if args.bank is not None:
            raise DFERError('--show and --show-dir draw frames, not features: leave --bank out')
        cfg.test_dataloader.dataset = without_features(cfg.test_dataloader.dataset)
        cfg.default_hooks.visualization = dict(
            type='ShowClipsHook',
            out_dir=args.show_dir,
            show=args.show,
            interval=args.interval,
            wait_time=args.wait_time,
        )
    if args.dump is not None:
        if not args.dump.endswith(('.pkl', '.pickle')):
            raise DFERError(f'--dump {args.dump}: the predictions are pickled, name it *.pkl')
        metrics = cfg.test_evaluator
        metrics = list(metrics) if isinstance(metrics, (list, tuple)) else [metrics]
        cfg.test_evaluator = [*metrics, dict(type='DumpResults', out_file_path=args.dump)]
    if args.shuffle_frames and shuffle_frames(cfg.test_dataloader.dataset) == 0:
        raise DFERError(
            f'{args.config}: --shuffle-frames found no sampler such as UniformSample in the '
            'pipeline of test_dataloader.dataset'
        )


def shuffle_frames(part: Any) -> int:
    """Put a ShuffleFrames behind each sampler, however deep datasets and pipelines are nested.

    A sampler is a transform with "Sample" in its name, as all of MMAction2's have.

    Args:
        part: A dataset's config, or a part of it; changed in place.

    Returns:
        How many samplers there are.
    """
    if isinstance(part, dict):
        return sum(shuffle_frames(value) for value in part.values())
    if not isinstance(part, list):
        return 0
    found = sum(shuffle_frames(value) for value in part)
    for index in reversed(range(len(part))):  # from the end: what is inserted moves the rest
        kind = part[index].get('type', '') if isinstance(part[index], dict) else ''
        if 'Sample' in (kind if isinstance(kind, str) else kind.__name__):
            part.insert(index + 1, dict(type='ShuffleFrames', seed=0))
            found += 1
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Test."""
    args = parse_args(argv)
    with one_line_errors():
        cfg = read_run_config(args)
        apply_flags(cfg, args)
        with explain_full_disk(cfg.work_dir, *filter(None, [args.dump])):
            build_runner(cfg).test()
