"""Build the Runner that a config describes."""

from __future__ import annotations

import itertools
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from mmaction.registry import RUNNERS

from mmdfer.compat import explain_taken_port
from mmdfer.files import check_writable, warn_of_lost_logs

_BUILT = itertools.count()  # the number of Runners that this process has built


def build_runner(cfg: Config) -> Runner:
    """Build the Runner that a config describes, and join the process group of a distributed run.

    Args:
        cfg: The config of the run, with its work directory. An ``experiment_name`` may be added.

    Returns:
        The Runner, with the logger's warnings about a full disk reduced to one line.

    Raises:
        DFERError: If the work directory is not writable, or the ranks cannot connect to each other.
    """
    # mmengine looks up the logger, message hub and visualizer of a run by the config's name and the
    # starting time in seconds. A second run of this process that starts within the same second must
    # not get those of the first.
    if number := next(_BUILT):
        cfg.setdefault('experiment_name', f'{Path(cfg.filename or "run").stem}_{number}')
    check_writable(cfg.work_dir)
    with explain_taken_port():
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    warn_of_lost_logs(runner.logger)
    return runner
