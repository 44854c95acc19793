"""Write captions that name the action units and the expression of a face."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmdfer.synthetic import emotions, faces

# Everyday names of the action units. The captions use these or the names in FACS.
PLAIN = {
    'AU1': 'raised inner eyebrows',
    'AU2': 'raised outer eyebrows',
    'AU4': 'furrowed eyebrows',
    'AU5': 'widened eyes',
    'AU6': 'raised cheeks',
    'AU7': 'narrow eyes',
    'AU9': 'a wrinkled nose',
    'AU10': 'a raised upper lip',
    'AU12': 'a smiling mouth',
    'AU15': 'a downward turned mouth',
    'AU17': 'a raised chin',
    'AU20': 'stretched lips',
    'AU23': 'tightened lips',
    'AU25': 'parted lips',
    'AU26': 'an open mouth',
    'AU45': 'closed eyes',
}
ADJECTIVE = {
    'happiness': 'happy',
    'sadness': 'sad',
    'neutral': 'neutral',
    'anger': 'angry',
    'surprise': 'surprised',
    'disgust': 'disgusted',
    'fear': 'fearful',
}
FACE_TEMPLATES = ('a face with {}', 'a person with {}', 'a photo of a face with {}', '{}')
EMOTION_TEMPLATES = (
    'an expression of {noun}',
    'a person with an expression of {noun}',
    'a photo of a face with an expression of {noun}',
    'a face showing {noun}',
    '{article} {adjective} face',
    'a photo of {article} {adjective} person',
    '{noun}',
)
REST = ('a neutral face with no action units', 'a relaxed face', 'a face at rest', 'a calm face')


def degree(intensity: float) -> str:
    """Return the word for an intensity in 0..1: 'slight ', 'strong ' or an empty string."""
    return 'slight ' if intensity < 0.4 else 'strong ' if intensity > 0.75 else ''


def join(parts: Sequence[str]) -> str:
    """Join a list of words to 'a', 'a and b' or 'a, b and c'."""
    return parts[0] if len(parts) == 1 else f'{", ".join(parts[:-1])} and {parts[-1]}'


def unit_caption(rng: np.random.Generator, aus: np.ndarray) -> str:
    """Write a caption that names the visible action units of a face in random order.

    Each visible unit is named with probability 0.85, and at least one is named.

    Args:
        rng: The random generator that chooses the units and the wording.
        aus: Intensities (16,) of the action units, in the order of ``AUS``. Units above 0.15 count
            as visible.

    Returns:
        The caption, or a caption of a face at rest if no unit is visible.
    """
    seen = np.flatnonzero(aus > 0.15)
    if not len(seen):
        return str(rng.choice(REST))
    said = rng.permutation(seen[rng.random(len(seen)) < 0.85])
    plain = rng.random() < 0.35
    words = []
    for unit in said if len(said) else seen[:1]:
        name = (PLAIN if plain else faces.AU_NAMES)[faces.AUS[unit]]
        words.append(name if plain else degree(aus[unit]) + name)
    return str(rng.choice(FACE_TEMPLATES)).format(join(words))


def emotion_caption(template: str, emotion: int, strength: float, graded: bool) -> str:
    """Write a caption that names an expression.

    Args:
        template: The sentence, one of ``EMOTION_TEMPLATES``.
        emotion: Class index of the expression.
        strength: Strength of the expression, 0..1.
        graded: Whether the caption also says how strong the expression is. Only the templates with
            "an expression" can say this.

    Returns:
        The caption.
    """
    noun = emotions.CLASSES[emotion]
    adjective = ADJECTIVE[noun]
    if graded and noun != 'neutral' and 'an expression' in template:
        template = template.replace('an expression', f'a {degree(strength)}expression')
    article = 'an' if adjective[0] in 'aeiou' else 'a'
    text = template.format(noun=noun, adjective=adjective, article=article)
    return text.replace('a expression', 'an expression')


def expression_captions(
    rng: np.random.Generator, emotion: np.ndarray, strength: np.ndarray
) -> list[str]:
    """Write a caption of the expression of each face in a batch.

    All captions have the same wording, so that faces of one class (and one degree of strength, if
    the captions name it) share a caption.

    Args:
        rng: The random generator that chooses the wording.
        emotion: Class indices (N,) of the expressions.
        strength: Strengths (N,) of the expressions, 0..1.

    Returns:
        The N captions.
    """
    template, graded = str(rng.choice(EMOTION_TEMPLATES)), rng.random() < 0.5
    pairs = zip(emotion.tolist(), strength.tolist(), strict=True)
    return [emotion_caption(template, *pair, graded) for pair in pairs]


def unit_captions(rng: np.random.Generator, aus: np.ndarray) -> list[str]:
    """Write a caption of the action units of each face in a batch, each in its own wording.

    In one batch of eight, each caption has three sentences, so that the position embeddings of long
    texts are trained too.

    Args:
        rng: The random generator that chooses the wording.
        aus: Intensities (N, 16) of the action units.

    Returns:
        The N captions.
    """
    repeats = 3 if rng.random() < 0.125 else 1
    return ['. '.join(unit_caption(rng, row) for _ in range(repeats)) for row in aus]


def unit_sentences(rng: np.random.Generator) -> list[str]:
    """Write a caption for each of the 16 action units alone, all in the same wording."""
    template, names = str(rng.choice(FACE_TEMPLATES)), (PLAIN, faces.AU_NAMES)[rng.integers(2)]
    return [template.format(names[unit]) for unit in faces.AUS]
