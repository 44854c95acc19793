"""Build the Runner that a config describes."""

from __future__ import annotations

import itertools
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from mmaction.registry import RUNNERS

from mmdfer.compat import explain_taken_port
from mmdfer.files import check_writable, warn_of_lost_logs

_BUILT = itertools.count()  # the runs of this process


def build_runner(cfg: Config) -> Runner:
    """Build the Runner that a config describes, which joins the ranks."""
    # mmengine finds a run's logger, message hub and visualizer again by the config's name and the
    # second: a later run of this process must not take those of one begun in the same second.
    if number := next(_BUILT):
        cfg.setdefault('experiment_name', f'{Path(cfg.filename or "run").stem}_{number}')
    check_writable(cfg.work_dir)
    with explain_taken_port():
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    warn_of_lost_logs(runner.logger)
    return runner
