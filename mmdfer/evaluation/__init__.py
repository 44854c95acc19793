"""Compute metrics, reports, baselines and the cost of a model.

MMAction2's registry contains the metrics once this package is imported.
"""

from mmdfer.evaluation.confusion_matrix import save_confusion
from mmdfer.evaluation.dfer_metric import DFERMetric
from mmdfer.evaluation.metrics import war_uar
from mmdfer.evaluation.shared_classes_metric import SharedClassesMetric

__all__ = ['DFERMetric', 'SharedClassesMetric', 'save_confusion', 'war_uar']
