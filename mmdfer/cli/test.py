"""Test a checkpoint with the config that it was trained with.

    mmdfer test align_dfer_synth work_dirs/align_dfer_synth/epoch_40.pth

To test on several ranks, run tools/dist_test.sh or tools/slurm_test.sh. The flags are those of
MMAction2's test.py, and in addition ``--bank`` and ``--shuffle-frames``. The metrics are printed,
and written as JSON to the work directory.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process

from mmdfer.cli.flags import (
    add_bank_flag,
    add_config,
    add_run_flags,
    command_parser,
    read_run_config,
)
from mmdfer.datasets.base import check_roots
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
    parser.add_argument('--dump', metavar='FILE.pkl', help='save the predictions to this file')
    parser.add_argument(
        '--show-dir', help='save pictures of clips with their predictions to this folder'
    )
    parser.add_argument(
        '--show', action='store_true', help='show clips with their predictions in a window'
    )
    parser.add_argument(
        '--interval',
        type=int,
        default=1,
        help='show or save every n-th clip, for --show and --show-dir (default: 1)',
    )
    parser.add_argument(
        '--wait-time',
        type=float,
        default=2,
        help='seconds for which a window shows a clip, for --show (default: 2)',
    )
    parser.add_argument(
        '--shuffle-frames',
        action='store_true',
        help='put the frames of each clip in a random order, to measure how much the model '
        'depends on the order of the frames',
    )
    add_bank_flag(parser)
    add_run_flags(parser)
    return parser.parse_args(argv)


def apply_flags(cfg: Config, args: argparse.Namespace) -> None:
    """Change a config as the flags of the command line require.

    Args:
        cfg: The config, which is changed in place.
        args: The parsed command line.

    Raises:
        DFERError: If a flag does not fit the config, or if the checkpoint is missing.
    """
    check_checkpoint(args.checkpoint)
    cfg.load_from, cfg.resume = args.checkpoint, False
    use_bank(cfg, args.bank)
    if args.show or args.show_dir is not None:
        if args.bank is not None:
            raise DFERError(
                '--show and --show-dir draw frames, which a feature bank does not contain; '
                'leave out --bank'
            )
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
            raise DFERError(
                f'--dump {args.dump}: the file name must end in .pkl or .pickle, because the '
                'predictions are pickled'
            )
        metrics = cfg.test_evaluator
        metrics = list(metrics) if isinstance(metrics, (list, tuple)) else [metrics]
        cfg.test_evaluator = [*metrics, dict(type='DumpResults', out_file_path=args.dump)]
    if args.shuffle_frames and shuffle_frames(cfg.test_dataloader.dataset) == 0:
        raise DFERError(
            f'{args.config}: the pipeline of test_dataloader.dataset has no sampler, such as '
            'UniformSample, after which --shuffle-frames could shuffle; add a sampler or leave '
            'out the flag'
        )


def shuffle_frames(part: Any) -> int:
    """Insert the transform ShuffleFrames after each frame sampler in the pipelines of a dataset.

    A sampler is a transform with "Sample" in its name, as in MMAction2. The pipelines of nested
    datasets are changed too.

    Args:
        part: The config of a dataset, or a part of this config. It is changed in place.

    Returns:
        The number of samplers that were found.
    """
    if isinstance(part, dict):
        return sum(shuffle_frames(value) for value in part.values())
    if not isinstance(part, list):
        return 0
    found = sum(shuffle_frames(value) for value in part)
    # From the last transform to the first, because an insertion moves all later transforms.
    for index in reversed(range(len(part))):
        kind = part[index].get('type', '') if isinstance(part[index], dict) else ''
        if 'Sample' in (kind if isinstance(kind, str) else kind.__name__):
            part.insert(index + 1, dict(type='ShuffleFrames', seed=0))
            found += 1
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Test a checkpoint."""
    args = parse_args(argv)
    with one_line_errors():
        cfg = read_run_config(args)
        apply_flags(cfg, args)
        check_roots(cfg.test_dataloader)
        with explain_full_disk(cfg.work_dir, *filter(None, [args.dump])):
            runner = build_runner(cfg)
            if args.shuffle_frames:
                runner.logger.info('The frames of each clip are in random order (--shuffle-frames)')
            runner.test()
            drawn = Path(runner.log_dir, 'confusion_matrix.png')
            if is_main_process() and drawn.is_file():
                runner.logger.info(f'The confusion matrix is saved as {drawn}, .csv and .json')
