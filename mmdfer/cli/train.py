"""Train what a config describes.

    mmdfer train align_dfer_synth

On several ranks: tools/dist_train.sh, tools/slurm_train.sh. The flags are those of MMAction2's
train.py. A flag wins over the config, and over ``--cfg-options``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmdfer.cli.flags import (
    add_bank_flag,
    add_config,
    add_run_flags,
    command_parser,
    read_run_config,
)
from mmdfer.engine import AtomicCheckpointHook
from mmdfer.engine.hooks.setup_hook import check_batches, check_stage_hook
from mmdfer.engine.runner.build import build_runner
from mmdfer.engine.runner.config import check_checkpoint
from mmdfer.engine.runner.loops import check_schedule, last_epoch
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
        help='go on from this checkpoint; without a value from the newest in the work dir, or, '
        "where there is none, from the config's load_from",
    )
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    parser.add_argument('--no-validate', action='store_true', help='train without validation')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the batch size, as the config says',
    )
    parser.add_argument('--seed', type=int, help='random seed')
    parser.add_argument(
        '--diff-rank-seed', action='store_true', help='give each rank a seed of its own'
    )
    parser.add_argument(
        '--deterministic', action='store_true', help='allow deterministic algorithms only'
    )
    add_bank_flag(parser)
    add_run_flags(parser)
    return parser.parse_args(argv)


def apply_flags(cfg: Config, args: argparse.Namespace) -> None:
    """Write the flags into the config.

    Raises:
        DFERError: A flag does not fit the config, or the checkpoint to resume from is missing.
    """
    use_bank(cfg, args.bank)
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        use_amp(cfg)
    if args.resume == 'auto':
        # With nothing to resume from the run begins with load_from: see settle_resume.
        cfg.resume = 'auto' if cfg.get('load_from') else True
    elif args.resume is not None:
        cfg.resume, cfg.load_from = True, args.resume
    elif cfg.get('resume') and newest_checkpoint(cfg.work_dir) is not None:
        cfg.load_from = None  # it is from where the run began
    if cfg.get('load_from') is not None:
        check_checkpoint(cfg.load_from)
    if args.auto_scale_lr:
        if cfg.get('auto_scale_lr') is None:
            raise DFERError(
                f'{args.config}: --auto-scale-lr needs the batch size of its learning rate: add '
                'auto_scale_lr=dict(base_batch_size=...)'
            )
        cfg.auto_scale_lr.enable = True
    # Unlike MMAction2's train.py, which drops these where the config has a `randomness`.
    flags = dict(
        seed=args.seed, diff_rank_seed=args.diff_rank_seed, deterministic=args.deterministic
    )
    given = {k: v for k, v in flags.items() if v is not None and v is not False}  # seed 0 is one
    cfg.randomness = {**flags, **(cfg.get('randomness') or {}), **given}


def use_amp(cfg: Config) -> None:
    """Train in bfloat16, on the CPU and on GPUs; a wrapper that asks for float16 keeps it.

    Raises:
        DFERError: The config has an optimizer wrapper of another kind.
    """
    wrapper = cfg.optim_wrapper
    kind = wrapper.get('type', 'OptimWrapper')
    name = kind if isinstance(kind, str) else kind.__name__
    if name not in ('OptimWrapper', 'AmpOptimWrapper', 'AutocastOptimWrapper'):
        raise DFERError(f'--amp does not know the optimizer wrapper {name}: leave the flag out')
    if name == 'AmpOptimWrapper' and get_device() not in ('cpu', 'mps'):
        wrapper.setdefault('loss_scale', 'dynamic')  # as MMAction2's train.py has it
        return
    wrapper.type = 'AutocastOptimWrapper'
    wrapper.pop('loss_scale', None)  # bfloat16 has the range of float32


def check_stages(runner: Runner) -> None:
    """Refuse hooks that are missing or do not fit before the data are made or read."""
    check_stage_hook(runner)
    check_schedule(runner)
    if uses_features(runner.cfg):
        check_blending(runner.cfg.model.get('data_preprocessor'))


def settle_stock_resume(runner: Runner) -> None:
    """Decide from what to resume where the config saves by mmengine's own CheckpointHook."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    if hooks and not any(isinstance(hook, AtomicCheckpointHook) for hook in hooks):
        settle_resume(runner, hooks[0])


def main(argv: Sequence[str] | None = None) -> None:
    """Train."""
    args = parse_args(argv)
    with one_line_errors():
        cfg = read_run_config(args)
        apply_flags(cfg, args)
        if args.resume not in (None, 'auto'):
            check_resumable(args.resume)
        if is_finished(
            cfg, last_epoch(cfg)
        ):  # nothing is left to train, so nothing needs to be encoded
            show_frames(cfg)
        with explain_full_disk(cfg.work_dir):
            runner = build_runner(cfg)
            check_stages(runner)
            settle_stock_resume(runner)
            if runner.train_loop is not None:  # before a scheduler divides by the epoch's length
                check_batches(runner.train_loop.dataloader)
            runner.train()
