"""Sweep the learning rate, gradient clipping and warm-up of BAP's SGD, and draw the results.

    python benchmarks/bap_optimiser.py OUT [--size full] [--seeds 0 1] [--settings NAME ...]

The paper states SGD, momentum 0.9 and batch 64, but no learning rate. Each setting is trained on
the split ``fit`` of the synthetic benchmark and tested on the split ``heldout``. These two splits
divide the training set by person, and the test set is not read. By default Align-DFER is small: 4
sentences of 16 tokens, and a quarter of the epochs of configs/align_dfer_synth.py, so that a run
takes less than a minute on one core. `--size full` uses the size and the epochs of that config, and
`--size long` four times its epochs.

Each setting is trained in two regimes:

- ``small``: the unchanged small CLIP of the package. Its logit scale is 15.4, and the vectors of
  two frames of the same person differ much.
- ``real``: frame vectors that resemble those of a CLIP trained on web images. A common direction
  is added to all of them until the mean cosine between two frames of different clips is 0.9. The
  logit scale is 100.

The script writes one line for each run to OUT/runs.jsonl, and skips the runs that are there when
it is started again. It also writes a table and a picture of all runs of one size, for example
OUT/small.md and OUT/small.png. The figures are of synthetic data and say nothing about the real
datasets.
"""

from __future__ import annotations

import argparse
import json
import math
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmaction.registry import HOOKS

import mmdfer  # noqa: F401  registers the modules of the package
from mmdfer.engine.runner.build import build_runner
from mmdfer.engine.runner.unwrap import unwrap
from mmdfer.evaluation.report import read_fold
from mmdfer.files import write_aside
from mmdfer.tables import markdown_table

ROOT = Path(__file__).resolve().parents[1]
REGIMES = ('small', 'real')
SIZES = ('small', 'full', 'long')
LONG = 4  # the factor by which size 'long' has more epochs than the config
COSINE, SCALE = 0.9, 100.0  # of the regime 'real'
EPOCHS = dict(text=2, video=6, joint=4)
GROWS = dict(video=[0, 1, 2, 3], joint=[0, 2])
SMALL = {
    'model.cls_head.num_sentences': 4,
    'model.cls_head.num_tokens': 16,
    'model.neck.num_sentences': 4,
}

#: Setting name -> learning rate, norm to which gradients are clipped (None: no clipping), and
#: epochs of warm-up at the start of each stage.
SETTINGS: dict[str, tuple[float, float | None, int]] = {
    'no clipping, 1e-4': (1e-4, None, 0),
    'no clipping, 1e-3': (1e-3, None, 0),
    'no clipping, 1e-2': (1e-2, None, 0),
    'no clipping, 1e-2, warm-up': (1e-2, None, 1),
    'norm 1, 3e-3': (3e-3, 1.0, 0),
    'norm 1, 1e-2': (1e-2, 1.0, 0),
    'norm 1, 2e-2': (2e-2, 1.0, 0),
    'norm 1, 5e-2': (5e-2, 1.0, 0),
    'norm 1, 1e-1': (1e-1, 1.0, 0),
    'norm 1, 2e-1': (2e-1, 1.0, 0),
    'norm 1, 5e-2, warm-up': (5e-2, 1.0, 1),
    'norm 1, 1e-1, warm-up': (1e-1, 1.0, 1),
    'norm 10, 5e-3': (5e-3, 10.0, 0),
    'norm 10, 1e-2': (1e-2, 10.0, 0),
}


