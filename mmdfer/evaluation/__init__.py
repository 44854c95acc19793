"""Metrics, reports, baselines and cost of a model; importing it registers the metric."""

from mmdfer.evaluation.confusion_matrix import save_confusion
from mmdfer.evaluation.dfer_metric import DFERMetric
from mmdfer.evaluation.metrics import war_uar

__all__ = ['DFERMetric', 'save_confusion', 'war_uar']
