"""Write the results of films to a folder, and find those of an earlier run."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdfer.errors import DFERError
from mmdfer.files import write_aside, write_text
from mmdfer.inference.drawing import write_annotated_film
from mmdfer.inference.film import Film
from mmdfer.inference.inputs import choose_name
from mmdfer.inference.report import Entry, write_report
from mmdfer.inference.timeline import Timeline

_LONGEST = 80  # characters of a name; file systems allow 255 bytes with suffix


class ResultFolder:
    """Write the files of each film, and a report and a table of all films.

    A film has the files ``NAME.json``, ``NAME.csv``, ``NAME.png`` and ``NAME.mp4``. The JSON file
    is written last, so that a film with a JSON file is complete. ``report.html`` and
    ``predictions.csv`` list all films; :meth:`finish` writes them.

    Args:
        path: The folder, which is created if it is missing.
        video: Whether to write annotated films.
    """

    def __init__(self, path: Path, video: bool) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path, self.video = path, video
        self.entries: list[Entry] = []
        self._names: set[str] = set()

    def choose_name(self, film: str) -> str:
        """Return a name for the files of a film that no other film has.

        Args:
            film: The path of the film, or the number of a camera.
        """
        stem = f'camera_{film}' if film.isdecimal() else Path(film).stem[:_LONGEST] or 'film'
        return choose_name(stem, self._names)

    def find(
        self, name: str, path: str, source: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> bool:
        """Take over the result of an earlier run, if it has the same source and settings.

        Args:
            name: The name of the film's files.
            path: The path of the film, for the report.
            source: What :meth:`Film.identity` returned.
            settings: The settings of this run, as they would be recorded.

        Returns:
            Whether there is such a result.
        """
        json_file, plot = self.path / f'{name}.json', self.path / f'{name}.png'
        if not source or not json_file.is_file() or not plot.is_file():
            return False
        try:
            timeline = Timeline.from_json(json_file.read_text(encoding='utf-8'))
        except (ValueError, KeyError, TypeError):
            return False  # a file of another program, or of another version
        film = f'{name}.mp4' if (self.path / f'{name}.mp4').is_file() else ''
        lacks_video = self.video and len(timeline) > 0 and not film
        if timeline.source != source or timeline.settings != settings or lacks_video:
            return False
        self.entries.append(Entry(path, timeline, plot.read_bytes(), film))
        return True

    def write(self, name: str, path: str, film: Film, timeline: Timeline) -> None:
        """Write the files of a film.

        Args:
            name: The name of the files.
            path: The path of the film, for the report.
            film: The film, which is read again for the annotated film.
            timeline: The result.

        Raises:
            DFERError: If a file cannot be written.
        """
        video = f'{name}.mp4' if self.video and film.repeatable and len(timeline) else ''
        if video:
            write_annotated_film(film, timeline, self.path / video)
        plot = draw_png(timeline)
        with write_aside(self.path / f'{name}.png') as aside:
            aside.write_bytes(plot)
        write_text(self.path / f'{name}.csv', timeline.to_csv())
        write_text(self.path / f'{name}.json', timeline.to_json())
        self.entries.append(Entry(path, timeline, plot, video))

    def write_failure(self, path: str, error: DFERError) -> None:
        """Record that a film could not be read or its results not be written."""
        self.entries.append(Entry(path, error=str(error)))

    def finish(self) -> None:
        """Write the report and the table of all films so far."""
        write_text(self.path / 'report.html', write_report(self.entries))
        write_text(self.path / 'predictions.csv', write_table(self.entries))


def draw_png(timeline: Timeline) -> bytes:
    """Return the plot of a timeline as a PNG file."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The name of a film may have letters that matplotlib's font lacks.
        warnings.filterwarnings('ignore', 'Glyph .* missing from font')
        timeline.plot().savefig(buffer, format='png', dpi=110)
    return buffer.getvalue()


def write_table(entries: list[Entry]) -> str:
    """Return a CSV file with one row for each film.

    The row has the class with the highest mean probability over all windows of the face that is
    shown longest, the mean probabilities, the number of faces and windows, and why a film failed.
    """
    classes = list(dict.fromkeys(c for e in entries if e.timeline for c in e.timeline.classes))
    columns = ['film', 'label', 'confidence', *classes, 'windows', 'faces', 'error', 'note']
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval='', lineterminator='\n')
    writer.writeheader()
    for entry in entries:
        writer.writerow(dict(film=entry.name, error=entry.error, **_summarise(entry.timeline)))
    return out.getvalue()


def _summarise(timeline: Timeline | None) -> dict[str, Any]:
    """Return the columns of a film's row that its timeline gives."""
    if timeline is None:
        return {}
    row: dict[str, Any] = dict(windows=len(timeline), note=timeline.note)
    row['faces'] = len(set(timeline.tracks.tolist()))
    if (mean := timeline.mean()) is not None:
        best = int(mean.argmax())
        row |= dict(label=timeline.classes[best], confidence=round(float(mean[best]), 4))
        row |= {name: round(float(p), 4) for name, p in zip(timeline.classes, mean)}
    return row
