"""What a method costs: parameters, FLOPs for each clip and once, clips per second."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmaction.registry import DATASETS, MODELS

BATCH = 16  # clips in a pass, where speed is measured


@dataclass(frozen=True)
class Complexity:
    """What a method costs at inference, decoding left out.

    A multiply-add counts as two FLOPs; only products are counted (matrix products, convolutions,
    attention), as everybody does.

    Attributes:
        trained: Parameters that some stage of training changes.
        parameters: All of them, frozen towers included.
        clip_flops: For each further clip, all its test views together. The text side is in it
            where it depends on the clip, as CoCoOp's does.
        once_flops: What the first clip takes on top of that: class vectors, which are kept.
        clips_per_second: At batches of 16, class vectors kept.
        machine: On which.
    """

    trained: int
    parameters: int
    clip_flops: int
    once_flops: int
    clips_per_second: float
    machine: str


def measure(cfg: Config, dataset: dict) -> Complexity:
    """Build the model of a config, untrained, and measure it on the first clip of a dataset.

    Args:
        cfg: The whole config.
        dataset: Config of the test set, which shows frames.
    """
    init_default_scope(cfg.get('default_scope', 'mmaction'))
    model = MODELS.build(cfg.model).to(get_device()).eval()
    clip = DATASETS.build(dataset)[0]
    first, further = flops(model, clip)
    parameters = list(model.parameters())
    return Complexity(
        trained=sum(p.numel() for p in parameters if p.requires_grad),
        parameters=sum(p.numel() for p in parameters),
        clip_flops=further,
        once_flops=first - further,
        clips_per_second=clips_per_second(model, clip),
        machine=machine(),
    )


def flops(model: BaseModel, clip: dict) -> tuple[int, int]:
    """The FLOPs of a model's first clip, and of a further one: what it keeps is not made again.

    Args:
        model: Freshly built.
        clip: An item of a dataset.
    """
    counts = []
    for _ in range(2):
        with _countable(), FlopCounterMode(display=False, custom_mapping=_more()) as counter:
            model.test_step(pseudo_collate([clip]))
        counts.append(counter.get_total_flops())
    return counts[0], counts[1]


def _more() -> dict[Any, Callable[..., int]]:
    """Counts that the counter lacks: of oneDNN's product with a weight in a layout of its own."""
    packed = getattr(torch.ops.mkldnn, '_linear_pointwise', None)  # a build without oneDNN has none
    return {} if packed is None else {packed: _packed_flops}


def _packed_flops(x: torch.Size, *_: Any, out_shape: torch.Size, **__: Any) -> int:
    """Of (..., I) -> (..., O)."""
    return 2 * out_shape.numel() * x[-1]


@contextmanager
def _countable() -> Iterator[None]:
    """No gradients, and products by the operators that the counter knows.

    It sees nothing of fused ones: the transformer layer's fast path, oneDNN's LSTM, the CPU's flash
    attention would all count as 0.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    onednn = torch.backends.mkldnn.set_flags(_enabled=False)[0]
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch.backends.mkldnn.set_flags(_enabled=onednn)


@torch.no_grad()
def clips_per_second(model: BaseModel, clip: dict, seconds: float = 2.0) -> float:
    """The rate of a model's ``test_step``, by the median of passes that take so long in all."""
    batch = pseudo_collate([clip] * BATCH)
    _timed(lambda: model.test_step(batch))  # the first pass makes what is kept
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        times.append(_timed(lambda: model.test_step(batch)))
    return BATCH / median(times)


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def machine() -> str:
    """The GPU, or the CPU and its threads."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    info = Path('/proc/cpuinfo')  # Linux; elsewhere the architecture has to do
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(': ')[2] for line in lines if line.startswith('model name')]
    threads = torch.get_num_threads()
    return f'{(names or [platform.machine()])[0]}, {threads} thread{"s" * (threads > 1)}'
