"""Train the model of a config.

    mmdfer train align_dfer_synth

To train on several ranks, run tools/dist_train.sh or tools/slurm_train.sh. The flags are those of
MMAction2's train.py, and in addition ``--bank`` and ``--on``. A flag takes precedence over the
config and over ``--cfg-options``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmdfer.cli.flags import (
    AUTO_SCALE_LR_HELP,
    DETERMINISTIC_HELP,
    SEED_HELP,
    add_bank_flag,
    add_config,
    add_on_flags,
    add_run_flags,
    command_parser,
    name_work_dir,
    read_run_config,
)
from mmdfer.datasets.base import check_roots
from mmdfer.engine import AtomicCheckpointHook
from mmdfer.engine.hooks.setup_hook import check_batches, check_stage_hook
from mmdfer.engine.runner.build import build_runner
from mmdfer.engine.runner.config import check_checkpoint
from mmdfer.engine.runner.loops import check_schedule, last_epoch
from mmdfer.engine.runner.other_dataset import read_dataset_config, use_dataset
from mmdfer.engine.runner.resume_checkpoint import (
    check_resumable,
    is_finished,
    newest_checkpoint,
    settle_resume,
)
from mmdfer.errors import DFERError, one_line_errors
from mmdfer.features.dataset_config import show_frames, use_bank, uses_features
from mmdfer.files import explain_full_disk
from mmdfer.models.data_preprocessors.clip_preprocessor import check_blending


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_parser('train')
    add_config(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume from this checkpoint. Without CHECKPOINT, resume from the newest checkpoint '
        'in the work directory; if there is none, training starts from the beginning, with the '
        "weights of the config's load_from if it is set",
    )
    parser.add_argument(
        '--amp', action='store_true', help='train in mixed precision (bfloat16 by default)'
    )
    parser.add_argument('--no-validate', action='store_true', help='train without validation')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help=AUTO_SCALE_LR_HELP,
    )
    parser.add_argument('--seed', type=int, help=SEED_HELP)
    parser.add_argument(
        '--diff-rank-seed', action='store_true', help='give each rank a different seed'
    )
    parser.add_argument('--deterministic', action='store_true', help=DETERMINISTIC_HELP)
    add_on_flags(parser, 'train on this dataset instead of that of CONFIG')
    add_bank_flag(parser)
    add_run_flags(parser)
    args = parser.parse_args(argv)
    if args.on_options and args.on is None:
        parser.error('--on-options requires --on')
    return args


def apply_flags(cfg: Config, args: argparse.Namespace) -> None:
    """Change a config as the flags of the command line require.

    Args:
        cfg: The config, which is changed in place.
        args: The parsed command line.

    Raises:
        DFERError: If a flag does not fit the config, or if a checkpoint to load is missing.
    """
    use_bank(cfg, args.bank)
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        use_amp(cfg)
    if args.resume == 'auto':
        # Without a checkpoint in the work directory, training starts from load_from; see
        # settle_resume.
        cfg.resume = 'auto' if cfg.get('load_from') else True
    elif args.resume is not None:
        cfg.resume, cfg.load_from = True, args.resume
    elif cfg.get('resume') and newest_checkpoint(cfg.work_dir) is not None:
        cfg.load_from = None  # the run started from these weights and now has a checkpoint
    if cfg.get('load_from') is not None:
        check_checkpoint(cfg.load_from)
    if args.auto_scale_lr:
        if cfg.get('auto_scale_lr') is None:
            raise DFERError(
                f'{args.config}: --auto-scale-lr requires the batch size for which the learning '
                'rate was chosen; add auto_scale_lr=dict(base_batch_size=...) to the config'
            )
        cfg.auto_scale_lr.enable = True
    # MMAction2's train.py ignores these flags if the config sets `randomness`.
    flags = dict(
        seed=args.seed, diff_rank_seed=args.diff_rank_seed, deterministic=args.deterministic
    )
    # A seed of 0 is a given flag, so the values are not tested for truth.
    given = {k: v for k, v in flags.items() if v is not None and v is not False}
    cfg.randomness = {**flags, **(cfg.get('randomness') or {}), **given}


def use_amp(cfg: Config) -> None:
    """Change a config to train in mixed precision, in bfloat16 on the CPU and on GPUs.

    A config with an `AmpOptimWrapper` continues to use float16 with loss scaling on a GPU.

    Args:
        cfg: The config, which is changed in place.

    Raises:
        DFERError: If the config has an optimizer wrapper of another type.
    """
    wrapper = cfg.optim_wrapper
    kind = wrapper.get('type', 'OptimWrapper')
    name = kind if isinstance(kind, str) else kind.__name__
    if name not in ('OptimWrapper', 'AmpOptimWrapper', 'AutocastOptimWrapper'):
        raise DFERError(
            f'--amp does not support optim_wrapper.type={name}; leave out --amp, or use '
            'OptimWrapper'
        )
    if name == 'AmpOptimWrapper' and get_device() not in ('cpu', 'mps'):
        wrapper.setdefault('loss_scale', 'dynamic')  # as in MMAction2's train.py
        return
    wrapper.type = 'AutocastOptimWrapper'
    wrapper.pop('loss_scale', None)  # bfloat16 has the range of float32


def check_stages(runner: Runner) -> None:
    """Check the hooks and the schedule of a run, before a dataset is made or read.

    Args:
        runner: The Runner of the training.

    Raises:
        DFERError: If a hook that the model requires is missing, or if the schedule or the blending
            of clips does not fit the run.
    """
    check_stage_hook(runner)
    check_schedule(runner)
    if uses_features(runner.cfg):
        check_blending(runner.cfg.model.get('data_preprocessor'))


def settle_stock_resume(runner: Runner) -> None:
    """Choose the checkpoint to resume from, if a config uses mmengine's own CheckpointHook.

    AtomicCheckpointHook, the hook of the package's configs, chooses the checkpoint itself.

    Args:
        runner: The Runner of the training, which is changed in place.
    """
    hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    if hooks and not any(isinstance(hook, AtomicCheckpointHook) for hook in hooks):
        settle_resume(runner, hooks[0])


def main(argv: Sequence[str] | None = None) -> None:
    """Train the model of a config."""
    args = parse_args(argv)
    with one_line_errors():
        if args.on is not None and args.work_dir is None:
            args.work_dir = name_work_dir(args)
        cfg = read_run_config(args)
        if args.on is not None:
            use_dataset(cfg, read_dataset_config(args.on, args.on_options))
        apply_flags(cfg, args)
        check_roots([cfg.train_dataloader, cfg.get('val_dataloader')])
        if args.resume not in (None, 'auto'):
            check_resumable(args.resume)
        # A finished run only tests, so its training views need not be encoded.
        if is_finished(cfg, last_epoch(cfg)):
            show_frames(cfg)
        with explain_full_disk(cfg.work_dir):
            runner = build_runner(cfg)
            check_stages(runner)
            settle_stock_resume(runner)
            # An epoch without a batch must be reported before a scheduler divides by its length.
            if runner.train_loop is not None:
                check_batches(runner.train_loop.dataloader)
            runner.train()
