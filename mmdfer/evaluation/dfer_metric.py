"""The metric of DFER: WAR, UAR, the recall of each class and the confusion matrix."""

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
    """WAR, UAR and each class's recall, in percent, and the confusion matrix.

    The metrics are named ``WAR``, ``UAR`` and ``recall/<class>``, without a prefix, so that
    ``save_best='WAR'`` finds them. A class without a clip has no ``recall/``, see :func:`war_uar`.
    Clips that distributed sampling repeats to fill the last batch count once.

    Args:
        out_dir: Folder for ``confusion_matrix.png``, ``.csv`` and ``.json``, each time replaced.
            None is the folder of the run's log; outside a run nothing is then written.
        kwargs: As for mmengine's BaseMetric.

    Attributes:
        confusion: (C, C) counts of the last evaluation, on the main rank; rows the true and
            columns the predicted class.
    """

    default_prefix = ''

    def __init__(self, out_dir: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.out_dir = out_dir
        self.confusion: np.ndarray | None = None

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keeps of each clip the predicted and the true label.

        Raises:
            DFERError: A clip has not one score per class, several labels, or one that is no class.
        """
        count = len(self._classes)
        for sample in data_samples:
            scores, truth = sample['pred_score'], torch.as_tensor(sample['gt_label'])
            if truth.numel() != 1:
                raise DFERError(
                    f'DFERMetric: a clip has several labels ({truth.flatten().tolist()}); WAR and '
                    'UAR take one class for each clip: give its main one, or leave the clip out'
                )
            label = int(truth)
            if scores.shape != (count,):
                raise DFERError(
                    f'DFERMetric: scores of shape {tuple(scores.shape)} for {count} classes '
                    f"({', '.join(self._classes)}): set the head's num_classes={count} and "
                    "average_clips='prob'"
                )
            if not 0 <= label < count:
                raise DFERError(
                    f'DFERMetric: label {label} is none of the {count} classes '
                    f'({", ".join(self._classes)}): correct the annotation'
                )
            self.results.append((int(scores.argmax()), label))

    def compute_metrics(self, results: list[tuple[int, int]]) -> dict[str, float]:
        """Computes the metrics of all clips, and writes the confusion matrix."""
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
        classes = (self.dataset_meta or {}).get('classes')
        if not classes:
            raise DFERError("DFERMetric: the dataset names no classes: set METAINFO['classes']")
        return classes


def _log_folder() -> Path | None:
    """The folder of the run's log file; None outside a run."""
    handlers = MMLogger.get_current_instance().handlers
    files = [h.baseFilename for h in handlers if isinstance(h, logging.FileHandler)]
    return Path(files[0]).parent if files else None
