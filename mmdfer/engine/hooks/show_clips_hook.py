"""Clips with their predictions, as pictures or in a window, for ``tools/test.py --show``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmaction.registry import HOOKS
from mmaction.structures import ActionDataSample

from mmdfer.files import write_aside


@HOOKS.register_module()
class ShowClipsHook(Hook):
    """Shows tested clips as strips of frames, under the predicted and the true class.

    MMAction2's VisualizationHook has no part for recognition in 1.2.0: it takes no batch of
    several views, and passes its visualizer an argument that it does not know.

    Args:
        out_dir: Folder for ``<number of the clip>.png``; None writes nothing.
        show: Whether to open a window.
        interval: Every n-th clip is shown.
        wait_time: How long the window stays, in seconds.
    """

    def __init__(
        self,
        out_dir: str | None = None,
        show: bool = False,
        interval: int = 1,
        wait_time: float = 2.0,
    ) -> None:
        self.out_dir, self.show = out_dir, show
        self.interval, self.wait_time = interval, wait_time

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict[str, Any],
        outputs: Sequence[ActionDataSample],
    ) -> None:
        """Shows the batch's clips whose number is a multiple of the interval."""
        loader = runner.test_dataloader
        classes = loader.dataset.metainfo['classes']
        for i, (inputs, sample) in enumerate(zip(data_batch['inputs'], outputs, strict=True)):
            # Distributed sampling deals the clips out one by one.
            place = batch_idx * loader.batch_size + i
            number = place * dist.get_world_size() + dist.get_rank()
            if number % self.interval == 0:
                self._show(runner, number, _strip(inputs), _caption(sample, classes))

    def _show(self, runner: Runner, number: int, strip: np.ndarray, caption: str) -> None:
        if self.out_dir is not None:
            height, width = strip.shape[:2]
            figure = Figure(figsize=(16, 16 * height / width + 0.6), layout='constrained')
            axes = figure.subplots()
            axes.imshow(strip)
            axes.set_axis_off()
            axes.set_title(caption)
            with write_aside(Path(self.out_dir, f'{number:05d}.png')) as aside:
                figure.savefig(aside)
        if self.show:
            runner.visualizer.show(strip, win_name=caption, wait_time=self.wait_time)


def _strip(inputs: Tensor) -> np.ndarray:
    """The frames of a clip's first view side by side, (views, 3, T, H, W) -> (H, T * W, 3).

    The (T, 3, H, W) of 2D recognizers is taken as it is.
    """
    frames = inputs[0].transpose(0, 1) if inputs.ndim == 5 else inputs  # (T, 3, H, W)
    return np.concatenate(frames.permute(0, 2, 3, 1).cpu().numpy(), axis=1)


def _caption(sample: ActionDataSample, classes: Sequence[str]) -> str:
    scores, label = sample.pred_score, int(sample.gt_label)
    best = int(scores.argmax())
    return f'{classes[best]} ({100 * float(scores[best]):.0f} %), true: {classes[label]}'
