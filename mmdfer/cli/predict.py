"""Recognise the expressions in films, and write a timeline, a film and a report.

    mmdfer predict film.mp4 --out results
    mmdfer predict films/*.mp4 --config align_dfer_dfew --checkpoint epoch_100.pth --out results

For each input there are a JSON and a CSV file with the probabilities over time, a picture of the
timeline and an annotated film; report.html shows all inputs.
"""

from __future__ import annotations

import argparse
import csv
import glob
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdfer.apis.inferencer import DFERInferencer
from mmdfer.cli.flags import command_parser
from mmdfer.errors import DFERError, one_line_errors
from mmdfer.faces import DETECTORS, Box
from mmdfer.files import write_aside
from mmdfer.inference import Timeline, open_film
from mmdfer.inference.drawing import write_annotated_film
from mmdfer.inference.report import Entry, write_report


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_parser('predict')
    parser.add_argument(
        'inputs',
        nargs='+',
        metavar='INPUT',
        help='video file, folder of frames, pattern such as "films/*.mp4", or camera index',
    )
    parser.add_argument('--out', required=True, metavar='DIR', help='folder for the results')
    parser.add_argument('--config', default='align_dfer_synth', help='config of the recognizer')
    parser.add_argument('--checkpoint', help='checkpoint that was trained with the config')
    parser.add_argument('--fps', type=float, help='frames per second that are used')
    parser.add_argument('--stride', type=int, help='used frames between two results')
    parser.add_argument('--device', help='for example cpu or cuda:0 (default: a GPU if any)')
    parser.add_argument('--detector', choices=DETECTORS, default='centerface', help='face detector')
    parser.add_argument('--face-model', metavar='FILE', help='model file of the face detector')
    parser.add_argument(
        '--boxes', metavar='CSV', help='known boxes of the face: columns time, x1, y1, x2, y2'
    )
    parser.add_argument('--all-faces', action='store_true', help='follow all faces')
    parser.add_argument('--margin', type=float, help='border around the face box, 0.3 is 30 %%')
    parser.add_argument('--size', type=int, help='side in pixels of the face crop')
    parser.add_argument('--classes', nargs='+', metavar='NAME', help='names of the classes')
    parser.add_argument('--no-video', action='store_true', help='write no annotated film')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Recognise the expressions of all inputs. The exit status is 1 if an input failed."""
    args = parse_args(argv)
    with one_line_errors():
        failed = predict(args)
    if failed:
        sys.exit(1)


def predict(args: argparse.Namespace) -> int:
    """Write the results of all inputs, and return the number of inputs that failed."""
    inputs = expand(args.inputs)
    boxes = None if args.boxes is None else read_boxes(Path(args.boxes))
    inferencer = DFERInferencer(
        args.config,
        args.checkpoint,
        args.device,
        args.detector,
        args.face_model,
        args.classes,
    )
    names = ('fps', 'stride', 'margin', 'size')
    settings = {key: value for key in names if (value := getattr(args, key)) is not None}
    settings['all_faces'] = args.all_faces
    announce(inferencer, settings)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    entries, taken = [], set()
    for source in inputs:
        stem = unique_stem(source, taken)
        entries.append(predict_one(inferencer, source, out / stem, boxes, settings, args.no_video))
        write_text(out / 'report.html', write_report(entries))
    print(f'Results in {out}; open {out / "report.html"}')
    return sum(entry.timeline is None for entry in entries)


def announce(inferencer: DFERInferencer, settings: dict[str, Any]) -> None:
    """Print the note of the checkpoint, and a warning if each window is encoded anew."""
    if inferencer.note:
        print(inferencer.note)
    if not inferencer.clip_model.encodes_frames:
        stride = settings.get('stride', inferencer.settings.stride)
        print(
            f'The backbone reads whole windows, so each frame is encoded in '
            f'{inferencer.clip_model.window / stride:.1f} windows.'
        )


def predict_one(
    inferencer: DFERInferencer,
    source: str,
    target: Path,
    boxes: Sequence[tuple[float, Box]] | None,
    settings: dict[str, Any],
    no_video: bool,
) -> Entry:
    """Write the results of one input, or print why it failed."""
    try:
        timeline = inferencer.analyse(source, boxes, **settings)
        plot = draw(timeline)
        write_text(target.with_name(f'{target.name}.json'), timeline.to_json())
        write_text(target.with_name(f'{target.name}.csv'), timeline.to_csv())
        with write_aside(target.with_name(f'{target.name}.png')) as aside:
            aside.write_bytes(plot)
        film = ''
        opened = open_film(source)
        if not no_video and opened.repeatable and len(timeline):
            film = f'{target.name}.mp4'
            write_annotated_film(opened, timeline, target.with_name(film))
    except DFERError as error:
        print(f'error: {error}', file=sys.stderr)
        return Entry(source, error=str(error))
    print(timeline)
    return Entry(timeline.film, timeline, plot, film)


def draw(timeline: Timeline) -> bytes:
    """Return the plot of a timeline as PNG."""
    buffer = io.BytesIO()
    timeline.plot().savefig(buffer, format='png', dpi=110)
    return buffer.getvalue()


def expand(inputs: Sequence[str]) -> list[str]:
    """Return the inputs with patterns replaced by the files that match them.

    Raises:
        DFERError: If a pattern matches no file.
    """
    found: list[str] = []
    for text in inputs:
        if Path(text).exists() or not glob.has_magic(text):
            found.append(text)
            continue
        matches = sorted(glob.glob(text, recursive=True))
        if not matches:
            raise DFERError(f'{text}: no file matches this pattern; correct it')
        found += matches
    return found


def unique_stem(source: str, taken: set[str]) -> str:
    """Return a name for the files of an input that no other input has."""
    stem = Path(source).stem or 'film'
    if source.isdecimal():
        stem = f'camera_{source}'
    number, name = 1, stem
    while name in taken:
        number += 1
        name = f'{stem}_{number}'
    taken.add(name)
    return name


def read_boxes(path: Path) -> list[tuple[float, Box]]:
    """Read the boxes of a face from a CSV file with the columns time, x1, y1, x2 and y2.

    Raises:
        DFERError: If the file cannot be read, or if a column or a number is missing.
    """
    try:
        rows = list(csv.DictReader(path.read_text(encoding='utf-8-sig').splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise DFERError(f'{path}: cannot be read ({error})') from None
    boxes = []
    for line, row in enumerate(rows, 2):
        try:
            x1, y1, x2, y2 = (float(row[key]) for key in ('x1', 'y1', 'x2', 'y2'))
            boxes.append((float(row['time']), (x1, y1, x2, y2)))
        except (KeyError, TypeError, ValueError):
            raise DFERError(
                f'{path}, line {line}: needs a number in each of the columns time, x1, y1, x2, y2'
            ) from None
    if not boxes:
        raise DFERError(f'{path}: the file has no boxes')
    return sorted(boxes)


def write_text(path: Path, text: str) -> None:
    """Write a text file as a whole."""
    with write_aside(path) as aside:
        aside.write_text(text, encoding='utf-8')
