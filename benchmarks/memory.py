"""Print the peak memory, in GB, of a process that takes two training steps of stage 1.

    python -m benchmarks.memory strong fp32 --device cpu

Each implementation imports only what it needs, so that the figure is of its own process.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.settings import PRECISIONS, SENTENCES, TOKENS, Settings
from benchmarks.timing import peak_memory


def mmdfer_step(s: Settings, bf16: bool) -> Callable[[], Any]:
    """Return mmdfer's step on frame vectors."""
    from mmengine.registry import init_default_scope

    from benchmarks.mmdfer_runs import MmdferStep, build_mmdfer

    init_default_scope('mmaction')
    model = build_mmdfer(s)
    vectors = torch.randn(s.batch, 16, model.backbone.embed_dims, device=s.device)
    return MmdferStep(model, 'text', vectors, bf16)


def strong_step(s: Settings, bf16: bool) -> Callable[[], Any]:
    """Return the step of the strong baseline on frame vectors."""
    from benchmarks.model import build_model
    from benchmarks.strong import Trainer

    model = build_model(s.classes, SENTENCES, TOKENS).to(s.device)
    width = model.clip.text_projection.shape[1]
    vectors = torch.randn(s.batch, 16, width, device=s.device)
    labels = torch.arange(s.batch, device=s.device) % s.classes
    trainer = Trainer(model, 'text', bf16)
    return lambda: trainer.step(vectors, labels)


def naive_step(s: Settings, bf16: bool) -> Callable[[], Any]:
    """Return the step of the naive baseline, which holds the frames of the whole batch.

    The image tower encodes its images in equal parts, of which one is enough to see the peak.
    """
    from benchmarks.model import build_model
    from benchmarks.naive import Trainer

    trainer = Trainer(build_model(s.classes, SENTENCES, TOKENS).to(s.device), 'text')
    labels = torch.arange(s.batch, device=s.device) % s.classes
    frames = torch.randn(s.batch, 16, 3, 224, 224, device=s.device)

    def step() -> None:
        vectors = trainer.encode_frames(frames[:2]).repeat(s.batch // 2, 1, 1)
        trainer.step_after_images(vectors, labels)

    return step


STEPS = dict(mmdfer=mmdfer_step, strong=strong_step, naive=naive_step)


def main() -> None:
    """Take two steps and print the peak memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('implementation', choices=STEPS)
    parser.add_argument('precision', choices=PRECISIONS, help='fp32, or autocast to bfloat16')
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    parser.add_argument('--small', action='store_true', help='tiny sizes')
    args = parser.parse_args()
    settings = Settings(args.device, args.small)
    step = STEPS[args.implementation](settings, PRECISIONS[args.precision])
    step(), step()
    print(f'peak memory: {peak_memory(args.device):.3f} GB')


if __name__ == '__main__':
    main()
