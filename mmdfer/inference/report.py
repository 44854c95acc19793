"""Write one HTML page about the timelines of several films."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote

from mmdfer.inference.timeline import Timeline

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Facial expressions over time</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem }}
img, video {{ max-width: 100% }}
table {{ border-collapse: collapse; margin: 1rem 0 }}
td, th {{ padding: .2rem .8rem; text-align: left; border-bottom: 1px solid #ddd }}
.note {{ background: #fff3cd; padding: .5rem 1rem }}
.failed {{ color: #a00 }}
</style>
<h1>Facial expressions over time</h1>
{body}
</html>
"""


@dataclass
class Entry:
    """Hold what the report shows of one input.

    Attributes:
        name: Name of the input.
        timeline: The result, or None if the input failed.
        plot: The plot as a PNG.
        film: Name of the annotated film beside the report, or an empty string.
        error: Why the input failed, or an empty string.
    """

    name: str
    timeline: Timeline | None = None
    plot: bytes = b''
    film: str = ''
    error: str = ''


def write_report(entries: Sequence[Entry]) -> str:
    """Return the page. The plots are part of it; annotated films are linked."""
    notes = dict.fromkeys(e.timeline.note for e in entries if e.timeline and e.timeline.note)
    parts = [f'<p class="note">{escape(note)}</p>' for note in notes]
    for entry in entries:
        parts.append(f'<h2>{escape(entry.name)}</h2>')
        if entry.timeline is None:
            parts.append(f'<p class="failed">{escape(entry.error)}</p>')
            continue
        parts += _describe(entry, entry.timeline)
    return _PAGE.format(body='\n'.join(parts))


def _describe(entry: Entry, timeline: Timeline) -> list[str]:
    """Return the plot, the film and the table of spans of one timeline."""
    if not len(timeline):
        return [f'<p>No face was found in {timeline.seconds:.1f} seconds.</p>']
    plot = base64.b64encode(entry.plot).decode()
    parts = [f'<img alt="Probability of each class over time" src="data:image/png;base64,{plot}">']
    if entry.film:
        parts.append(f'<video controls src="{escape(quote(entry.film))}"></video>')
    out = io.StringIO()
    out.write('<table><tr><th>face<th>from<th>to<th>expression<th>mean probability')
    for track, begin, end, label, mean in timeline.spans():
        out.write(f'<tr><td>{track}<td>{begin:.2f} s<td>{end:.2f} s<td>{escape(label)}')
        out.write(f'<td>{100 * mean:.0f} %')
    out.write('</table>')
    return [*parts, out.getvalue()]
