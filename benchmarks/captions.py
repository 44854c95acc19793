"""Measure how much the captions of the synthetic benchmark tell about the class.

    python benchmarks/captions.py [--test] [--true]
    python benchmarks/captions.py --missed 0.3 0.4 --added 0.2 0.4 --unordered 0.75 --seeds 0 1 2

Two classifiers read the captions alone: logistic regression on the counts of word 1- to 5-grams,
and logistic regression on the vectors of the small CLIPs' text tower. Both choose their
regularisation by cross-validation over the people on whom they are fitted.

By default, both are fitted on the training people of the split ``fit`` and tested on those of
``heldout``, and the test people are not read. This figure is meant for tuning the noise of the
describer: the second command prints a row for each combination of its values. ``--test`` adds the
figure of the test people, after fitting on all training people. ``--true`` describes the clips
without errors, by ``mmdfer.synthetic.describe``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from itertools import product
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from torch import Tensor
from tqdm import tqdm

from mmdfer.evaluation.baselines import PROBE_FOLDS, fit_probe
from mmdfer.evaluation.metrics import score_labels
from mmdfer.models import FrozenCLIP
from mmdfer.synthetic import ClipSpec, describe, make_specs
from mmdfer.synthetic.describer import DescriberNoise
from mmdfer.synthetic.levels import clip_name, describe_clips
from mmdfer.tables import markdown_table

SPLITS: dict[str, Callable[[ClipSpec], tuple[bool, bool]]] = {
    'held-out training people': lambda spec: (spec.part == 'fit', spec.part == 'heldout'),
    'test people': lambda spec: (spec.split == 'train', spec.split == 'test'),
}
CLASSIFIERS = ('n-grams', 'text tower')
HEADER = ['captions', 'tested on', *(f'{name}: WAR / UAR' for name in CLASSIFIERS), 'better WAR']
_LONGEST = 5  # words of an n-gram
_TEXTS_PER_PASS = 256


@torch.no_grad()
def encode_texts(texts: Sequence[str]) -> Tensor:
    """Encode texts to vectors (N, D) of unit length by the small CLIPs' text tower."""
    clip = FrozenCLIP('synth-clip')  # the small ViT CLIP has the same text tower
    parts = [texts[i : i + _TEXTS_PER_PASS] for i in range(0, len(texts), _TEXTS_PER_PASS)]
    return torch.nn.functional.normalize(torch.cat([clip.encode_text(part) for part in parts]))


def fit_ngrams(texts: Sequence[str], labels: np.ndarray, people: np.ndarray) -> GridSearchCV:
    """Fit a logistic regression on the counts of the word 1- to 5-grams of texts.

    Args:
        texts: The N captions.
        labels: The label of each clip, (N,).
        people: The person in each clip, (N,). All clips of a person are in the same fold.

    Returns:
        The fitted classifier, which has the method ``predict``.
    """
    count = CountVectorizer(ngram_range=(1, _LONGEST), token_pattern=r'\w+|\.', min_df=2)
    model = make_pipeline(count, LogisticRegression(max_iter=300))
    grid = {'logisticregression__C': [0.03, 0.3, 3.0]}
    search = GridSearchCV(model, grid, scoring='accuracy', cv=GroupKFold(PROBE_FOLDS))
    return search.fit(texts, labels, groups=people)


def measure_captions(
    specs: Sequence[ClipSpec],
    captions: Mapping[str, str],
    split: str = 'held-out training people',
) -> dict[str, dict[str, float]]:
    """Measure how well two classifiers recognise the class from captions alone.

    Args:
        specs: The clips of the benchmark.
        captions: The caption of each clip by its name.
        split: Key into ``SPLITS``, the people to test on.

    Returns:
        ``WAR`` and ``UAR`` in percent by the name in ``CLASSIFIERS``.
    """
    chosen = np.array([SPLITS[split](spec) for spec in specs])
    fit, test = (np.flatnonzero(column) for column in chosen.T)
    texts = [captions[clip_name(spec)] for spec in specs]
    labels = np.array([spec.label for spec in specs])
    people = np.array([spec.identity for spec in specs])
    words, vectors = np.array(texts), encode_texts(texts)
    ngrams = fit_ngrams(words[fit].tolist(), labels[fit], people[fit])
    tower = fit_probe(vectors[fit], labels[fit], people[fit])
    predicted = (ngrams.predict(words[test].tolist()), tower.predict(vectors[test].numpy()))
    return {
        name: score_labels(found, labels[test])
        for name, found in zip(CLASSIFIERS, predicted, strict=True)
    }


def caption_rows(
    name: str, specs: Sequence[ClipSpec], captions: Mapping[str, str], splits: Sequence[str]
) -> list[list[str]]:
    """Return a row of a table for each split: ``HEADER`` names the cells."""
    rows = []
    for split in splits:
        scores = measure_captions(specs, captions, split)
        cells = [f'{scores[c]["WAR"]:.1f} / {scores[c]["UAR"]:.1f}' for c in CLASSIFIERS]
        better = max(score['WAR'] for score in scores.values())
        rows.append([name, split, *cells, f'{better:.1f}'])
    return rows


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Measure what captions alone tell.')
    for field in fields(DescriberNoise):
        parser.add_argument(
            f'--{field.name}',
            type=float,
            nargs='+',
            default=[field.default],
            help=f'values of DescriberNoise.{field.name} (default: {field.default})',
        )
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], help='seeds of the noise')
    parser.add_argument('--test', action='store_true', help='add the figure of the test people')
    parser.add_argument('--true', action='store_true', help='add a row of the true captions')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table with a row for each combination of the values and each split."""
    args = parse_args(argv)
    splits = list(SPLITS)[: 1 + args.test]
    specs = make_specs(1400, 700, 140, 70, 0)
    rows = [HEADER]
    if args.true:
        captions = {clip_name(spec): describe(spec) for spec in specs}
        rows += caption_rows('true', specs, captions, splits)
    names = [field.name for field in fields(DescriberNoise)]
    options: Any = product(*(getattr(args, name) for name in names), args.seeds)
    for *values, seed in tqdm(list(options), unit='row'):
        noise = DescriberNoise(*values)
        title = ', '.join(f'{name} {value}' for name, value in asdict(noise).items())
        captions = describe_clips(specs, seed, noise)
        rows += caption_rows(f'{title}, seed {seed}', specs, captions, splits)
    print(markdown_table(rows))


if __name__ == '__main__':
    main()
