"""What each clip of the synthetic benchmark shows: emotions as action units over time.

Which action units make an emotion follows EMFACS (Friesen and Ekman, "EMFACS-7: Emotional Facial
Action Coding System", 1983) and the emotion tables of Ekman, Friesen and Hager, "Facial Action
Coding System: Investigator's Guide" (2002). That felt smiles come fast and go slowly, polite ones
the reverse is a rule of this benchmark, made so that direction matters: not a finding about smiles.
docs/synthetic.md has the design in full.

Numbers are drawn with ``Generator.random`` alone, combined with + - * / only and rounded to six
decimals: clips are equal to the byte on every machine.
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

#: Single-labelled clips of each class in DFEW: the class imbalance copied here.
DFEW_TOTALS: tuple[int, ...] = (2445, 1894, 2669, 2173, 1469, 145, 902)

#: Action units of each emotion at full intensity.
EMOTION_AUS: dict[str, dict[str, float]] = {
    'happiness': {'AU6': 0.9, 'AU12': 1.0},
    'sadness': {'AU1': 1.0, 'AU4': 0.6, 'AU15': 0.95},
    'neutral': {},
    'anger': {'AU4': 1.0, 'AU5': 0.5, 'AU7': 0.75, 'AU23': 0.9},
    'surprise': {'AU1': 0.9, 'AU2': 0.9, 'AU5': 0.85, 'AU26': 0.8},
    'disgust': {'AU9': 1.0, 'AU10': 0.85},
    'fear': {'AU1': 0.9, 'AU2': 0.6, 'AU4': 0.7, 'AU5': 0.8, 'AU7': 0.3, 'AU20': 0.9, 'AU26': 0.4},
}

#: Action units that an emotion may bring along, each in half of its expressions.
OPTIONAL_AUS: dict[str, dict[str, float]] = {
    'happiness': {'AU25': 0.7},
    'sadness': {'AU17': 0.7},
    'neutral': {},
    'anger': {},
    'surprise': {'AU25': 0.6},
    'disgust': {'AU17': 0.5},
    'fear': {'AU25': 0.5},
}

#: Sequences per 11,697 clips (DFEW's total) of each pair **in each order**: A then B has B's label,
#: B then A has A's, equally often, so that a pair without its order says nothing about the label.
#: Together 42 % of every emotional class.
PAIR_WEIGHTS: dict[tuple[str, str], int] = {
    ('happiness', 'sadness'): 240,
    ('happiness', 'anger'): 423,
    ('sadness', 'anger'): 429,
    ('surprise', 'happiness'): 364,
    ('fear', 'surprise'): 253,
    ('fear', 'sadness'): 126,
    ('disgust', 'anger'): 61,
}

#: Share of the neutral clips that show a polite smile: a felt smile played backwards.
POLITE_SHARE = 0.30

#: Clips have MIN_FRAMES..MAX_FRAMES frames at FPS frames a second.
MIN_FRAMES, MAX_FRAMES, FPS = 24, 48, 25

#: Share of the training identities (the last ones) kept apart for tuning.
HELDOUT_SHARE = 0.2

# First words of the seeds: what a stream of random numbers is for.
_STREAM = {'identity': 1, 'plan': 2, 'clip': 3}
_SPLITS = ('train', 'test')


@dataclass(frozen=True)
class Expression:
    """One rise and fall of action units; times are fractions of the clip.

    ``name`` is an emotion or 'flash' (conversation, no emotion); ``aus`` the units at the apex.
    """

    name: str
    start: float
    onset: float
    apex: float
    offset: float
    aus: dict[str, float]


@dataclass(frozen=True)
class ClipSpec:
    """All parameters of a clip.

    ``kind`` is 'plain' (one expression), 'sequence' (two, the last is the label), 'felt smile',
    'polite smile' (the same backwards, labelled neutral) or 'rest' (neutral). ``part`` is 'fit',
    'heldout' (identities kept apart for tuning) or 'test'. ``rest`` is in the order of ``AUS``;
    ``syllables`` are (centre, width, AU25, AU26) and ``blinks`` (centre, width), times in fractions
    of the clip.
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
        """The video's path below the benchmark's root."""
        return f'videos/{self.split}/{self.id}.mp4'

    def shot(self) -> Shot:
        """How the clip is filmed: a function of ``seed`` alone."""
        return sample_shot(np.random.Generator(np.random.PCG64([self.seed, 0])))

    def camera(self) -> np.random.Generator:
        """Source of the clip's camera noise: a function of ``seed`` alone."""
        return np.random.Generator(np.random.PCG64([self.seed, 1]))

    def to_json(self) -> dict[str, Any]:
        """The parameters and the shot, of JSON types."""
        return asdict(self) | {'class': CLASSES[self.label], 'shot': asdict(self.shot())}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> 'ClipSpec':
        """The clip that :meth:`to_json` wrote."""
        values = {field.name: row[field.name] for field in fields(cls)}
        values['rest'] = tuple(values['rest'])
        values['expressions'] = tuple(Expression(**e) for e in values['expressions'])
        for name in ('syllables', 'blinks'):
            values[name] = tuple(tuple(row) for row in values[name])
        return cls(**values)


