"""Measure the cost of a method: parameters, FLOPs and clips per second."""

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

BATCH = 16  # clips per batch in speed measurements


@dataclass(frozen=True)
class Complexity:
    """Describe the cost of a method at inference, without the decoding of videos.

    A multiply-add counts as two FLOPs. Only matrix products, convolutions and attention are
    counted, as is customary.

    Attributes:
        trained: The number of parameters that at least one stage of training changes.
        parameters: The number of all parameters, including frozen towers.
        clip_flops: The FLOPs of each further clip, all its test views together. The text side is
            included only if it depends on the clip, as in CoCoOp.
        once_flops: The additional FLOPs of the first clip, for the class vectors, which the model
            keeps for later clips.
        clips_per_second: The number of clips per second in batches of 16, with the class vectors
            kept.
        machine: The GPU, or the CPU and its number of threads, on which the speed was measured.
    """

    trained: int
    parameters: int
    clip_flops: int
    once_flops: int
    clips_per_second: float
    machine: str


def measure(cfg: Config, dataset: dict) -> Complexity:
    """Build the model of a config without a checkpoint, and measure its cost on one test clip.

    FrozenCLIP still loads the CLIP weights that the config names.

    Args:
        cfg: The config of a run.
        dataset: The config of a test dataset that yields frames, not features. Its first item, with
            all views of the test pipeline, is used.

    Returns:
        The numbers of parameters, the FLOPs and the speed of the model.
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
    """Count the FLOPs of the first clip that a model sees, and of a further clip.

    The counts differ if the model keeps results, such as class vectors, for later clips.

    Args:
        model: The model, newly built, so that it keeps no results yet.
        clip: An item of a dataset.

    Returns:
        The FLOPs of the first clip and those of a further clip.
    """
    counts = []
    for _ in range(2):
        with _countable(), FlopCounterMode(display=False, custom_mapping=_more()) as counter:
            model.test_step(pseudo_collate([clip]))
        counts.append(counter.get_total_flops())
    return counts[0], counts[1]


def _more() -> dict[Any, Callable[..., int]]:
    """Return FLOP counts for the operators that FlopCounterMode does not know.

    This is oneDNN's linear layer, with a weight in oneDNN's own memory layout.

    Returns:
        The counting functions, keyed by operator.
    """
    packed = getattr(torch.ops.mkldnn, '_linear_pointwise', None)  # None without oneDNN
    return {} if packed is None else {packed: _packed_flops}


def _packed_flops(x: torch.Size, *_: Any, out_shape: torch.Size, **__: Any) -> int:
    """Return the FLOPs of a linear layer, (..., I) -> (..., O)."""
    return 2 * out_shape.numel() * x[-1]


@contextmanager
def _countable() -> Iterator[None]:
    """Disable gradients and fused operators, so that FlopCounterMode counts all products.

    FlopCounterMode counts 0 FLOPs for fused operators: the fast path of transformer layers,
    oneDNN's LSTM and the flash attention on the CPU.
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
    """Measure the speed of a model's ``test_step``.

    The speed is computed from the median time of several batches.

    Args:
        model: The model, in eval mode.
        clip: An item of a dataset. A batch contains this clip 16 times.
        seconds: The minimum total time to measure. At least three batches are measured.

    Returns:
        The number of clips per second.
    """
    batch = pseudo_collate([clip] * BATCH)
    _timed(lambda: model.test_step(batch))  # The first batch also encodes the classes.
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        times.append(_timed(lambda: model.test_step(batch)))
    return BATCH / median(times)


def _timed(run: Callable[[], object]) -> float:
    """Return the time that a call takes in seconds, including its work on the GPU."""
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def machine() -> str:
    """Return the name of the GPU, or the name of the CPU with its number of threads."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    info = Path('/proc/cpuinfo')  # only on Linux; other systems report their architecture
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(': ')[2] for line in lines if line.startswith('model name')]
    threads = torch.get_num_threads()
    return f'{(names or [platform.machine()])[0]}, {threads} thread{"s" * (threads > 1)}'