@HOOKS.register_module()
class RealRegime(Hook):
    """Change the encoded frame vectors and the logit scale to resemble those of a real CLIP."""

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Shift the frame vectors of both splits in one direction, and set the logit scale."""
        model = unwrap(runner.model)
        loops = runner.train_loop, runner.val_loop
        vectors = [loop.dataloader.dataset.features.float() for loop in loops]
        common = common_direction(vectors[0])
        for loop, frames in zip(loops, vectors, strict=True):
            loop.dataloader.dataset.features = F.normalize(
                F.normalize(frames, dim=-1) + common, dim=-1
            )
        with torch.no_grad():
            model.backbone.clip.logit_scale.fill_(math.log(SCALE))


def common_direction(frames: Tensor) -> Tensor:
    """Find the vector (D,) that, added to unit vectors (..., D), makes their mean cosine COSINE."""
    unit = F.normalize(frames.flatten(0, -2), dim=-1)
    unit = unit[torch.randperm(len(unit), generator=torch.Generator().manual_seed(0))[:2000]]
    direction = F.normalize(unit.mean(0), dim=0)
    low, high = 0.0, 100.0
    for _ in range(40):
        middle = (low + high) / 2
        moved = F.normalize(unit + middle * direction, dim=-1)
        cosine = (moved @ moved.T).mean()
        low, high = (middle, high) if cosine < COSINE else (low, middle)
    return middle * direction


def config(out: Path, size: str, regime: str, setting: str, seed: int) -> Config:
    """Build the config of a run.

    Args:
        out: The folder of all results, which also holds the feature bank.
        size: One of ``SIZES``.
        regime: One of ``REGIMES``.
        setting: A key of ``SETTINGS``.
        seed: The random seed of the run.
    """
    rate, norm, warm_up = SETTINGS[setting]
    cfg = Config.fromfile(ROOT / 'configs' / 'align_dfer_synth.py')
    stages = cfg.custom_hooks[0].stages
    if size == 'small':
        for stage in stages:
            stage.epochs = EPOCHS[stage.name]
            if stage.name in GROWS:
                stage.grows_at = GROWS[stage.name]
        cfg.merge_from_dict(SMALL)
    if size == 'long':
        for stage in stages:
            stage.epochs *= LONG
            if 'grows_at' in stage:
                stage.grows_at = [LONG * epoch for epoch in stage.grows_at]
    hooks = [dict(type='BAPHook', stages=stages)]
    hooks += [dict(type='RealRegime')] if regime == 'real' else []
    ends = list(accumulate(stage.epochs for stage in stages))
    schedulers: list[dict[str, Any]] = [cfg.param_scheduler[0]]
    for begin in [0, *ends[:-1]] if warm_up else []:
        ramp = dict(type='LinearLR', start_factor=0.01, begin=begin, end=begin + warm_up)
        schedulers.append(dict(ramp, by_epoch=True, convert_to_iter_based=True))
    cfg.merge_from_dict(
        {
            'work_dir': str(out / 'runs' / f'{size} {regime} {setting} {seed}'.replace(', ', '-')),
            'train_dataloader.dataset.bank': str(out / 'bank'),
            'val_dataloader.dataset.bank': str(out / 'bank'),
            'train_dataloader.dataset.dataset.split': 'fit',
            'val_dataloader.dataset.dataset.split': 'heldout',
            'train_cfg.val_interval': ends[-1],
            'optim_wrapper.optimizer.lr': rate,
            'optim_wrapper.clip_grad': None if norm is None else dict(max_norm=norm),
            'default_hooks.report.baselines': False,
            'default_hooks.checkpoint': None,
            'randomness.seed': seed,
            'log_level': 'WARNING',
        }
    )
    cfg.custom_hooks, cfg.param_scheduler = hooks, schedulers
    return cfg


def train(out: Path, size: str, regime: str, setting: str, seed: int) -> dict[str, float]:
    """Train one run, and return its WAR and UAR on the split ``heldout``."""
    runner = build_runner(config(out, size, regime, setting, seed))
    runner.train()
    last = read_fold(Path(runner.work_dir, 'report.json')).last
    return {'WAR': last.war, 'UAR': last.uar}


def scores(runs: list[dict[str, Any]], setting: str, regime: str) -> list[float]:
    """Return the WAR of each run of a setting in a regime, one for each seed."""
    return [run['WAR'] for run in runs if (run['setting'], run['regime']) == (setting, regime)]


def table(runs: list[dict[str, Any]]) -> str:
    """Return a Markdown table of the mean WAR of each setting and half its range over the seeds."""
    rows = [['setting', 'WAR, small CLIP', 'WAR, like a real CLIP']]
    for setting in SETTINGS:
        cells = [
            f'{sum(found) / len(found):.1f} ± {(max(found) - min(found)) / 2:.1f}' if found else '-'
            for found in (scores(runs, setting, regime) for regime in REGIMES)
        ]
        if cells != ['-', '-']:
            rows.append([setting, *cells])
    return markdown_table(rows)


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    """Draw the WAR of each setting in a row, with one point for each seed and regime."""
    shown = [setting for setting in SETTINGS if any(run['setting'] == setting for run in runs)]
    figure = Figure(figsize=(8, 1.5 + 0.3 * len(shown)), layout='constrained')
    axes = figure.subplots()
    labels = dict(small='the small CLIP', real='vectors and scale like a real CLIP')
    for color, marker, regime in zip(('C0', 'C1'), 'os', REGIMES, strict=True):
        points = [(x, y) for y, name in enumerate(shown) for x in scores(runs, name, regime)]
        x, y = zip(*points, strict=True) if points else ((), ())
        axes.plot(x, y, marker, color=color, alpha=0.8, label=labels[regime])
    axes.set_yticks(range(len(shown)), shown)
    axes.invert_yaxis()
    axes.grid(alpha=0.3)
    axes.set_xlabel('WAR on held-out people of the synthetic benchmark, one point for each seed')
    axes.set_title('Learning rate, clipping and warm-up of SGD in BAP (synthetic data)')
    axes.legend(loc='lower left')
    with write_aside(path) as aside:
        figure.savefig(aside, dpi=120)


def main() -> None:
    """Run the missing runs of the sweep, and write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('out', type=Path, help='folder of the results')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1])
    parser.add_argument('--settings', nargs='+', choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument(
        '--size', choices=SIZES, default='small', help='size of the model and epochs'
    )
    args = parser.parse_args()
    size = args.size
    path = args.out / 'runs.jsonl'
    path.parent.mkdir(parents=True, exist_ok=True)
    runs = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    for regime in REGIMES:
        for seed in args.seeds:
            for setting in args.settings:
                key = dict(size=size, regime=regime, setting=setting, seed=seed)
                if any(key.items() <= run.items() for run in runs):
                    continue
                runs.append({**key, **train(args.out, **key)})
                with path.open('a') as file:
                    file.write(json.dumps(runs[-1]) + '\n')
                print(runs[-1], flush=True)
    runs = [run for run in runs if run['size'] == size]
    with write_aside(args.out / f'{size}.md') as aside:
        aside.write_text(table(runs) + '\n')
    draw(runs, args.out / f'{size}.png')
    print(table(runs))


if __name__ == '__main__':
    main()
