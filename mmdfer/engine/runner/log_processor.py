"""The training log of several ranks."""

from __future__ import annotations

from typing import Any

from mmengine import dist
from mmengine.runner import LogProcessor, Runner

from mmaction.registry import LOG_PROCESSORS


@LOG_PROCESSORS.register_module()
class RankMeanLogProcessor(LogProcessor):
    """mmengine's LogProcessor, which logs the mean of the ranks' losses instead of rank 0's.

    The ranks exchange their numbers only when a line is logged, so that a step costs no more than
    before. Learning rates, which are the same everywhere, and times stay those of the main rank.

    Args:
        args: As for `mmengine.runner.LogProcessor`.
        kwargs: As for `mmengine.runner.LogProcessor`.
    """

    def _collect_scalars(
        self, custom_cfg: list[dict], runner: Runner, mode: str, reserve_prefix: bool = False
    ) -> dict[str, Any]:
        tag = super()._collect_scalars(custom_cfg, runner, mode, reserve_prefix)
        # Metrics of validation and testing are of all ranks already.
        if mode == 'train' and dist.get_world_size() > 1:
            tag.update(_mean_over_ranks({k: v for k, v in tag.items() if _differs_by_rank(k)}))
        return tag


def _differs_by_rank(key: str) -> bool:
    """Return whether a number is of the rank's own clips, such as its loss and its accuracy."""
    return not key.endswith('lr') and key.rpartition('/')[2] not in ('time', 'data_time')


def _mean_over_ranks(values: dict[str, float]) -> dict[str, float]:
    """Return the mean of each number over the ranks that have it. Every rank has to call this."""
    parts = dist.all_gather_object({key: float(value) for key, value in values.items()})
    found = {key: [part[key] for part in parts if key in part] for key in values}
    return {key: sum(numbers) / len(numbers) for key, numbers in found.items()}
