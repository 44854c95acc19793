"""Recognise the expressions in films, and write timelines, annotated films and a report.

    mmdfer predict film.mp4 --out results
    mmdfer predict films/*.mp4 --out results --config align_dfer_dfew --checkpoint epoch_100.pth

The face is found, followed and cropped, and a window of frames slides over the film. For each film
there are a JSON and a CSV file with the probabilities over time, a picture of the timeline and an
annotated film. report.html shows all films, and predictions.csv has one row for each. Without
--config, a small model is used that was trained on drawn faces and is not for people.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdfer.apis.inferencer import DFERInferencer
from mmdfer.cli.flags import add_detector_flags, command_parser
from mmdfer.cli.resumable import resumable
from mmdfer.errors import DFERError
from mmdfer.inference import open_film
from mmdfer.inference.inputs import find_films, read_boxes, read_clip_list
from mmdfer.inference.results import ResultFolder

SETTINGS = ('fps', 'stride', 'margin', 'size', 'all_faces')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_parser('predict')
    parser.add_argument(
        'inputs',
        nargs='*',
        metavar='INPUT',
        help='a video file, a folder of frames or of videos, a pattern such as "films/*.mp4", or '
        'the number of a camera, which is read until Ctrl-C',
    )
    parser.add_argument('--out', required=True, metavar='DIR', help='folder for the results')
    parser.add_argument(
        '--clips', metavar='FILE.csv', help='a list of further films, in the column clip'
    )
    parser.add_argument(
        '--config',
        default='align_dfer_synth',
        help='path or name of the config of the recognizer (default: %(default)s)',
    )
    parser.add_argument(
        '--checkpoint',
        help='a checkpoint that was trained with the config (default: the weights of the package, '
        'which exist for align_dfer_synth)',
    )
    parser.add_argument(
        '--fps',
        type=float,
        help='frames per second that are used. By default a window is as long as a clip that the '
        'checkpoint was trained on, or two seconds if that is not known',
    )
    parser.add_argument(
        '--stride', type=int, help='used frames between two windows (default: a quarter window)'
    )
    parser.add_argument('--device', help='for example cpu or cuda:0 (default: a GPU if any)')
    add_detector_flags(parser)
    parser.add_argument(
        '--boxes', metavar='FILE.csv', help='known boxes of the face: columns time, x1, y1, x2, y2'
    )
    parser.add_argument(
        '--all-faces', action='store_true', help='follow all faces (default: the largest one)'
    )
    parser.add_argument(
        '--margin', type=float, help='border around the face box, as a fraction of its longer side'
    )
    parser.add_argument('--size', type=int, help='side of the face crop in pixels')
    parser.add_argument('--classes', nargs='+', metavar='NAME', help='names of the classes')
    parser.add_argument('--no-video', action='store_true', help='write no annotated films')
    args = parser.parse_args(argv)
    if not args.inputs and not args.clips:
        parser.error('give an INPUT or --clips')
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Recognise the expressions of all inputs. The exit status is 1 if an input failed."""
    args = parse_args(argv)
    with resumable():
        failed = predict(args)
    if failed:
        sys.exit(1)


def predict(args: argparse.Namespace) -> int:
    """Write the results of all inputs, and return the number of inputs that failed."""
    films = find_films(args.inputs) + (read_clip_list(Path(args.clips)) if args.clips else [])
    boxes = None if args.boxes is None else read_boxes(Path(args.boxes))
    inferencer = DFERInferencer(
        args.config,
        args.checkpoint,
        args.device,
        args.detector,
        args.face_model,
        args.classes,
    )
    settings = {key: value for key in SETTINGS if (value := getattr(args, key)) is not None}
    announce(inferencer, settings)
    results = ResultFolder(Path(args.out), not args.no_video)
    try:
        for film in films:
            predict_one(inferencer, film, boxes, settings, results)
    finally:  # also after an interruption, so that what is done can be seen
        results.finish()
    print(f'Results in {results.path}; open {results.path / "report.html"}')
    failed = sum(bool(entry.error) for entry in results.entries)
    if failed:
        print(f'{failed} of {len(films)} inputs failed; see the errors above', file=sys.stderr)
    return failed


def announce(inferencer: DFERInferencer, settings: dict[str, Any]) -> None:
    """Print how long whole windows take if each is encoded again, and the note of all outputs."""
    model, chosen = inferencer.clip_model, inferencer.choose_settings(**settings)
    if not model.encodes_frames:
        seconds = model.time_window(chosen.size)
        minute = seconds * 60 * chosen.fps / chosen.stride
        print(
            f'The backbone reads whole windows of {model.window} frames, {seconds:.2f} s each: '
            f'about {minute:.0f} s for each minute of a face.',
            flush=True,
        )
    if inferencer.note:
        print(f'Note: {inferencer.note}.', flush=True)


def predict_one(
    inferencer: DFERInferencer,
    path: str,
    boxes: Any,
    settings: dict[str, Any],
    results: ResultFolder,
) -> None:
    """Write the results of one film, or print why it failed."""
    name = results.choose_name(path)
    try:
        film = open_film(path)
        recorded = inferencer.describe_settings(boxes, **settings)
        if results.find(name, path, film.identity(), recorded):
            print(f'{film.name}: already done')
            return
        timeline = inferencer.analyse(film, boxes, **settings)
        results.write(name, path, film, timeline)
    except DFERError as error:
        print(f'error: {error}', file=sys.stderr)
        results.write_failure(path, error)
    else:
        print(timeline)
