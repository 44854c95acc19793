"""Contact sheet of the synthetic benchmark: each class, and what only the order of frames tells."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import cv2
import numpy as np

from .emotions import CLASSES, ClipSpec, Expression, curves, reverse
from .faces import Identity, render

_COLUMNS, _CELL, _GAP, _MARGIN = 9, 96, 2, 150
_INK, _PAPER = (40, 40, 40), 255


def _frame(spec: ClipSpec, face: Identity, time: float) -> np.ndarray:
    """The frame at a time 0..1 of a clip, RGB, without camera noise."""
    values = curves(spec)[round(time * (spec.num_frames - 1))]
    return render(face, values, spec.shot(), time=time, size=_CELL)


def _moments(spec: ClipSpec) -> tuple[float, float, float]:
    """When the expression is coming, there and going; of a clip at rest: early, middle, late."""
    if not spec.expressions or spec.kind == 'rest':
        return 0.1, 0.5, 0.9
    e = max(spec.expressions, key=lambda e: e.start if e.name != 'flash' else -1.0)
    peak = e.start + e.onset + 0.5 * e.apex
    return e.start + 0.45 * e.onset, peak, min(1.0, e.start + e.onset + e.apex + 0.55 * e.offset)


def _clearest(specs: Iterable[ClipSpec]) -> list[ClipSpec]:
    """Clips without speech and blinks first, then the strongest expressions on the calmest faces.

    Raises:
        ValueError: if there is none.
    """

    def clarity(spec: ClipSpec) -> tuple[bool, float]:
        apexes = [max(e.aus.values()) for e in spec.expressions]
        return not (spec.syllables or spec.blinks), min(apexes, default=0.0) - 0.5 * sum(spec.rest)

    if not (clips := sorted(specs, key=clarity, reverse=True)):
        raise ValueError('too few clips to show every class and pair; make the benchmark larger')
    return clips


def _row(title: str, note: str, cells: Sequence[np.ndarray]) -> np.ndarray:
    """A labelled strip of frames."""
    row = np.full((_CELL + _GAP, _MARGIN + _COLUMNS * (_CELL + _GAP), 3), _PAPER, np.uint8)
    for i, cell in enumerate(cells):
        left = _MARGIN + i * (_CELL + _GAP)
        row[:_CELL, left : left + _CELL] = cell
    for text, height, scale in ((title, 44, 0.56), (note, 66, 0.4)):
        cv2.putText(row, text, (8, height), cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, 1, cv2.LINE_AA)
    return row


def _heading(text: str) -> np.ndarray:
    row = np.full((34, _MARGIN + _COLUMNS * (_CELL + _GAP), 3), _PAPER, np.uint8)
    cv2.putText(row, text, (8, 23), cv2.FONT_HERSHEY_SIMPLEX, 0.5, _INK, 1, cv2.LINE_AA)
    return row


def _class_row(label: int, specs: Sequence[ClipSpec], faces: dict[str, Identity]) -> np.ndarray:
    """Three clips of a class, of three faces: the expression coming, there, going."""
    kinds = ('plain', 'felt smile', 'rest')
    clips: dict[str, ClipSpec] = {}
    for spec in _clearest(s for s in specs if s.label == label and s.kind in kinds):
        clips.setdefault(spec.identity, spec)
    shown = [(spec, time) for spec in list(clips.values())[:3] for time in _moments(spec)]
    cells = [_frame(spec, faces[spec.identity], time) for spec, time in shown]
    return _row(CLASSES[label], 'onset, apex, offset', cells)


def _clip_row(spec: ClipSpec, title: str, note: str, face: Identity) -> np.ndarray:
    """Nine frames of a clip, evenly spaced."""
    times = (np.arange(_COLUMNS) + 0.5) / _COLUMNS
    return _row(title, note, [_frame(spec, face, float(t)) for t in times])


def _swapped(spec: ClipSpec) -> ClipSpec:
    """A sequence with its two expressions in the other order, each keeping its shape."""
    first, last = spec.expressions
    gap = last.start - (first.start + first.onset + first.apex + first.offset)
    length = last.onset + last.apex + last.offset
    moved: list[Expression] = [
        replace(last, start=first.start),
        replace(first, start=first.start + length + gap),
    ]
    return replace(spec, expressions=tuple(moved), label=CLASSES.index(first.name))


def contact_sheet(specs: Sequence[ClipSpec], faces: dict[str, Identity]) -> np.ndarray:
    """Draws the sheet.

    Args:
        specs (Sequence[ClipSpec]): clips of a benchmark.
        faces (dict[str, Identity]): its faces by name.

    Returns:
        np.ndarray: RGB image (height, width, 3), uint8.
    """
    rows = [_heading('One expression a clip: three faces of each class')]
    rows += [_class_row(i, specs, faces) for i in range(len(CLASSES))]
    pairs = (s for s in specs if s.kind == 'sequence' and s.expressions[0].name == 'sadness')
    pair = _clearest(pairs)[0]
    rows.append(
        _heading('Two expressions: the last is the label. The same frames in another order')
    )
    for spec in (pair, _swapped(pair)):
        names = [e.name for e in spec.expressions]
        rows.append(
            _clip_row(spec, CLASSES[spec.label], ', then '.join(names), faces[spec.identity])
        )
    smile = _clearest(s for s in specs if s.kind == 'felt smile' and len(s.expressions) == 1)[0]
    polite = replace(smile, expressions=tuple(reverse(e) for e in smile.expressions))
    rows.append(_heading('One smile: fast to come and slow to go is felt; the reverse is polite'))
    rows.append(_clip_row(smile, 'happiness', 'felt smile', faces[smile.identity]))
    rows.append(_clip_row(polite, 'neutral', 'polite smile', faces[smile.identity]))
    return np.concatenate(rows)
