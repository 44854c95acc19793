"""Define what each clip of the synthetic benchmark shows: emotions as action units over time.

The action units of an emotion follow EMFACS (Friesen and Ekman, "EMFACS-7: Emotional Facial Action
Coding System", 1983) and the emotion tables of Ekman, Friesen and Hager, "Facial Action Coding
System: Investigator's Guide" (2002). In this benchmark, a felt smile has a fast onset and a slow
offset, and a polite smile the reverse. This is a rule of the benchmark, which makes the direction
of time matter, and not a finding about smiles. docs/synthetic.md describes the whole design.

Random numbers are drawn only with ``Generator.random``, combined only with + - * / and rounded to
six decimals. So the clips are equal to the byte on every machine.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from .faces import AUS, Identity, Shot, sample_identity, sample_shot

CLASSES: tuple[str, ...] = (
    'happiness',
    'sadness',
    'neutral',
    'anger',
    'surprise',
    'disgust',
    'fear',
)

#: Numbers of single-labelled clips of each class in DFEW. The benchmark has the same imbalance.
DFEW_TOTALS: tuple[int, ...] = (2445, 1894, 2669, 2173, 1469, 145, 902)

#: Intensities of the action units of each emotion at full strength.
EMOTION_AUS: dict[str, dict[str, float]] = {
    'happiness': {'AU6': 0.9, 'AU12': 1.0},
    'sadness': {'AU1': 1.0, 'AU4': 0.6, 'AU15': 0.95},
    'neutral': {},
    'anger': {'AU4': 1.0, 'AU5': 0.5, 'AU7': 0.75, 'AU23': 0.9},
    'surprise': {'AU1': 0.9, 'AU2': 0.9, 'AU5': 0.85, 'AU26': 0.8},
    'disgust': {'AU9': 1.0, 'AU10': 0.85},
    'fear': {'AU1': 0.9, 'AU2': 0.6, 'AU4': 0.7, 'AU5': 0.8, 'AU7': 0.3, 'AU20': 0.9, 'AU26': 0.4},
}

#: Action units that an emotion may show in addition. Each is part of half of its expressions.
OPTIONAL_AUS: dict[str, dict[str, float]] = {
    'happiness': {'AU25': 0.7},
    'sadness': {'AU17': 0.7},
    'neutral': {},
    'anger': {},
    'surprise': {'AU25': 0.6},
    'disgust': {'AU17': 0.5},
    'fear': {'AU25': 0.5},
}

#: Number of sequences per 11,697 clips (the size of DFEW) of each pair of emotions, **in each
#: order**. A clip of A then B has the label B, and a clip of B then A has the label A. Both are
#: equally frequent, so that a pair without its order says nothing about the label. In total,
#: sequences are 42 % of the clips of each class other than neutral.
PAIR_WEIGHTS: dict[tuple[str, str], int] = {
    ('happiness', 'sadness'): 240,
    ('happiness', 'anger'): 423,
    ('sadness', 'anger'): 429,
    ('surprise', 'happiness'): 364,
    ('fear', 'surprise'): 253,
    ('fear', 'sadness'): 126,
    ('disgust', 'anger'): 61,
}

#: Fraction of the neutral clips that show a polite smile, which is a felt smile played backwards.
POLITE_SHARE = 0.30

#: Clips have MIN_FRAMES..MAX_FRAMES frames at FPS frames per second.
MIN_FRAMES, MAX_FRAMES, FPS = 24, 48, 25

#: Fraction of the training identities (the last ones) that are held out for tuning.
HELDOUT_SHARE = 0.2

# A word in the seed of each stream of random numbers, for the purpose of the stream.
_STREAM = {'identity': 1, 'plan': 2, 'clip': 3}
_SPLITS = ('train', 'test')


@dataclass(frozen=True)
class Expression:
    """Describe one rise and fall of action units in a clip.

    All times are fractions of the clip's length.

    Attributes:
        name: An emotion, or 'flash' for a short conversational expression without emotion.
        start: Time at which the expression begins.
        onset: Duration of the rise.
        apex: Duration of the apex, during which the intensities are constant.
        offset: Duration of the fall.
        aus: Intensities at the apex, in 0..1, by action unit.
    """

    name: str
    start: float
    onset: float
    apex: float
    offset: float
    aus: dict[str, float]


@dataclass(frozen=True)
class ClipSpec:
    """Describe a clip by all of its parameters.

    Times are fractions of the clip's length.

    Attributes:
        id: Number of the clip in its split, for example ``'00001'``.
        split: 'train' or 'test'.
        part: 'fit' or 'heldout' in the training split (the identities of 'heldout' are for tuning),
            and 'test' in the test split.
        label: Class index into ``CLASSES``.
        kind: 'plain' (one expression), 'sequence' (two expressions; the last is the label), 'felt
            smile', 'polite smile' (a felt smile backwards, labelled neutral) or 'rest' (neutral).
        identity: Name of the face.
        num_frames: Number of frames.
        seed: Seed of the shot and of the camera noise.
        rest: Resting intensity of each action unit, in the order of ``AUS``.
        expressions: The expressions of the clip.
        syllables: (centre, width, intensity of AU25, intensity of AU26) of each spoken syllable.
        blinks: (centre, width) of each blink.
    """

    id: str
    split: str
    part: str
    label: int
    kind: str
    identity: str
    num_frames: int
    seed: int
    rest: tuple[float, ...]
    expressions: tuple[Expression, ...]
    syllables: tuple[tuple[float, float, float, float], ...]
    blinks: tuple[tuple[float, float], ...]

    @property
    def video(self) -> str:
        """Return the path of the clip's video below the folder of the benchmark."""
        return f'videos/{self.split}/{self.id}.mp4'

    def shot(self) -> Shot:
        """Return how the clip is filmed, which depends only on ``seed``."""
        return sample_shot(np.random.Generator(np.random.PCG64([self.seed, 0])))

    def camera(self) -> np.random.Generator:
        """Return the generator of the clip's camera noise, which depends only on ``seed``."""
        return np.random.Generator(np.random.PCG64([self.seed, 1]))

    def to_json(self) -> dict[str, Any]:
        """Convert the parameters, the class name and the shot to types that JSON can store."""
        return asdict(self) | {'class': CLASSES[self.label], 'shot': asdict(self.shot())}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> 'ClipSpec':
        """Build the clip from a row that :meth:`to_json` returned."""
        values = {field.name: row[field.name] for field in fields(cls)}
        values['rest'] = tuple(values['rest'])
        values['expressions'] = tuple(Expression(**e) for e in values['expressions'])
        for name in ('syllables', 'blinks'):
            values[name] = tuple(tuple(row) for row in values[name])
        return cls(**values)


