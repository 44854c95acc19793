"""Shows that time and order decide the synthetic benchmark's classes, on its true action units.

The same classifier is trained on the training identities and tested on the test identities, once
with the frames in order and once without: what it loses is what order tells.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from mmdfer.tables import markdown_table

from .emotions import CLASSES, ClipSpec, curves

FRAMES = 16


def sampled_aus(specs: Sequence[ClipSpec]) -> np.ndarray:
    """True action units of 16 uniform frames of each clip, segment middles (N, 16, A)."""
    middles = (np.arange(FRAMES) + 0.5) / FRAMES
    return np.stack([curves(s)[(middles * s.num_frames).astype(int)] for s in specs])


def _by_activity(aus: np.ndarray) -> np.ndarray:
    """The frames (N, T, A) of each clip from the least to the most active."""
    order = np.argsort(aus.sum(2), axis=1, kind='stable')
    return np.take_along_axis(aus, order[..., None], axis=1)


def views(aus: np.ndarray) -> dict[str, np.ndarray]:
    """What a classifier may see of the action units (N, T, A), from all to little."""
    middle = aus.shape[1] // 2
    return {
        '16 frames in order': aus,
        '16 frames, each unit sorted': np.sort(aus, axis=1),
        '16 frames, sorted by activity': _by_activity(aus),
        'the most active frame': _by_activity(aus)[:, -1:],
        'the mean of the frames': aus.mean(1, keepdims=True),
        'the middle frame': aus[:, middle : middle + 1],
        'the first frame': aus[:, :1],
    }


def _features(view: np.ndarray) -> np.ndarray:
    """Frames and their differences (N, T, A), in one row for each clip."""
    count = len(view)
    return np.concatenate([view.reshape(count, -1), np.diff(view, axis=1).reshape(count, -1)], 1)


def _classifier() -> Pipeline:
    return make_pipeline(
        StandardScaler(),
        MLPClassifier((128,), alpha=1.0, learning_rate_init=2e-3, max_iter=400, random_state=0),
    )


def check_order(
    specs: Sequence[ClipSpec], names: Sequence[str] | None = None
) -> dict[str, tuple[float, float]]:
    """WAR and UAR in % of the classifier on each of :func:`views`, on the test identities.

    Args:
        specs (Sequence[ClipSpec]): all clips of a benchmark.
        names (Sequence[str], optional): which views; all by default.

    Returns:
        dict[str, tuple[float, float]]: WAR and UAR by the view's name.
    """
    labels = np.array([s.label for s in specs])
    train = np.array([s.split == 'train' for s in specs])
    figures, seen = {}, views(sampled_aus(specs))
    for name in names or seen:
        rows = _features(seen[name])
        hits = _classifier().fit(rows[train], labels[train]).predict(rows[~train]) == labels[~train]
        recalls = [hits[labels[~train] == c].mean() for c in np.unique(labels[~train])]
        figures[name] = (100 * float(hits.mean()), 100 * float(np.mean(recalls)))
    return figures


def order_table(specs: Sequence[ClipSpec]) -> str:
    """The figures of :func:`check_order` as a Markdown table."""
    counts = [sum(s.label == i for s in specs) for i in range(len(CLASSES))]
    always = 100 * max(counts) / sum(counts)
    figures = check_order(specs)
    figures['nothing (the most frequent class)'] = (always, 100 / len(CLASSES))
    rows = [[name, f'{war:.1f}', f'{uar:.1f}'] for name, (war, uar) in figures.items()]
    return markdown_table([['what the classifier sees', 'WAR %', 'UAR %'], *rows])
