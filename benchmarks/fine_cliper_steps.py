"""Measure the time and the peak memory of training steps of FineCLIPER over ViT-B/16.

    python -m benchmarks.fine_cliper_steps
    python -m benchmarks.fine_cliper_steps --device cuda --batches 1 2 8

A clip has 16 frames of 224 pixels, as many pictures of its face parts, and a caption. The rows
compare the adapters of the config with full fine-tuning of the same image tower, each with and
without activation checkpointing. The model of the config and its optimizer take the steps, on
random weights and pixels, on which the cost does not depend. Each row is measured in a process of
its own: a step that does not count, and then --repeats steps, of which the median is printed.

On Linux, the allocator of glibc keeps much of the memory that was freed. So the rows run with an
environment variable that makes it return blocks of 4 MiB or more. Use the same variable for a
training on CPUs: MALLOC_MMAP_THRESHOLD_=4194304 mmdfer train ...
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from tqdm import tqdm

from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample

from benchmarks.mmdfer_runs import ROOT
from benchmarks.timing import peak_memory, time_run
from mmdfer.tables import markdown_table

CONFIG = ROOT / 'configs' / 'fine_cliper' / 'fine_cliper_dfew.py'
TRAINED = {
    'adapters': {},
    'full fine-tuning': {'model.backbone.adapter': None, 'model.backbone.trains': [r'^visual\.']},
}
FRAMES = 16
RETURN_MEMORY = {'MALLOC_MMAP_THRESHOLD_': str(4 * 2**20)}
CAPTION = 'The brows are drawn together and the lips are pressed, then the mouth opens.'


def make_step(trained: str, batch: int, checkpointing: bool, device: str) -> Callable[[], Any]:
    """Build the model and return its training step on one batch.

    Args:
        trained: Key into ``TRAINED``, which says what is trained.
        batch: The number of clips.
        checkpointing: Whether to compute activations again in the backward pass.
        device: ``'cpu'`` or ``'cuda'``.
    """
    torch.manual_seed(0)
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(TRAINED[trained])
    cfg.merge_from_dict(
        {'model.backbone.weights': 'random', 'model.backbone.checkpointing': checkpointing}
    )
    model = MODELS.build(cfg.model).to(device).train()
    cfg.optim_wrapper.accumulative_counts = 1  # each step updates the weights
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    shape, samples = (1, 3, FRAMES, 224, 224), []
    for label in range(batch):
        sample = ActionDataSample().set_gt_label(label % len(cfg.classes))
        parts = torch.randint(256, shape, dtype=torch.uint8)
        sample.set_field(parts, 'parts')
        sample.set_field(CAPTION, 'caption')
        samples.append(sample)
    frames = [torch.randint(256, shape, dtype=torch.uint8) for _ in samples]
    return lambda: model.train_step(dict(inputs=frames, data_samples=samples), wrapper)


def measure(args: argparse.Namespace) -> None:
    """Measure one row, and print its seconds and its peak memory in GB."""
    init_default_scope('mmaction')
    step = make_step(args.trained, args.batches[0], args.checkpointing, args.device)
    time_run(step, args.device)
    seconds = median(time_run(step, args.device) for _ in range(args.repeats))
    print(f'{seconds} {peak_memory(args.device)}')


def list_rows(batches: Sequence[int], largest: int) -> list[tuple[str, int, bool]]:
    """List what is trained, the number of clips, and checkpointing, for each row."""
    rows = [
        (trained, batch, checkpointing)
        for batch in batches
        for trained in TRAINED
        for checkpointing in (False, True)
    ]
    return list(dict.fromkeys([*rows, ('adapters', largest, True)]))


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Measure training steps of FineCLIPER.')
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    parser.add_argument('--batches', type=int, nargs='+', default=[1, 2], help='clips in a batch')
    parser.add_argument(
        '--largest', type=int, default=8, help='clips of the last row, which has checkpointing'
    )
    parser.add_argument('--repeats', type=int, default=2, help='steps that count')
    parser.add_argument(
        '--trained', choices=TRAINED, help='measure one row only, of the first batch size'
    )
    parser.add_argument('--checkpointing', action='store_true', help='for --trained')
    return parser.parse_args()


def main() -> None:
    """Measure each row in a process of its own, and print the table."""
    args = parse_args()
    if args.trained:
        measure(args)
        return
    table = [['trained', 'clips', 'checkpointing', 'step', 'peak memory']]
    failed = 0
    for trained, batch, checkpointing in tqdm(list_rows(args.batches, args.largest), unit='row'):
        flags = ['--trained', trained, '--batches', str(batch), '--device', args.device]
        flags += ['--repeats', str(args.repeats), *['--checkpointing'] * checkpointing]
        command = [sys.executable, '-m', 'benchmarks.fine_cliper_steps', *flags]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **RETURN_MEMORY},
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode:  # the system ends a process that needs too much memory
            found = [f'failed with exit status {done.returncode}', '']
            failed += 1
        else:
            seconds, memory = map(float, done.stdout.split()[-2:])
            found = [f'{seconds:.1f} s', f'{memory:.2f} GB']
        table.append([trained, str(batch), 'yes' if checkpointing else 'no', *found])
    print(markdown_table(table))
    if failed:
        sys.exit(f'{failed} rows failed')


if __name__ == '__main__':
    main()
