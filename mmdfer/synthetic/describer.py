"""Describe clips in the words of the small CLIP, with the errors of an imperfect observer.

The true captions of :func:`~mmdfer.synthetic.emotions.describe` give the class away: logistic
regression on their word 1- to 5-grams alone has a WAR of 99.6 % on held-out training people. The
captions here are meant for training. They name action units that an expression shows, but miss
some, add wrong ones, and often leave out the order of the expressions. They never name an emotion.
"""

from dataclasses import dataclass

import numpy as np

from .emotions import ClipSpec
from .faces import AU_NAMES, AUS
from .small_clip.captions import FACE_TEMPLATES, PLAIN, REST, degree, join

#: Captions of a face without action units. The caption that names the class neutral is left out.
CALM: tuple[str, ...] = tuple(text for text in REST if 'neutral' not in text)

_VISIBLE = 0.15  # smallest intensity of a unit that can be named, as in `unit_caption`
_PLAIN_SHARE = 0.35  # of captions with everyday names, as in `unit_caption`


@dataclass(frozen=True)
class DescriberNoise:
    """Set the errors of the describer. All values are our choice.

    They were tuned on the training people, by ``python benchmarks/captions.py``, so that captions
    alone give a WAR of 50 to 60 % on held-out training people.

    Attributes:
        missed: Probability that a visible action unit is not named.
        added: Probability that an action unit is named that the expression does not show, for each
            expression.
        unordered: Probability that all expressions of a clip are described in one sentence, so that
            the caption does not say which came last. Otherwise, each expression has a sentence of
            its own, in the order of time.
    """

    missed: float = 0.45
    added: float = 0.4
    unordered: float = 0.75


def describe_noisily(spec: ClipSpec, rng: np.random.Generator, noise: DescriberNoise) -> str:
    """Describe the action units of a clip with errors.

    An example is "a face with slight inner brow raiser and lip tightener. a face with lips part".

    Args:
        spec: The parameters of the clip.
        rng: The random generator of the caption.
        noise: The errors of the describer.

    Returns:
        The caption, which has only words of the captions on which the small CLIP was trained.
    """
    in_time = sorted(spec.expressions, key=lambda expression: expression.start)
    seen = [_see_units(e.aus, noise, rng) for e in in_time] or [_see_units({}, noise, rng)]
    if rng.random() < noise.unordered:
        seen = [{name: value for units in seen for name, value in units.items()}]
    template, plain = str(rng.choice(FACE_TEMPLATES)), rng.random() < _PLAIN_SHARE
    sentences = [template.format(_name_units(units, plain, rng)) for units in seen if units]
    return '. '.join(sentences) or str(rng.choice(CALM))


def _see_units(
    aus: dict[str, float], noise: DescriberNoise, rng: np.random.Generator
) -> dict[str, float]:
    """Return the action units that the describer sees in an expression, with their intensities.

    Args:
        aus: True intensities of the units that the expression shows.
        noise: The errors of the describer.
        rng: The random generator of the caption.
    """
    seen = {
        name: value
        for name, value in aus.items()
        if value > _VISIBLE and rng.random() >= noise.missed
    }
    if rng.random() < noise.added:
        others = [name for name in AUS if name not in aus]
        seen[str(rng.choice(others))] = rng.uniform(_VISIBLE, 1.0)
    return seen


def _name_units(units: dict[str, float], plain: bool, rng: np.random.Generator) -> str:
    """List action units in random order, by everyday names or by graded names of FACS."""
    names = rng.permutation(sorted(units)).tolist()
    if plain:
        return join([PLAIN[name] for name in names])
    return join([degree(units[name]) + AU_NAMES[name] for name in names])
