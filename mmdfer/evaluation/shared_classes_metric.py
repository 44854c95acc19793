"""Define the metric of a test on the classes that a model and another dataset share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmaction.registry import METRICS

from mmdfer.evaluation.dfer_metric import DFERMetric


@METRICS.register_module()
class SharedClassesMetric(DFERMetric):
    """Compute WAR, UAR and the recalls over the classes that a model and another dataset share.

    The dataset has ``model_classes``, so its labels are those of the model, and its meta
    information has the names of the ``shared`` classes. The scores of the other classes are left
    out before the argmax. Our choice: no clip has these classes, so every prediction of one would
    be wrong, and a model with 11 classes would be at a disadvantage to one with 7 on the same
    clips. The metric ``other_classes`` says how many clips had their highest score there, in
    percent. If all classes are shared, the metrics are those of DFERMetric.

    Args:
        kwargs: Arguments of DFERMetric.

    Attributes:
        confusion: The counts over the S shared classes, (S, S), as in DFERMetric.
    """

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Store the predicted and the true label among all classes, and the predicted shared one.

        Args:
            data_batch: The batch, which is not used.
            data_samples: The predictions, with ``pred_score`` of shape (C,) and ``gt_label``.

        Raises:
            DFERError: In the cases of DFERMetric.
        """
        columns = [self._all_classes.index(name) for name in self._classes]
        start = len(self.results)
        super().process(data_batch, data_samples)
        for place, sample in enumerate(data_samples, start):
            predicted, label = self.results[place]
            among = int(sample['pred_score'][columns].argmax())
            self.results[place] = (among, columns.index(label), predicted not in columns)

    def compute_metrics(  # type: ignore[override]
        self, results: list[tuple[int, int, bool]]
    ) -> dict[str, float]:
        """Compute the metrics of all clips, and save the confusion matrix.

        Args:
            results: For each clip, the predicted and the true label among the shared classes, and
                whether another class had the highest score.

        Returns:
            The metrics in percent, keyed by name.
        """
        metrics = super().compute_metrics([(predicted, label) for predicted, label, _ in results])
        other = sum(other for *_, other in results)
        return dict(metrics, other_classes=100 * other / len(results))

    @property
    def shared(self) -> Sequence[str]:
        """Return the names of the shared classes, in the model's order."""
        return (self.dataset_meta or {}).get('shared') or self._all_classes

    @property
    def _classes(self) -> Sequence[str]:
        """Return the names of the shared classes."""
        return self.shared
