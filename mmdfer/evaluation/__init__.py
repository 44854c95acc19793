"""What a result is: WAR, UAR, recalls, confusion; importing this room registers its parts."""

from mmdfer.evaluation.metrics import DFERMetric, save_confusion, war_uar

__all__ = ['DFERMetric', 'save_confusion', 'war_uar']