# Random numbers -----------------------------------------------------------------------------------


def _generator(*words: int) -> np.random.Generator:
    """Return a random generator that is seeded by integers."""
    return np.random.Generator(np.random.PCG64(list(words)))


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a uniform number in low..high, rounded so that it can be written and read exactly."""
    return round(low + (high - low) * rng.random(), 6)


def _index(rng: np.random.Generator, count: int) -> int:
    """Draw an integer in 0..count - 1."""
    return int(rng.random() * count)


def _shuffle(rng: np.random.Generator, items: Sequence[Any]) -> list[Any]:
    """Return the items in random order, by the method of Fisher and Yates.

    Only ``Generator.random`` is used, because its numbers are the same in all versions of NumPy.
    """
    items = list(items)
    for i in range(len(items) - 1, 0, -1):
        j = _index(rng, i + 1)
        items[i], items[j] = items[j], items[i]
    return items


# The list of clips --------------------------------------------------------------------------------


def class_counts(num_clips: int) -> tuple[int, ...]:
    """Compute the number of clips of each class, in proportion to the classes of DFEW.

    The numbers are rounded by the method of the largest remainder.

    Args:
        num_clips: Number of clips of all classes.

    Returns:
        The number of clips of each class, in the order of ``CLASSES``.
    """
    total = sum(DFEW_TOTALS)
    counts = [num_clips * n // total for n in DFEW_TOTALS]
    by_remainder = sorted(
        range(len(counts)), key=lambda i: (-(num_clips * DFEW_TOTALS[i] % total), i)
    )
    for i in by_remainder[: num_clips - sum(counts)]:
        counts[i] += 1
    return tuple(counts)


def _plan(num_clips: int, rng: np.random.Generator) -> list[tuple[str, tuple[str, ...]]]:
    """List the clips of a split in random order, each as (kind, emotions); the label comes last."""
    left = dict(zip(CLASSES, class_counts(num_clips), strict=True))
    plan: list[tuple[str, tuple[str, ...]]] = []
    for (a, b), weight in PAIR_WEIGHTS.items():
        count = weight * num_clips // sum(DFEW_TOTALS)
        plan += [('sequence', (a, b)), ('sequence', (b, a))] * count
        left[a] -= count
        left[b] -= count
    polite = int(POLITE_SHARE * left['neutral'])
    plan += [('polite smile', ('neutral',))] * polite
    plan += [('rest', ('neutral',))] * (left.pop('neutral') - polite)
    for name, count in left.items():
        plan += [('felt smile' if name == 'happiness' else 'plain', (name,))] * count
    return _shuffle(rng, plan)


def assign_part(split: str, index: int, num_identities: int) -> str:
    """Return the part of the benchmark to which an identity belongs.

    Args:
        split: 'train' or 'test'.
        index: Number of the identity in its split.
        num_identities: Number of identities in the split.

    Returns:
        'test' for the test split. In the training split, 'heldout' for the last fifth of the
        identities and 'fit' for the others.
    """
    if split == 'test':
        return 'test'
    return 'fit' if index < num_identities - int(HELDOUT_SHARE * num_identities) else 'heldout'


def identity_name(split: str, index: int) -> str:
    """Return the name of an identity of a split, for example 'train_007'."""
    return f'{split}_{index:03d}'


def make_identities(num_train: int, num_test: int, seed: int) -> dict[str, Identity]:
    """Draw the faces of both splits, each from a random stream of its own.

    Args:
        num_train: Number of faces of the training split.
        num_test: Number of faces of the test split.
        seed: Seed of the benchmark.

    Returns:
        The faces by name, the training split first.
    """
    return {
        identity_name(split, i): sample_identity(_generator(seed, _STREAM['identity'], s, i))
        for s, (split, count) in enumerate(zip(_SPLITS, (num_train, num_test), strict=True))
        for i in range(count)
    }


def make_specs(
    num_train: int, num_test: int, num_train_identities: int, num_test_identities: int, seed: int
) -> list[ClipSpec]:
    """Draw the parameters of all clips of the benchmark.

    Args:
        num_train: Number of clips of the training split.
        num_test: Number of clips of the test split.
        num_train_identities: Number of faces of the training split.
        num_test_identities: Number of faces of the test split.
        seed: Seed of the benchmark.

    Returns:
        The clips, the training split first.

    Raises:
        ValueError: If a split has no clip or no identity.
    """
    identities = make_identities(num_train_identities, num_test_identities, seed)
    specs = []
    sizes = ((num_train, num_train_identities), (num_test, num_test_identities))
    for s, (split, (clips, people)) in enumerate(zip(_SPLITS, sizes, strict=True)):
        if clips < 1 or people < 1:
            raise ValueError(
                f'{split} needs at least one clip and one identity, got {clips} clips and '
                f'{people} identities'
            )
        rng = _generator(seed, _STREAM['plan'], s)
        faces = _shuffle(rng, range(people))
        for i, (kind, shown) in enumerate(_plan(clips, rng)):
            person = faces[i % people]
            name = identity_name(split, person)
            specs.append(
                make_clip(
                    _generator(seed, _STREAM['clip'], s, i),
                    id=f'{i + 1:05d}',
                    split=split,
                    part=assign_part(split, person, people),
                    kind=kind,
                    shown=shown,
                    identity=name,
                    face=identities[name],
                )
            )
    return specs


# The content of a clip ----------------------------------------------------------------------------


def make_clip(
    rng: np.random.Generator, *, kind: str, shown: tuple[str, ...], face: Identity, **where: Any
) -> ClipSpec:
    """Draw the parameters of one clip.

    Args:
        rng: The random generator of the clip.
        kind: The kind of the clip, as described in :class:`ClipSpec`.
        shown: The emotions that the clip shows. The last is the label.
        face: The face that the clip shows.
        **where: The attributes of :class:`ClipSpec` that say where the clip belongs: ``id``,
            ``split``, ``part`` and ``identity``.

    Returns:
        The clip.
    """
    num_frames = MIN_FRAMES + _index(rng, MAX_FRAMES - MIN_FRAMES + 1)
    return ClipSpec(
        label=CLASSES.index(shown[-1]),
        kind=kind,
        num_frames=num_frames,
        seed=_index(rng, 2**31),
        rest=_draw_rest(rng, face.rest),
        expressions=_EXPRESSIONS[kind](rng, shown),
        syllables=_draw_syllables(rng, num_frames),
        blinks=_draw_blinks(rng, num_frames),
        **where,
    )


def _draw_rest(rng: np.random.Generator, rest: tuple[float, ...]) -> tuple[float, ...]:
    """Draw the resting intensities of a clip from the resting intensities of its identity.

    Each intensity is multiplied by a random factor. A mood may add to AU1, AU4, AU12 and AU15.
    """
    values = {
        name: round(r * _between(rng, 0.6, 1.0), 6) for name, r in zip(AUS, rest, strict=True)
    }
    for name in ('AU1', 'AU4', 'AU12', 'AU15'):
        if rng.random() < 0.35:
            values[name] = min(0.5, round(values[name] + _between(rng, 0.05, 0.30), 6))
    return tuple(values.values())


def _draw_apex(
    rng: np.random.Generator, emotion: str, low: float = 0.45, high: float = 1.0
) -> dict[str, float]:
    """Draw the action units of an emotion at a strength in low..high, with small variations."""
    intensity = _between(rng, low, high)
    aus = {
        name: round(w * intensity * _between(rng, 0.8, 1.0), 6)
        for name, w in EMOTION_AUS[emotion].items()
    }
    for name, weight in OPTIONAL_AUS[emotion].items():
        if rng.random() < 0.5:
            aus[name] = round(weight * intensity * _between(rng, 0.8, 1.0), 6)
    return aus


def _place_expression(
    rng: np.random.Generator, name: str, shape: tuple[float, float, float], aus: dict[str, float]
) -> Expression:
    """Place an expression with a shape (onset, apex, offset) at a random time in the clip."""
    start = _between(rng, 0.0, 1.0 - sum(shape))
    return Expression(name, start, *shape, aus)


def _draw_flash(rng: np.random.Generator) -> Expression:
    """Draw a conversational flash: briefly raised brows, or a short and weak emotion."""
    if rng.random() < 0.5:
        height = _between(rng, 0.2, 0.55)
        aus = {'AU1': height, 'AU2': round(height * _between(rng, 0.7, 1.0), 6)}
    else:
        aus = _draw_apex(
            rng,
            ('happiness', 'sadness', 'anger', 'disgust', 'surprise')[_index(rng, 5)],
            0.10,
            0.28,
        )
    shape = (_between(rng, 0.05, 0.10), _between(rng, 0.02, 0.10), _between(rng, 0.05, 0.10))
    return _place_expression(rng, 'flash', shape, aus)


def _draw_plain(rng: np.random.Generator, shown: tuple[str, ...]) -> tuple[Expression, ...]:
    """Draw one expression with a random onset and offset, and in some clips a flash."""
    shape = (_between(rng, 0.06, 0.26), _between(rng, 0.06, 0.24), _between(rng, 0.06, 0.26))
    expression = _place_expression(rng, shown[-1], shape, _draw_apex(rng, shown[-1]))
    return (expression, _draw_flash(rng)) if rng.random() < 0.35 else (expression,)


def _draw_felt_smile(rng: np.random.Generator, shown: tuple[str, ...]) -> tuple[Expression, ...]:
    """Draw a smile with a fast onset and a slow offset, and in some clips a flash."""
    shape = (_between(rng, 0.06, 0.12), _between(rng, 0.05, 0.15), _between(rng, 0.32, 0.48))
    smile = _place_expression(rng, 'happiness', shape, _draw_apex(rng, 'happiness'))
    return (smile, _draw_flash(rng)) if rng.random() < 0.35 else (smile,)


def _draw_polite_smile(rng: np.random.Generator, shown: tuple[str, ...]) -> tuple[Expression, ...]:
    """Draw a felt smile and reverse it in time."""
    return tuple(reverse(e) for e in _draw_felt_smile(rng, shown))


def _draw_sequence(rng: np.random.Generator, shown: tuple[str, ...]) -> tuple[Expression, ...]:
    """Draw two successive expressions with shapes and intensities from the same distributions."""
    shapes = [
        (_between(rng, 0.06, 0.10), _between(rng, 0.08, 0.17), _between(rng, 0.06, 0.10))
        for _ in shown
    ]
    first, last = (sum(shape) for shape in shapes)
    slack = 1.0 - first - last
    low, high = sorted((_between(rng, 0.0, slack), _between(rng, 0.0, slack)))
    starts = (low, round(high + first, 6))
    return tuple(
        Expression(name, start, *shape, _draw_apex(rng, name))
        for name, start, shape in zip(shown, starts, shapes, strict=True)
    )


def _draw_flashes(rng: np.random.Generator, shown: tuple[str, ...]) -> tuple[Expression, ...]:
    """Draw zero to three conversational flashes for a clip without an emotion."""
    return tuple(_draw_flash(rng) for _ in range(_index(rng, 4)))


_EXPRESSIONS = {
    'plain': _draw_plain,
    'sequence': _draw_sequence,
    'felt smile': _draw_felt_smile,
    'polite smile': _draw_polite_smile,
    'rest': _draw_flashes,
}


def reverse(e: Expression) -> Expression:
    """Return the expression as it would be if the clip were played backwards."""
    start = max(0.0, round(1.0 - (e.start + e.onset + e.apex + e.offset), 6))
    return Expression(e.name, start, e.offset, e.apex, e.onset, e.aus)


def _draw_syllables(
    rng: np.random.Generator, num_frames: int
) -> tuple[tuple[float, float, float, float], ...]:
    """Draw two to five syllables in 40 % of the clips, independently of the class."""
    if rng.random() >= 0.4:
        return ()
    count = 2 + _index(rng, 4)
    width = round(7.0 / num_frames, 6)
    start = _between(rng, 0.0, max(0.0, 1.0 - count * width))
    return tuple(
        (
            round(start + (k + _between(rng, 0.35, 0.65)) * width, 6),
            width,
            _between(rng, 0.15, 0.6),
            _between(rng, 0.05, 0.3),
        )
        for k in range(count)
    )


def _draw_blinks(rng: np.random.Generator, num_frames: int) -> tuple[tuple[float, float], ...]:
    """Draw zero to two blinks of seven frames each, independently of the class."""
    return tuple(
        (_between(rng, 0.0, 1.0), round(7.0 / num_frames, 6)) for _ in range(_index(rng, 3))
    )


# Over time ----------------------------------------------------------------------------------------


def _smooth(x: np.ndarray) -> np.ndarray:
    """Compute the smoothstep function: 0 below 0, 1 above 1, and 3 x^2 - 2 x^3 in between."""
    x = np.minimum(np.maximum(x, 0.0), 1.0)
    return x * x * (3.0 - 2.0 * x)


def _rise_and_fall(t: np.ndarray, e: Expression) -> np.ndarray:
    """Compute the intensity (T,) of an expression relative to its apex, at times t (T,)."""
    rise = _smooth((t - e.start) / e.onset)
    return rise - _smooth((t - (e.start + e.onset + e.apex)) / e.offset)


def _bump(t: np.ndarray, centre: float, width: float) -> np.ndarray:
    """Compute the intensity (T,) of a short rise and fall around ``centre``, at times t (T,)."""
    return _smooth(1.0 - np.abs(t - centre) * 2.0 / width)


def curves(spec: ClipSpec) -> np.ndarray:
    """Compute the true action units of each frame of a clip.

    Args:
        spec: The parameters of the clip.

    Returns:
        The intensities (num_frames, A), float32 in 0..1, in the order of ``AUS``.
    """
    t = np.arange(spec.num_frames) / (spec.num_frames - 1)  # (T,)
    shown = np.zeros((spec.num_frames, len(AUS)))
    for e in spec.expressions:
        share = _rise_and_fall(t, e)
        for name, value in e.aus.items():
            column = shown[:, AUS.index(name)]
            np.maximum(column, share * value, out=column)
    for centre, width, part, drop in spec.syllables:
        for name, value in (('AU25', part), ('AU26', drop)):
            column = shown[:, AUS.index(name)]
            np.maximum(column, _bump(t, centre, width) * value, out=column)
    for centre, width in spec.blinks:
        column = shown[:, AUS.index('AU45')]
        np.maximum(column, _bump(t, centre, width), out=column)
    rest = np.asarray(spec.rest)
    return np.minimum(np.round(rest + (1.0 - rest) * shown, 6), 1.0).astype(np.float32)


# In words -----------------------------------------------------------------------------------------

_PHRASES: tuple[tuple[tuple[str, ...], str], ...] = (
    (('AU1', 'AU2'), 'the brows rise'),
    (('AU1',), 'the inner brows rise'),
    (('AU2',), 'the outer brows rise'),
    (('AU4',), 'the brows lower and draw together'),
    (('AU9',), 'the nose wrinkles'),
    (('AU5',), 'the eyes widen'),
    (('AU6',), 'the cheeks rise'),
    (('AU7',), 'the lids tighten'),
    (('AU10',), 'the upper lip rises'),
    (('AU12',), 'the lip corners rise'),
    (('AU15',), 'the lip corners fall'),
    (('AU20',), 'the lips stretch'),
    (('AU23',), 'the lips tighten'),
    (('AU26',), 'the jaw drops'),
    (('AU25',), 'the lips part'),
    (('AU17',), 'the chin pushes up'),
)
# If onset and offset differ by more than this factor, a caption says "quickly" and "slowly".
_FAST_OR_SLOW = 2.0


def _join_phrases(phrases: Sequence[str]) -> str:
    """Join phrases with commas and "and": 'a', 'a and b' or 'a, b and c'."""
    return ' and '.join([', '.join(phrases[:-1]), phrases[-1]] if len(phrases) > 1 else phrases)


def _describe_expression(e: Expression, most: int = 3) -> str:
    """Name the strongest action units of an expression, at most ``most``, and an uneven speed."""
    strongest = max(e.aus.values())
    said: set[str] = set()
    phrases: list[tuple[float, str]] = []
    for names, phrase in _PHRASES:
        if said.isdisjoint(names) and all(e.aus.get(n, 0.0) > 0.35 * strongest for n in names):
            said.update(names)
            phrases.append((-max(e.aus[n] for n in names), phrase))
    kept = {phrase for _, phrase in sorted(phrases)[:most]}
    words = _join_phrases([phrase for _, phrase in phrases if phrase in kept])
    if e.name == 'flash':
        return f'{words} for a moment'
    if e.offset > _FAST_OR_SLOW * e.onset:
        return f'{words} quickly and relax slowly'
    if e.onset > _FAST_OR_SLOW * e.offset:
        return f'{words} slowly and relax quickly'
    return words


def describe(spec: ClipSpec) -> str:
    """Describe in one English sentence how the face changes over a clip, without naming an emotion.

    An example is "The brows rise for a moment, then the cheeks rise and the lip corners rise."

    Args:
        spec: The parameters of the clip.

    Returns:
        The sentence.
    """
    words = [_describe_expression(e) for e in sorted(spec.expressions, key=lambda e: e.start)]
    sentence = ', then '.join(words) if words else 'the face stays at rest'
    if spec.syllables:
        sentence += ' while the mouth speaks'
    return sentence[0].upper() + sentence[1:] + '.'
