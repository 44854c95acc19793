"""Define the metric of DFER: WAR, UAR, the recall of each class and the confusion matrix."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from mmaction.evaluation import ConfusionMatrix
from mmaction.registry import METRICS

from mmdfer.errors import DFERError
from mmdfer.evaluation.confusion_matrix import save_confusion
from mmdfer.evaluation.metrics import recalls, war_uar


@METRICS.register_module()
class DFERMetric(BaseMetric):
    """Compute WAR, UAR and the recall of each class in percent, and save the confusion matrix.

    The metrics are named ``WAR``, ``UAR`` and ``recall/<class>`` without a prefix, as
    ``save_best='WAR'`` requires. A class without clips has no recall; see :func:`war_uar`. Clips
    that the distributed sampler repeats to fill the last batch are counted once.

    Args:
        out_dir: The folder for ``confusion_matrix.png``, ``.csv`` and ``.json``, which each
            evaluation replaces. With None (the default), the files are written to the folder of the
            run's log file, and nothing is written outside a run.
        kwargs: Other arguments of mmengine's BaseMetric.

    Attributes:
        confusion: The counts of the last evaluation, (C, C), on the main rank; rows are true and
            columns are predicted classes.
    """

    default_prefix = ''

    def __init__(self, out_dir: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.out_dir = out_dir
        self.confusion: np.ndarray | None = None

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Store the predicted and the true label of each clip in a batch.

        Args:
            data_batch: The batch, which is not used.
            data_samples: The predictions, with ``pred_score`` of shape (C,) and ``gt_label``.

        Raises:
            DFERError: If a clip does not have one score for each class, has several labels, or has
                a label that is not one of the classes.
        """
        names = self._all_classes
        count = len(names)
        for sample in data_samples:
            scores, truth = sample['pred_score'], torch.as_tensor(sample['gt_label'])
            if truth.numel() != 1:
                raise DFERError(
                    f'DFERMetric: a clip has several labels ({truth.flatten().tolist()}), but WAR '
                    'and UAR require one. Keep only its main expression, or remove the clip'
                )
            label = int(truth)
            if scores.shape != (count,):
                raise DFERError(
                    f'DFERMetric: scores must have shape ({count},) for the classes '
                    f'({", ".join(names)}), got {tuple(scores.shape)}. Set '
                    f"num_classes={count} and average_clips='prob' in the head"
                )
            if not 0 <= label < count:
                raise DFERError(
                    f'DFERMetric: labels must be from 0 to {count - 1} for the classes '
                    f'({", ".join(names)}), got {label}. Correct the annotation'
                )
            self.results.append((int(scores.argmax()), label))

    def compute_metrics(self, results: list[tuple[int, int]]) -> dict[str, float]:
        """Compute the metrics of all clips, and save the confusion matrix.

        Args:
            results: The predicted and the true label of each clip.

        Returns:
            The metrics in percent, keyed by name.
        """
        predicted, truth = np.array(results, dtype=np.int64).reshape(-1, 2).T
        self.confusion = ConfusionMatrix.calculate(predicted, truth, len(self._classes)).numpy()
        war, uar = war_uar(self.confusion)
        folder = _log_folder() if self.out_dir is None else Path(self.out_dir)
        if folder is not None:
            save_confusion(self.confusion, self._classes, folder)
        named = zip(self._classes, recalls(self.confusion), strict=True)
        by_class = {f'recall/{name}': float(r) for name, r in named if not np.isnan(r)}
        return dict(WAR=war, UAR=uar, **by_class)

    @property
    def _classes(self) -> Sequence[str]:
        """Return the class names of the confusion matrix."""
        return self._all_classes

    @property
    def _all_classes(self) -> Sequence[str]:
        """Return the class names of the dataset."""
        classes = (self.dataset_meta or {}).get('classes')
        if not classes:
            raise DFERError("DFERMetric: the dataset has no class names: set METAINFO['classes']")
        return classes


def _log_folder() -> Path | None:
    """Return the folder of the run's log file, or None outside a run."""
    handlers = MMLogger.get_current_instance().handlers
    files = [h.baseFilename for h in handlers if isinstance(h, logging.FileHandler)]
    return Path(files[0]).parent if files else None
