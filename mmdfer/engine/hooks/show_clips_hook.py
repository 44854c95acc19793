"""Define the hook that shows tested clips with their predictions, for ``tools/test.py --show``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmaction.registry import HOOKS
from mmaction.structures import ActionDataSample

from mmdfer.files import write_aside


@HOOKS.register_module()
class ShowClipsHook(Hook):
    """Show tested clips as strips of frames, titled with the predicted and the true class.

    MMAction2 1.2.0's VisualizationHook cannot do this for recognition: it does not accept a batch
    with several views, and it passes its visualizer an argument that the visualizer does not have.

    Args:
        out_dir: The folder for the pictures ``<number of the clip>.png``, or None to write none.
        show: Whether to show each strip in a window.
        interval: The hook shows every n-th clip; 1 shows all clips.
        wait_time: The time for which a window stays open, in seconds.
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
        """Show the batch's clips if their number in the test set is a multiple of the interval."""
        loader = runner.test_dataloader
        classes = loader.dataset.metainfo['classes']
        for i, (inputs, sample) in enumerate(zip(data_batch['inputs'], outputs, strict=True)):
            # The distributed sampler gives consecutive clips to consecutive ranks.
            place = batch_idx * loader.batch_size + i
            number = place * dist.get_world_size() + dist.get_rank()
            if number % self.interval == 0:
                self._show(runner, number, _strip(inputs), _caption(sample, classes))

    def _show(self, runner: Runner, number: int, strip: np.ndarray, caption: str) -> None:
        """Write a strip of frames as a picture or show it in a window, as configured."""
        if self.out_dir is not None:
            from matplotlib.figure import Figure  # takes long to import, and most runs draw nothing

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
    """Put the frames of a clip's first view side by side.

    Args:
        inputs: The frames, (views, 3, T, H, W), or (T, 3, H, W) for 2D recognizers.

    Returns:
        The strip of frames, (H, T * W, 3).
    """
    frames = inputs[0].transpose(0, 1) if inputs.ndim == 5 else inputs  # (T, 3, H, W)
    return np.concatenate(frames.permute(0, 2, 3, 1).cpu().numpy(), axis=1)


def _caption(sample: ActionDataSample, classes: Sequence[str]) -> str:
    """Format the predicted class with its score, and the true class."""
    scores, label = sample.pred_score, int(sample.gt_label)
    best = int(scores.argmax())
    return f'{classes[best]} ({100 * float(scores[best]):.0f} %), true: {classes[label]}'