# Random numbers -----------------------------------------------------------------------------------


def _generator(*words: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(list(words)))


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return round(low + (high - low) * rng.random(), 6)


def _index(rng: np.random.Generator, count: int) -> int:
    return int(rng.random() * count)


def _shuffled(rng: np.random.Generator, items: Sequence[Any]) -> list[Any]:
    """Fisher-Yates on ``random`` alone, whose stream NumPy keeps."""
    items = list(items)
    for i in range(len(items) - 1, 0, -1):
        j = _index(rng, i + 1)
        items[i], items[j] = items[j], items[i]
    return items


# Which clips there are ----------------------------------------------------------------------------


def class_counts(num_clips: int) -> tuple[int, ...]:
    """Clips of each class: DFEW's totals scaled to ``num_clips`` by largest remainder."""
    total = sum(DFEW_TOTALS)
    counts = [num_clips * n // total for n in DFEW_TOTALS]
    by_remainder = sorted(
        range(len(counts)), key=lambda i: (-(num_clips * DFEW_TOTALS[i] % total), i)
    )
    for i in by_remainder[: num_clips - sum(counts)]:
        counts[i] += 1
    return tuple(counts)


def _plan(num_clips: int, rng: np.random.Generator) -> list[tuple[str, tuple[str, ...]]]:
    """Kind and expressions (the last is the label) of every clip of a split, in random order."""
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
    return _shuffled(rng, plan)


def part_of(split: str, index: int, num_identities: int) -> str:
    """'test', or whether a training identity is to 'fit' or 'heldout' (the last fifth)."""
    if split == 'test':
        return 'test'
    return 'fit' if index < num_identities - int(HELDOUT_SHARE * num_identities) else 'heldout'


def identity_name(split: str, index: int) -> str:
    """The name of a split's identity: 'train_007'."""
    return f'{split}_{index:03d}'


def make_identities(num_train: int, num_test: int, seed: int) -> dict[str, Identity]:
    """All identities by name, training before test, each of its own random stream."""
    return {
        identity_name(split, i): sample_identity(_generator(seed, _STREAM['identity'], s, i))
        for s, (split, count) in enumerate(zip(_SPLITS, (num_train, num_test), strict=True))
        for i in range(count)
    }


def make_specs(
    num_train: int, num_test: int, num_train_identities: int, num_test_identities: int, seed: int
) -> list[ClipSpec]:
    """Every clip of the benchmark, training before test.

    Raises:
        ValueError: if a split has clips but no identity.
    """
    identities = make_identities(num_train_identities, num_test_identities, seed)
    specs = []
    sizes = ((num_train, num_train_identities), (num_test, num_test_identities))
    for s, (split, (clips, people)) in enumerate(zip(_SPLITS, sizes, strict=True)):
        if clips < 1 or people < 1:
            raise ValueError(
                f'{split} needs at least one clip and one identity; got {clips}, {people}'
            )
        rng = _generator(seed, _STREAM['plan'], s)
        faces = _shuffled(rng, range(people))
        for i, (kind, shown) in enumerate(_plan(clips, rng)):
            person = faces[i % people]
            name = identity_name(split, person)
            specs.append(
                make_clip(
                    _generator(seed, _STREAM['clip'], s, i),
                    id=f'{i + 1:05d}',
                    split=split,
                    part=part_of(split, person, people),
                    kind=kind,
                    shown=shown,
                    identity=name,
                    face=identities[name],
                )
            )
    return specs


# What a clip shows --------------------------------------------------------------------------------


def make_clip(
    rng: np.random.Generator, *, kind: str, shown: tuple[str, ...], face: Identity, **where: Any
) -> ClipSpec:
    """Draws the parameters of one clip."""
    num_frames = MIN_FRAMES + _index(rng, MAX_FRAMES - MIN_FRAMES + 1)
    return ClipSpec(
        label=CLASSES.index(shown[-1]),
        kind=kind,
        num_frames=num_frames,
        seed=_index(rng, 2**31),
        rest=_clip_rest(rng, face.rest),
        expressions=_EXPRESSIONS[kind](rng, shown),
        syllables=_speech(rng, num_frames),
        blinks=_blinks(rng, num_frames),
        **where,
    )


def _clip_rest(rng: np.random.Generator, rest: tuple[float, ...]) -> tuple[float, ...]:
    """The identity's resting face, weakened by chance, with a mood of its own in some clips."""
    values = {
        name: round(r * _between(rng, 0.6, 1.0), 6) for name, r in zip(AUS, rest, strict=True)
    }
    for name in ('AU1', 'AU4', 'AU12', 'AU15'):
        if rng.random() < 0.35:
            values[name] = min(0.5, round(values[name] + _between(rng, 0.05, 0.30), 6))
    return tuple(values.values())


def _apex(
    rng: np.random.Generator, emotion: str, low: float = 0.45, high: float = 1.0
) -> dict[str, float]:
    """Action units of an emotion at an intensity in low..high, each varied a little."""
    intensity = _between(rng, low, high)
    aus = {
        name: round(w * intensity * _between(rng, 0.8, 1.0), 6)
        for name, w in EMOTION_AUS[emotion].items()
    }
    for name, weight in OPTIONAL_AUS[emotion].items():
        if rng.random() < 0.5:
            aus[name] = round(weight * intensity * _between(rng, 0.8, 1.0), 6)
    return aus


def _placed(
    rng: np.random.Generator, name: str, shape: tuple[float, float, float], aus: dict[str, float]
) -> Expression:
    """An expression of the given onset, apex and offset, anywhere in the clip."""
    start = _between(rng, 0.0, 1.0 - sum(shape))
    return Expression(name, start, *shape, aus)


def _flash(rng: np.random.Generator) -> Expression:
    """Conversation: brows raised for a moment, or a weak trace of some emotion."""
    if rng.random() < 0.5:
        height = _between(rng, 0.2, 0.55)
        aus = {'AU1': height, 'AU2': round(height * _between(rng, 0.7, 1.0), 6)}
    else:
        aus = _apex(
            rng,
            ('happiness', 'sadness', 'anger', 'disgust', 'surprise')[_index(rng, 5)],
            0.10,
            0.28,
        )
    shape = (_between(rng, 0.05, 0.10), _between(rng, 0.02, 0.10), _between(rng, 0.05, 0.10))
    return _placed(rng, 'flash', shape, aus)


def _plain(rng: np.random.Generator, shown: tuple[str, ...]) -> tuple[Expression, ...]:
    """One expression, fast or slow to come and to go; a conversational flash in some clips."""
    shape = (_between(rng, 0.06, 0.26), _between(rng, 0.06, 0.24), _between(rng, 0.06, 0.26))
    expression = _placed(rng, shown[-1], shape, _apex(rng, shown[-1]))
    return (expression, _flash(rng)) if rng.random() < 0.35 else (expression,)


def _felt_smile(rng: np.random.Generator, shown: tuple[str, ...]) -> tuple[Expression, ...]:
    """A smile that comes fast and goes slowly."""
    shape = (_between(rng, 0.06, 0.12), _between(rng, 0.05, 0.15), _between(rng, 0.32, 0.48))
    smile = _placed(rng, 'happiness', shape, _apex(rng, 'happiness'))
    return (smile, _flash(rng)) if rng.random() < 0.35 else (smile,)


def _polite_smile(rng: np.random.Generator, shown: tuple[str, ...]) -> tuple[Expression, ...]:
    """The exact time reverse of a felt smile."""
    return tuple(reverse(e) for e in _felt_smile(rng, shown))


def _sequence(rng: np.random.Generator, shown: tuple[str, ...]) -> tuple[Expression, ...]:
    """Two expressions one after the other, their shapes and intensities of one distribution."""
    shapes = [
        (_between(rng, 0.06, 0.10), _between(rng, 0.08, 0.17), _between(rng, 0.06, 0.10))
        for _ in shown
    ]
    first, last = (sum(shape) for shape in shapes)
    slack = 1.0 - first - last
    low, high = sorted((_between(rng, 0.0, slack), _between(rng, 0.0, slack)))
    starts = (low, round(high + first, 6))
    return tuple(
        Expression(name, start, *shape, _apex(rng, name))
        for name, start, shape in zip(shown, starts, shapes, strict=True)
    )


def _rest(rng: np.random.Generator, shown: tuple[str, ...]) -> tuple[Expression, ...]:
    """No expression, but none to three conversational flashes."""
    return tuple(_flash(rng) for _ in range(_index(rng, 4)))


_EXPRESSIONS = {
    'plain': _plain,
    'sequence': _sequence,
    'felt smile': _felt_smile,
    'polite smile': _polite_smile,
    'rest': _rest,
}


def reverse(e: Expression) -> Expression:
    """The expression played backwards: later, and its onset where its offset was."""
    start = max(0.0, round(1.0 - (e.start + e.onset + e.apex + e.offset), 6))
    return Expression(e.name, start, e.offset, e.apex, e.onset, e.aus)


def _speech(
    rng: np.random.Generator, num_frames: int
) -> tuple[tuple[float, float, float, float], ...]:
    """Syllables over part of the clip, in two clips of five: whatever the class."""
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


def _blinks(rng: np.random.Generator, num_frames: int) -> tuple[tuple[float, float], ...]:
    """None to two blinks of seven frames: whatever the class."""
    return tuple(
        (_between(rng, 0.0, 1.0), round(7.0 / num_frames, 6)) for _ in range(_index(rng, 3))
    )


# Over time ----------------------------------------------------------------------------------------


def _smooth(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, the smoothstep polynomial between."""
    x = np.minimum(np.maximum(x, 0.0), 1.0)
    return x * x * (3.0 - 2.0 * x)


def _rise_and_fall(t: np.ndarray, e: Expression) -> np.ndarray:
    """An expression's share of its apex at times t (T,)."""
    rise = _smooth((t - e.start) / e.onset)
    return rise - _smooth((t - (e.start + e.onset + e.apex)) / e.offset)


def _bump(t: np.ndarray, centre: float, width: float) -> np.ndarray:
    """A short rise and fall around ``centre`` at times t (T,)."""
    return _smooth(1.0 - np.abs(t - centre) * 2.0 / width)


def curves(spec: ClipSpec) -> np.ndarray:
    """The true action units of each frame.

    Args:
        spec (ClipSpec): the clip.

    Returns:
        np.ndarray: shape (num_frames, A), float32, in 0..1, in the order of ``AUS``.
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
_FAST_OR_SLOW = 2.0  # onset and offset differ in words from this ratio on


def _listed(phrases: Sequence[str]) -> str:
    """'a', 'a and b' or 'a, b and c'."""
    return ' and '.join([', '.join(phrases[:-1]), phrases[-1]] if len(phrases) > 1 else phrases)


def _expression_in_words(e: Expression, most: int = 3) -> str:
    """The strongest action units of an expression, and how it comes and goes if that is uneven."""
    strongest = max(e.aus.values())
    said: set[str] = set()
    phrases: list[tuple[float, str]] = []
    for names, phrase in _PHRASES:
        if said.isdisjoint(names) and all(e.aus.get(n, 0.0) > 0.35 * strongest for n in names):
            said.update(names)
            phrases.append((-max(e.aus[n] for n in names), phrase))
    kept = {phrase for _, phrase in sorted(phrases)[:most]}
    words = _listed([phrase for _, phrase in phrases if phrase in kept])
    if e.name == 'flash':
        return f'{words} for a moment'
    if e.offset > _FAST_OR_SLOW * e.onset:
        return f'{words} quickly and relax slowly'
    if e.onset > _FAST_OR_SLOW * e.offset:
        return f'{words} slowly and relax quickly'
    return words


def describe(spec: ClipSpec) -> str:
    """One English sentence of how the face changes over the clip; it names no emotion.

    Example: "The inner brows rise and the lip corners fall, then the cheeks and lip corners rise."
    """
    words = [_expression_in_words(e) for e in sorted(spec.expressions, key=lambda e: e.start)]
    sentence = ', then '.join(words) if words else 'the face stays at rest'
    if spec.syllables:
        sentence += ' while the mouth speaks'
    return sentence[0].upper() + sentence[1:] + '.'
