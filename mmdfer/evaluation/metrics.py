"""WAR, UAR, each class's recall by name, and the confusion matrix as a picture and as numbers."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from numpy.typing import ArrayLike
from sklearn.metrics import ConfusionMatrixDisplay

from mmaction.evaluation import ConfusionMatrix
from mmaction.registry import METRICS

from mmdfer.errors import DFERError
from mmdfer.files import write_aside


def recalls(confusion: ArrayLike) -> np.ndarray:
    """Each class's recall in percent, (C, C) -> (C,); NaN for a class without a clip."""
    confusion = np.asarray(confusion)
    clips = confusion.sum(1)
    share = np.full(len(confusion), np.nan)
    return 100 * np.divide(confusion.diagonal(), clips, out=share, where=clips > 0)


def war_uar(confusion: ArrayLike) -> tuple[float, float]:
    """Weighted and unweighted average recall.

    WAR weights each class by its clips and so is the accuracy. UAR is the plain mean over the
    classes that have a clip: one that the test set lacks has no recall, and counting it as 0 would
    cap what can be reached.

    Args:
        confusion: (C, C) counts, rows the true and columns the predicted class.

    Returns:
        WAR and UAR in percent.

    Raises:
        DFERError: There is no clip at all.
    """
    confusion = np.asarray(confusion)
    if confusion.sum() == 0:
        raise DFERError('WAR and UAR of no clips: the test set is empty; check its annotation')
    war = 100 * confusion.trace() / confusion.sum()
    return float(war), float(np.nanmean(recalls(confusion)))


def war_uar_of_labels(predicted: ArrayLike, truth: ArrayLike) -> dict[str, float]:
    """WAR and UAR, by name, of labels (N,) against the true ones (N,)."""
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    classes = int(max(predicted.max(initial=0), truth.max(initial=0))) + 1
    war, uar = war_uar(ConfusionMatrix.calculate(predicted, truth, classes))
    return dict(WAR=war, UAR=uar)


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


def save_confusion(confusion: ArrayLike, classes: Sequence[str], folder: str | Path) -> None:
    """Writes ``confusion_matrix.png``, ``.csv`` and ``.json``.

    Args:
        confusion: (C, C) counts, rows the true and columns the predicted class.
        classes: C names.
        folder: Where to; made if missing.
    """
    confusion, folder = np.asarray(confusion), Path(folder)
    war, uar = war_uar(confusion)
    table = io.StringIO()
    csv.writer(table).writerows(
        [['true \\ predicted', *classes]]
        + [[name, *row] for name, row in zip(classes, confusion.tolist(), strict=True)]
    )
    numbers = dict(classes=list(classes), confusion=confusion.tolist(), WAR=war, UAR=uar)
    with write_aside(folder / 'confusion_matrix.csv') as aside:
        aside.write_text(table.getvalue(), newline='')
    with write_aside(folder / 'confusion_matrix.json') as aside:
        aside.write_text(json.dumps(numbers, indent=1))
    with write_aside(folder / 'confusion_matrix.png') as aside:
        draw_confusion(confusion, classes).savefig(aside, dpi=100)


def draw_confusion(confusion: np.ndarray, classes: Sequence[str]) -> Figure:
    """Draws a confusion matrix: in each cell the share of the row in percent, and the clips.

    Needs no display: the figure is not pyplot's.
    """
    side = confusion_side(len(classes))
    figure = Figure(figsize=(side, side), layout='constrained')
    plot_confusion(figure.subplots(), confusion, classes)
    return figure


def confusion_side(classes: int) -> float:
    """The side, in inches, on which a confusion matrix of so many classes can be read."""
    return 2.5 + 0.75 * classes


def plot_confusion(axes: Axes, confusion: np.ndarray, classes: Sequence[str]) -> None:
    """Draws a confusion matrix (C, C) of counts as part of a figure; see :func:`draw_confusion`."""
    clips = confusion.sum(1, keepdims=True)
    shares = 100 * confusion / np.maximum(clips, 1)  # a class without a clip is a row of zeros
    display = ConfusionMatrixDisplay(shares, display_labels=classes).plot(
        ax=axes,
        cmap='Blues',
        colorbar=False,
        xticks_rotation=45,
        im_kw=dict(vmin=0, vmax=100),
    )
    for cell, share, count in zip(display.text_.flat, shares.flat, confusion.flat, strict=True):
        cell.set(text=f'{share:.0f} %\n{count}', color='white' if share > 50 else 'black')
    war, uar = war_uar(confusion)
    axes.set_title(f'WAR {war:.2f} %   UAR {uar:.2f} %   {clips.sum()} clips')


def _log_folder() -> Path | None:
    """The folder of the run's log file; None outside a run."""
    handlers = MMLogger.get_current_instance().handlers
    files = [h.baseFilename for h in handlers if isinstance(h, logging.FileHandler)]
    return Path(files[0]).parent if files else None
