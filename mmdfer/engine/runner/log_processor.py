"""Define the log processor for training on several ranks."""

from __future__ import annotations

from typing import Any

from mmengine import dist
from mmengine.runner import LogProcessor, Runner

from mmaction.registry import LOG_PROCESSORS


@LOG_PROCESSORS.register_module()
class RankMeanLogProcessor(LogProcessor):
    """Log the mean of the losses of all ranks instead of the losses of rank 0.

    The ranks exchange their values only when a line is logged, so a step takes no longer than with
    mmengine's LogProcessor. Learning rates, which all ranks share, and times are those of rank 0.

    Args:
        args: The positional arguments of `mmengine.runner.LogProcessor`.
        kwargs: The keyword arguments of `mmengine.runner.LogProcessor`.
    """

    def _collect_scalars(
        self, custom_cfg: list[dict], runner: Runner, mode: str, reserve_prefix: bool = False
    ) -> dict[str, Any]:
        tag = super()._collect_scalars(custom_cfg, runner, mode, reserve_prefix)
        # Validation and test metrics are already computed on the clips of all ranks.
        if mode == 'train' and dist.get_world_size() > 1:
            tag.update(_mean_over_ranks({k: v for k, v in tag.items() if _differs_by_rank(k)}))
        return tag


def _differs_by_rank(key: str) -> bool:
    """Return whether a logged value depends on the clips of the rank, as the loss does."""
    return not key.endswith('lr') and key.rpartition('/')[2] not in ('time', 'data_time')


def _mean_over_ranks(values: dict[str, float]) -> dict[str, float]:
    """Return the mean of each value over the ranks that have the value.

    Every rank has to call this function.
    """
    parts = dist.all_gather_object({key: float(value) for key, value in values.items()})
    found = {key: [part[key] for part in parts if key in part] for key in values}
    return {key: sum(numbers) / len(numbers) for key, numbers in found.items()}
