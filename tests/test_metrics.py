"""Test WAR, UAR, recalls and the confusion matrix against scikit-learn."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    recall_score,
)

from mmaction.structures import ActionDataSample

from mmdfer import DFERError
from mmdfer.evaluation import DFERMetric, war_uar
from mmdfer.evaluation.metrics import recalls, score_labels

CLASSES = ('happiness', 'sadness', 'neutral', 'anger', 'surprise', 'disgust', 'fear')


def _evaluate(scores: torch.Tensor, truth: np.ndarray, **kwargs: object) -> dict[str, float]:
    """Compute the metrics of scores (N, C), passed in batches of 8."""
    evaluator = Evaluator(dict(type='DFERMetric', **kwargs))
    evaluator.dataset_meta = dict(classes=CLASSES)
    samples = [
        ActionDataSample().set_pred_score(s).set_gt_label(int(t))
        for s, t in zip(scores, truth, strict=True)
    ]
    for start in range(0, len(samples), 8):
        evaluator.process(samples[start : start + 8])
    return evaluator.evaluate(len(samples))


def _random(classes: list[int], clips: int = 203) -> tuple[torch.Tensor, np.ndarray]:
    """Draw labels from ``classes``, and scores (N, 7) that are right for about half of them."""
    rng = np.random.default_rng(0)
    truth = rng.choice(classes, clips)
    scores = rng.random((clips, 7))
    scores[np.arange(clips), truth] += 0.6
    return torch.from_numpy(scores), truth


def test_the_figures_are_those_of_scikit_learn(tmp_path: Path) -> None:
    scores, truth = _random([0, 0, 0, 1, 1, 2, 3, 4, 5, 6])
    predicted = scores.argmax(1).numpy()
    metrics = _evaluate(scores, truth, out_dir=str(tmp_path))
    assert metrics['WAR'] == pytest.approx(100 * accuracy_score(truth, predicted))
    assert metrics['UAR'] == pytest.approx(100 * recall_score(truth, predicted, average='macro'))
    each = 100 * recall_score(truth, predicted, average=None)
    assert [metrics[f'recall/{name}'] for name in CLASSES] == pytest.approx(each)
    assert list(metrics) == ['WAR', 'UAR', *(f'recall/{name}' for name in CLASSES)]
    assert 30 < metrics['UAR'] < 90 and metrics['UAR'] != metrics['WAR']  # not a trivial case
    assert score_labels(predicted, truth) == pytest.approx(
        {name: metrics[name] for name in ('WAR', 'UAR')}
    )


def test_a_class_without_a_clip_has_no_recall_and_keeps_the_others_names(tmp_path: Path) -> None:
    scores, truth = _random([0, 2, 3, 4, 5, 6])
    predicted = scores.argmax(1).numpy()
    assert 1 in predicted  # predicted, although no clip has this class
    metrics = _evaluate(scores, truth, out_dir=str(tmp_path))
    assert metrics['UAR'] == pytest.approx(100 * balanced_accuracy_score(truth, predicted))
    assert 'recall/sadness' not in metrics
    fear = 100 * (predicted[truth == 6] == 6).mean()
    assert metrics['recall/fear'] == pytest.approx(fear)


def test_war_and_uar_by_hand() -> None:
    # 8 of 10 and 1 of 2 are right: 9 / 12, and the mean of 80 % and 50 %.
    assert war_uar([[8, 2], [1, 1]]) == pytest.approx((75, 65))
    # Without clips of the second class, only the first class counts.
    assert war_uar([[8, 2], [0, 0]]) == pytest.approx((80, 80))
    assert np.isnan(recalls([[8, 2], [0, 0]])[1])
    with pytest.raises(DFERError, match='the test set is empty'):
        war_uar([[0, 0], [0, 0]])


def test_the_confusion_matrix_is_written_as_numbers_and_picture(tmp_path: Path) -> None:
    scores, truth = _random([0, 1, 2, 3, 4, 5, 6])
    _evaluate(scores, truth, out_dir=str(tmp_path / 'new'))
    expected = confusion_matrix(truth, scores.argmax(1), labels=range(7)).tolist()
    files = sorted(path.name for path in (tmp_path / 'new').iterdir())
    assert files == ['confusion_matrix.csv', 'confusion_matrix.json', 'confusion_matrix.png']
    numbers = json.loads((tmp_path / 'new' / 'confusion_matrix.json').read_text())
    assert numbers['confusion'] == expected
    assert tuple(numbers['classes']) == CLASSES
    with (tmp_path / 'new' / 'confusion_matrix.csv').open(newline='') as file:
        head, *rows = csv.reader(file)
    assert tuple(head[1:]) == CLASSES
    assert [row[0] for row in rows] == list(CLASSES)
    assert [[int(n) for n in row[1:]] for row in rows] == expected
    picture = cv2.imread(str(tmp_path / 'new' / 'confusion_matrix.png'))
    assert picture.shape[0] > 500 and picture.std() > 10  # drawn, not blank


def test_outside_a_run_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    MMLogger.get_instance('no run')  # the newest logger does not write to a file
    scores, truth = _random([0, 1, 2])
    _evaluate(scores, truth)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('shape', 'label', 'said'),
    [
        ((5,), 0, 'num_classes=7'),
        ((2, 7), 0, "average_clips='prob'"),
        ((7,), 7, 'labels must be from 0 to 6 .* got 7'),
        ((7,), -1, 'got -1'),
    ],
)
def test_scores_and_labels_that_fit_no_class_are_refused(
    shape: tuple[int, ...], label: int, said: str
) -> None:
    metric = DFERMetric()
    metric.dataset_meta = dict(classes=CLASSES)
    sample = dict(pred_score=torch.zeros(shape), gt_label=torch.tensor([label]))
    with pytest.raises(DFERError, match=said):
        metric.process(None, [sample])


def test_a_dataset_without_class_names_is_refused() -> None:
    metric = DFERMetric()
    metric.dataset_meta = dict(dataset='unnamed')
    with pytest.raises(DFERError, match='has no class names'):
        metric.process(None, [dict(pred_score=torch.zeros(7), gt_label=torch.tensor([0]))])
