"""Match the class names of two datasets, which may spell the same expression differently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmdfer.errors import DFERError

#: The name of each expression in this package, and other words for it. The nouns are the class
#: names of DFEW and MAFW. 'happy', 'sad' and 'angry' are folders of FERV39k. The other adjectives
#: are our choice.
SPELLINGS: dict[str, tuple[str, ...]] = {
    'happiness': ('happy',),
    'sadness': ('sad',),
    'neutral': (),
    'anger': ('angry',),
    'surprise': ('surprised',),
    'disgust': ('disgusted',),
    'fear': ('fearful',),
    'contempt': ('contemptuous',),
    'anxiety': ('anxious',),
    'helplessness': ('helpless',),
    'disappointment': ('disappointed',),
}

#: The name in this package by each word for the expression.
WORDS = {word: name for name, others in SPELLINGS.items() for word in (name, *others)}


@dataclass(frozen=True)
class ClassMatch:
    """Say which classes of a dataset are classes of a model.

    Attributes:
        labels: For each class of the dataset, the index of the same class of the model, or None if
            the model does not have the class.
        shared: Names of the classes that both have, as the model names them and in its order.
        left_out: Names of the dataset's other classes.
        unused: Names of the model's other classes.
    """

    labels: tuple[int | None, ...]
    shared: tuple[str, ...]
    left_out: tuple[str, ...]
    unused: tuple[str, ...]


def standard_name(name: str) -> str | None:
    """Return the name of a class in this package, or None if ``SPELLINGS`` does not have it.

    Case does not matter. A compound class such as 'Angry_Disgusted' has its parts in alphabetical
    order, because MAFW's compound classes are sets of expressions.

    Args:
        name: The name of a class.
    """
    parts = [WORDS.get(part.strip().lower()) for part in name.split('_')]
    known = [part for part in parts if part is not None]
    return '_'.join(sorted(known)) if len(known) == len(parts) else None


def match_classes(model: Sequence[str], dataset: Sequence[str]) -> ClassMatch:
    """Match the classes of a dataset with those of a model by ``SPELLINGS``.

    A name that the table does not have is matched only with the same name, in upper or lower case.

    Args:
        model: Class names of the model, in the order of its logits.
        dataset: Class names of the dataset, in the order of its labels.

    Returns:
        The match.

    Raises:
        DFERError: If neither the table nor the other side has a class, if two classes of one side
            are the same expression, or if fewer than two classes are shared.
    """
    sides = {'model': model, 'dataset': dataset}
    keys = {side: _name_all(side, names) for side, names in sides.items()}
    for side, other in (('model', 'dataset'), ('dataset', 'model')):
        unknown = [
            n for n in sides[side] if standard_name(n) is None and _key(n) not in keys[other]
        ]
        if unknown:
            raise DFERError(
                f'the class {", ".join(map(repr, unknown))} of the {side} is not in the table of '
                f'class names ({", ".join(SPELLINGS)}), and is no class of the {other} '
                f'({", ".join(sides[other])}); rename it in the classes of the {side}'
            )
    index = {key: number for number, key in enumerate(keys['model'])}
    labels = tuple(index.get(key) for key in keys['dataset'])
    shared = tuple(name for number, name in enumerate(model) if number in labels)
    if len(shared) < 2:
        raise DFERError(
            f'the model ({", ".join(model)}) and the dataset ({", ".join(dataset)}) share '
            f'{len(shared)} classes, but a test requires at least two; give another dataset'
        )
    return ClassMatch(
        labels,
        shared,
        tuple(name for name, label in zip(dataset, labels, strict=True) if label is None),
        tuple(name for name in model if name not in shared),
    )


def _key(name: str) -> str:
    """Return what the names of the same class have in common."""
    return standard_name(name) or name.strip().lower()


def _name_all(side: str, names: Sequence[str]) -> list[str]:
    """Return the key of each name, which must differ.

    Raises:
        DFERError: If two names have the same key.
    """
    keys = [_key(name) for name in names]
    for number, key in enumerate(keys):
        if key in keys[:number]:
            raise DFERError(
                f'the classes {names[keys.index(key)]!r} and {names[number]!r} of the {side} are '
                'the same expression; rename one of them'
            )
    return keys
