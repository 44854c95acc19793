"""Hold the expressions of a film over time, and write and plot them."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass
class Timeline:
    """Hold the classified windows of a film, in the order of time.

    Times without a face have no window, so that a timeline can have gaps.

    Attributes:
        film: Name of the film.
        classes: Names of the C classes.
        times: Time (N,) in seconds of the middle of each window.
        tracks: Number (N,) of the face in each window, counted from 1.
        probabilities: Probability (N, C) of each class.
        boxes: Left, top, right and bottom edge (N, 4) of the face at that time, in pixels.
        face_scores: Confidence (N,) of the face detector, 0..1.
        settings: Settings that led to the result, as JSON values.
        source: What :meth:`Film.identity` returned for the film.
        note: What readers of every output must know, such as that the model saw drawn faces only.
        seconds: Time of the last frame.
        frame_times: Time (M,) of every face in the frames that were used.
        frame_tracks: Number (M,) of these faces.
        frame_boxes: Boxes (M, 4) of these faces.
    """

    film: str
    classes: tuple[str, ...]
    times: np.ndarray
    tracks: np.ndarray
    probabilities: np.ndarray
    boxes: np.ndarray
    face_scores: np.ndarray
    settings: dict[str, Any] = field(default_factory=dict)
    note: str = ''
    seconds: float = 0.0
    frame_times: np.ndarray = field(default_factory=lambda: np.zeros(0))
    frame_tracks: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    frame_boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    source: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.times)

    @property
    def labels(self) -> list[str]:
        """Return the most probable class of each window."""
        return [self.classes[i] for i in self.probabilities.argmax(1)] if len(self) else []

    @property
    def period(self) -> float:
        """Return the seconds between two windows."""
        return float(self.settings['stride'] / self.settings['fps'])

    def mean(self) -> np.ndarray | None:
        """Return the mean probability (C,) of each class for the face that is shown longest.

        It is None if there is no face.
        """
        if not len(self):
            return None
        longest = np.bincount(self.tracks).argmax()
        return self.probabilities[self.tracks == longest].mean(0)

    def spans(self) -> list[tuple[int, float, float, str, float]]:
        """Join consecutive windows of one class.

        Returns:
            For each span the number of the face, the begin and the end in seconds, the class, and
            its mean probability.
        """
        found: list[tuple[int, float, float, str, float]] = []
        half = self.period / 2
        for track in dict.fromkeys(self.tracks.tolist()):
            rows = np.flatnonzero(self.tracks == track)
            best = self.probabilities[rows].argmax(1)
            far = np.diff(self.times[rows]) > 1.5 * self.period
            cuts = np.flatnonzero((np.diff(best) != 0) | far) + 1
            for part in np.split(np.arange(len(rows)), cuts):
                label, own = best[part[0]], rows[part]
                begin = max(0.0, self.times[own[0]] - half)
                end = self.times[own[-1]] + half
                mean = float(self.probabilities[own, label].mean())
                found.append((int(track), begin, end, self.classes[label], mean))
        return sorted(found, key=lambda span: (span[1], span[0]))

    def __str__(self) -> str:
        """Return a table of the spans, one line each."""
        lines = [f'{self.film}: {len(self)} windows' if len(self) else f'{self.film}: no face']
        several = len(set(self.tracks.tolist())) > 1
        for track, begin, end, label, mean in self.spans():
            who = f'  face {track}' if several else ''
            lines.append(f'  {begin:7.2f} - {end:7.2f} s{who}  {label:12} {100 * mean:3.0f} %')
        return '\n'.join(lines + ([self.note] if self.note else []))

    __repr__ = __str__

    def rows(self) -> list[dict[str, Any]]:
        """Return one dict for each window: time, track, box, label, confidence, probabilities."""
        return [
            dict(
                time=round(float(time), 3),
                track=int(track),
                **dict(zip(('x1', 'y1', 'x2', 'y2'), (round(float(edge), 1) for edge in box))),
                face_score=round(float(score), 4),
                label=self.classes[int(values.argmax())],
                confidence=round(float(values.max()), 4),
                **{name: round(float(p), 4) for name, p in zip(self.classes, values)},
            )
            for time, track, box, score, values in zip(
                self.times,
                self.tracks,
                self.boxes,
                self.face_scores,
                self.probabilities,
                strict=True,
            )
        ]

    def to_dataframe(self) -> pandas.DataFrame:
        """Return the windows as a pandas DataFrame, with the columns of :meth:`rows`."""
        import pandas  # an import takes half a second, and most uses do not need it

        return pandas.DataFrame(self.rows(), columns=self._columns())

    def to_csv(self) -> str:
        """Return the windows as the text of a CSV file, with the note in a last column."""
        out = io.StringIO()
        extra = ['note'] if self.note else []
        writer = csv.DictWriter(out, [*self._columns(), *extra], lineterminator='\n')
        writer.writeheader()
        writer.writerows(row | ({'note': self.note} if self.note else {}) for row in self.rows())
        return out.getvalue()

    def to_json(self) -> str:
        """Return the settings, the spans and the windows as the text of a JSON file."""
        keys = ('track', 'begin', 'end', 'label', 'confidence')
        spans = [
            dict(
                zip(
                    keys,
                    (span[0], round(span[1], 3), round(span[2], 3), span[3], round(span[4], 4)),
                )
            )
            for span in self.spans()
        ]
        content = dict(
            film=self.film,
            source=self.source,
            note=self.note,
            seconds=round(self.seconds, 3),
            classes=list(self.classes),
            settings=self.settings,
            spans=spans,
            windows=self.rows(),
        )
        return json.dumps(content, indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Timeline:
        """Return the timeline that :meth:`to_json` wrote, without the boxes between windows.

        Raises:
            ValueError: If the text is not JSON.
            KeyError: If an entry is missing.
        """
        content = json.loads(text)
        rows, classes = content['windows'], tuple(content['classes'])
        edges = ('x1', 'y1', 'x2', 'y2')
        return cls(
            film=content['film'],
            classes=classes,
            times=np.array([row['time'] for row in rows], float),
            tracks=np.array([row['track'] for row in rows], int),
            probabilities=np.array([[row[c] for c in classes] for row in rows]).reshape(
                -1, len(classes)
            ),
            boxes=np.array([[row[edge] for edge in edges] for row in rows]).reshape(-1, 4),
            face_scores=np.array([row['face_score'] for row in rows], float),
            settings=content['settings'],
            note=content['note'],
            seconds=content['seconds'],
            source=content['source'],
        )

    def plot(self) -> Figure:
        """Draw the probabilities over time, and a strip with the most probable class, per face."""
        return plot_timeline(self)

    def _columns(self) -> list[str]:
        edges = ['x1', 'y1', 'x2', 'y2']
        return ['time', 'track', *edges, 'face_score', 'label', 'confidence', *self.classes]


# ---------------------------------------------------------------- the plot


def class_color(number: int) -> tuple[int, int, int]:
    """Return the RGB color of a class, the same in plots, films and reports."""
    import matplotlib  # takes a second, and most uses do not need it

    red, green, blue, _ = matplotlib.colormaps['tab20']((2 * number + number // 10) % 20)
    return round(255 * red), round(255 * green), round(255 * blue)


def plot_timeline(timeline: Timeline) -> Figure:
    """Draw the probabilities of all classes over time.

    Each face has two rows: a strip with the most probable class, and a curve for each class. Times
    without a face stay empty.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    tracks = list(dict.fromkeys(timeline.tracks.tolist())) or [1]
    figure = Figure(figsize=(11, 0.8 + 2.6 * len(tracks)), layout='constrained')
    axes = figure.subplots(
        2 * len(tracks), 1, sharex=True, squeeze=False, height_ratios=[1, 6] * len(tracks)
    )[:, 0]
    for place, track in enumerate(tracks):
        strip, curves = axes[2 * place : 2 * place + 2]
        _draw_strip(strip, timeline, track)
        _draw_curves(curves, timeline, track)
        if len(tracks) > 1:
            strip.set_title(f'face {track}', loc='left', fontsize=9)
    axes[-1].set_xlabel('time in seconds')
    axes[-1].set_xlim(0, max(timeline.seconds, timeline.period))
    handles = [
        Line2D([], [], color=_fraction(number), label=name)
        for number, name in enumerate(timeline.classes)
    ]
    figure.legend(handles=handles, loc='outside right center', frameon=False)
    figure.suptitle(timeline.film + (f'\n{timeline.note}' if timeline.note else ''), fontsize=10)
    return figure


def _draw_strip(axes: Axes, timeline: Timeline, track: int) -> None:
    """Draw a bar for each span of one face, in the color of its class."""
    for number, begin, end, label, _ in timeline.spans():
        if number == track:
            color = _fraction(timeline.classes.index(label))
            axes.axvspan(begin, end, color=color, linewidth=0)
    axes.set_yticks([])


def _draw_curves(axes: Axes, timeline: Timeline, track: int) -> None:
    """Draw the probability of each class for one face, interrupted where the face is not shown."""
    rows = np.flatnonzero(timeline.tracks == track)
    times, values = timeline.times[rows], timeline.probabilities[rows]
    gaps = np.flatnonzero(np.diff(times) > 1.5 * timeline.period) + 1
    times = np.insert(times, gaps, np.nan)
    values = np.insert(values, gaps, np.nan, axis=0)
    for number in range(len(timeline.classes)):
        axes.plot(times, values[:, number], color=_fraction(number), linewidth=1.5)
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel('probability')
    axes.grid(alpha=0.3)


def _fraction(number: int) -> tuple[float, float, float]:
    red, green, blue = class_color(number)
    return red / 255, green / 255, blue / 255
