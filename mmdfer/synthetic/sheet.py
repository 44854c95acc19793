"""Draw a contact sheet of the synthetic benchmark.

The sheet shows frames of each class, and pairs of clips that differ only in the order of frames.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import cv2
import numpy as np

from .domains import SHADED, Domain
from .emotions import CLASSES, ClipSpec, Expression, curves, reverse
from .faces import Identity

_COLUMNS, _CELL, _GAP, _MARGIN = 9, 96, 2, 150
_INK, _PAPER = (40, 40, 40), 255


def _draw_frame(domain: Domain, spec: ClipSpec, face: Identity, time: float) -> np.ndarray:
    """Draw the frame at a time in 0..1 of a clip, RGB uint8 (H, W, 3), without camera noise."""
    number = round(time * (spec.num_frames - 1))
    return domain.draw(spec, face, curves(spec)[number], number, _CELL)


def _find_moments(spec: ClipSpec) -> tuple[float, float, float]:
    """Return the times in 0..1 of onset, apex and offset of the clip's expression.

    For a clip at rest, the times are near the start, in the middle and near the end.
    """
    if not spec.expressions or spec.kind == 'rest':
        return 0.1, 0.5, 0.9
    e = max(spec.expressions, key=lambda e: e.start if e.name != 'flash' else -1.0)
    peak = e.start + e.onset + 0.5 * e.apex
    return e.start + 0.45 * e.onset, peak, min(1.0, e.start + e.onset + e.apex + 0.55 * e.offset)


def _sort_by_clarity(specs: Iterable[ClipSpec]) -> list[ClipSpec]:
    """Sort clips so that the clips with the clearest expressions come first.

    Clips without speech and blinks come before the others. Among them, clips with strong
    expressions on faces with weak resting expressions come first.

    Raises:
        ValueError: If there are no clips.
    """

    def clarity(spec: ClipSpec) -> tuple[bool, float]:
        apexes = [max(e.aus.values()) for e in spec.expressions]
        return not (spec.syllables or spec.blinks), min(apexes, default=0.0) - 0.5 * sum(spec.rest)

    if not (clips := sorted(specs, key=clarity, reverse=True)):
        raise ValueError(
            'the contact sheet needs a clip of every class and a pair of expressions; make the '
            'benchmark larger'
        )
    return clips


def _draw_row(title: str, note: str, cells: Sequence[np.ndarray]) -> np.ndarray:
    """Draw a row of frames with a title and a note at its left."""
    row = np.full((_CELL + _GAP, _MARGIN + _COLUMNS * (_CELL + _GAP), 3), _PAPER, np.uint8)
    for i, cell in enumerate(cells):
        left = _MARGIN + i * (_CELL + _GAP)
        row[:_CELL, left : left + _CELL] = cell
    for text, height, scale in ((title, 44, 0.56), (note, 66, 0.4)):
        cv2.putText(row, text, (8, height), cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, 1, cv2.LINE_AA)
    return row


def _draw_heading(text: str) -> np.ndarray:
    """Draw a line of text over the full width of the sheet."""
    row = np.full((34, _MARGIN + _COLUMNS * (_CELL + _GAP), 3), _PAPER, np.uint8)
    cv2.putText(row, text, (8, 23), cv2.FONT_HERSHEY_SIMPLEX, 0.5, _INK, 1, cv2.LINE_AA)
    return row


def _draw_class_row(
    domain: Domain, label: int, specs: Sequence[ClipSpec], faces: dict[str, Identity]
) -> np.ndarray:
    """Draw onset, apex and offset of three clips of a class, which show three faces."""
    kinds = ('plain', 'felt smile', 'rest')
    clips: dict[str, ClipSpec] = {}
    for spec in _sort_by_clarity(s for s in specs if s.label == label and s.kind in kinds):
        clips.setdefault(spec.identity, spec)
    shown = [(spec, time) for spec in list(clips.values())[:3] for time in _find_moments(spec)]
    cells = [_draw_frame(domain, spec, faces[spec.identity], time) for spec, time in shown]
    return _draw_row(CLASSES[label], 'onset, apex, offset', cells)


def _draw_clip_row(
    domain: Domain, spec: ClipSpec, title: str, note: str, face: Identity
) -> np.ndarray:
    """Draw nine evenly spaced frames of a clip."""
    times = (np.arange(_COLUMNS) + 0.5) / _COLUMNS
    return _draw_row(title, note, [_draw_frame(domain, spec, face, float(t)) for t in times])


def _swap_expressions(spec: ClipSpec) -> ClipSpec:
    """Return a clip of two expressions with their order swapped and their shapes unchanged."""
    first, last = spec.expressions
    gap = last.start - (first.start + first.onset + first.apex + first.offset)
    length = last.onset + last.apex + last.offset
    moved: list[Expression] = [
        replace(last, start=first.start),
        replace(first, start=first.start + length + gap),
    ]
    return replace(spec, expressions=tuple(moved), label=CLASSES.index(first.name))


def contact_sheet(
    specs: Sequence[ClipSpec], faces: dict[str, Identity], domain: Domain = SHADED
) -> np.ndarray:
    """Draw the contact sheet of a benchmark.

    Args:
        specs: The clips of the benchmark.
        faces: The faces of the benchmark by name.
        domain: The domain of the clips.

    Returns:
        The sheet, RGB uint8 (H, W, 3).

    Raises:
        ValueError: If the benchmark has too few clips to show every class and pair.
    """
    rows = [_draw_heading('One expression per clip: three faces of each class')]
    rows += [_draw_class_row(domain, i, specs, faces) for i in range(len(CLASSES))]
    pairs = (s for s in specs if s.kind == 'sequence' and s.expressions[0].name == 'sadness')
    pair = _sort_by_clarity(pairs)[0]
    rows.append(
        _draw_heading('Two expressions: the last is the label. The same frames in another order')
    )
    for spec in (pair, _swap_expressions(pair)):
        names = [e.name for e in spec.expressions]
        title, note = CLASSES[spec.label], ', then '.join(names)
        rows.append(_draw_clip_row(domain, spec, title, note, faces[spec.identity]))
    smiles = (s for s in specs if s.kind == 'felt smile' and len(s.expressions) == 1)
    smile = _sort_by_clarity(smiles)[0]
    face = faces[smile.identity]
    polite = replace(smile, expressions=tuple(reverse(e) for e in smile.expressions))
    rows.append(
        _draw_heading(
            'A felt smile has a fast onset and a slow offset. A polite smile is its reverse'
        )
    )
    rows.append(_draw_clip_row(domain, smile, 'happiness', 'felt smile', face))
    rows.append(_draw_clip_row(domain, polite, 'neutral', 'polite smile', face))
    return np.concatenate(rows)
