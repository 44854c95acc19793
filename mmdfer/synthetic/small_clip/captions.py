"""Write captions of faces: which action units show, and which expression."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmdfer.synthetic import emotions, faces

# How people say what an action unit does, beside its FACS name.
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
    """Return the word that goes before a name at this intensity, with its space."""
    return 'slight ' if intensity < 0.4 else 'strong ' if intensity > 0.75 else ''


def join(parts: Sequence[str]) -> str:
    """Write a list as people do: 'a', 'a and b', 'a, b and c'."""
    return parts[0] if len(parts) == 1 else f'{", ".join(parts[:-1])} and {parts[-1]}'


def unit_caption(rng: np.random.Generator, aus: np.ndarray) -> str:
    """Say which action units (16,) show; a name each, some left unsaid, in any order."""
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
    """Name an expression; where ``graded``, with how strong it is."""
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
    """Name the expressions of a batch, all in one wording: a class shares its caption."""
    template, graded = str(rng.choice(EMOTION_TEMPLATES)), rng.random() < 0.5
    pairs = zip(emotion.tolist(), strength.tolist(), strict=True)
    return [emotion_caption(template, *pair, graded) for pair in pairs]


def unit_captions(rng: np.random.Generator, aus: np.ndarray) -> list[str]:
    """Name the action units of a batch (N, 16), a wording for each face.

    One batch in eight is captioned in several sentences: they train the far positions.
    """
    repeats = 3 if rng.random() < 0.125 else 1
    return ['. '.join(unit_caption(rng, row) for _ in range(repeats)) for row in aus]


def unit_sentences(rng: np.random.Generator) -> list[str]:
    """Name each action unit by itself, all in one wording: 16 sentences."""
    template, names = str(rng.choice(FACE_TEMPLATES)), (PLAIN, faces.AU_NAMES)[rng.integers(2)]
    return [template.format(names[unit]) for unit in faces.AUS]
