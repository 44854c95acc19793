"""Measure how much the classes of the synthetic benchmark depend on the order of frames.

The same classifier is trained on the true action units of the training identities and tested on the
test identities, once with the frames in order and once without their order. The loss of accuracy
shows how much the order contributes.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from mmdfer.tables import markdown_table

from .emotions import CLASSES, ClipSpec, curves

FRAMES = 16


def sample_aus(specs: Sequence[ClipSpec]) -> np.ndarray:
    """Return the true action units of 16 frames of each clip.

    The frames are the middle frames of 16 equal segments of the clip.

    Args:
        specs: The N clips.

    Returns:
        The intensities (N, 16, A) of the A action units, in the order of ``AUS``.
    """
    middles = (np.arange(FRAMES) + 0.5) / FRAMES
    return np.stack([curves(s)[(middles * s.num_frames).astype(int)] for s in specs])


def _sort_by_activity(aus: np.ndarray) -> np.ndarray:
    """Sort the frames (N, T, A) of each clip by the sum of their action units, lowest first."""
    order = np.argsort(aus.sum(2), axis=1, kind='stable')
    return np.take_along_axis(aus, order[..., None], axis=1)


def views(aus: np.ndarray) -> dict[str, np.ndarray]:
    """Build inputs of the classifier that contain less and less of the action units.

    Args:
        aus: Intensities (N, T, A) of A action units in T frames of N clips.

    Returns:
        Intensities (N, T, A) or, for a single frame or the mean, (N, 1, A), by a description of the
        input.
    """
    middle = aus.shape[1] // 2
    return {
        '16 frames in order': aus,
        '16 frames, each unit sorted': np.sort(aus, axis=1),
        '16 frames, sorted by activity': _sort_by_activity(aus),
        'the most active frame': _sort_by_activity(aus)[:, -1:],
        'the mean of the frames': aus.mean(1, keepdims=True),
        'the middle frame': aus[:, middle : middle + 1],
        'the first frame': aus[:, :1],
    }


def _build_features(view: np.ndarray) -> np.ndarray:
    """Build a row of features for each clip from its frames (N, T, A) and their differences."""
    count = len(view)
    return np.concatenate([view.reshape(count, -1), np.diff(view, axis=1).reshape(count, -1)], 1)


def _build_classifier() -> Pipeline:
    """Build the classifier, a perceptron with one hidden layer on standardised features."""
    return make_pipeline(
        StandardScaler(),
        MLPClassifier((128,), alpha=1.0, learning_rate_init=2e-3, max_iter=400, random_state=0),
    )


def check_order(
    specs: Sequence[ClipSpec], names: Sequence[str] | None = None
) -> dict[str, tuple[float, float]]:
    """Train and test the classifier on each input of :func:`views`.

    Args:
        specs: All clips of a benchmark.
        names: Names of the inputs to test. By default all of them.

    Returns:
        WAR and UAR in percent on the test identities, by the name of the input.
    """
    labels = np.array([s.label for s in specs])
    train = np.array([s.split == 'train' for s in specs])
    figures, seen = {}, views(sample_aus(specs))
    for name in names or seen:
        rows = _build_features(seen[name])
        classifier = _build_classifier().fit(rows[train], labels[train])
        hits = classifier.predict(rows[~train]) == labels[~train]
        recalls = [hits[labels[~train] == c].mean() for c in np.unique(labels[~train])]
        figures[name] = (100 * float(hits.mean()), 100 * float(np.mean(recalls)))
    return figures


def order_table(specs: Sequence[ClipSpec]) -> str:
    """Format the results of :func:`check_order` on all clips as a Markdown table.

    The last row is the accuracy of always predicting the most frequent class.
    """
    counts = [sum(s.label == i for s in specs) for i in range(len(CLASSES))]
    always = 100 * max(counts) / sum(counts)
    figures = check_order(specs)
    figures['nothing (the most frequent class)'] = (always, 100 / len(CLASSES))
    rows = [[name, f'{war:.1f}', f'{uar:.1f}'] for name, (war, uar) in figures.items()]
    return markdown_table([['what the classifier sees', 'WAR %', 'UAR %'], *rows])
