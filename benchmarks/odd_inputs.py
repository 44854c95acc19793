"""Give `mmdfer predict` about a hundred odd and damaged inputs, and check what it does with each.

    python -m benchmarks.odd_inputs

Each input must end in a result or in one line of error, the others must still be processed, and
nothing may take longer than a minute. The films of benchmarks/videos.py are among the inputs.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from benchmarks.films import write_film
from benchmarks.mmdfer_runs import ROOT
from benchmarks.videos import Studio
from mmdfer.synthetic.scene import draw_scene

MOST_SECONDS = 60


def make_inputs(folder: Path) -> Iterator[tuple[str, bool]]:
    """Make the inputs.

    Yields:
        The argument for the command, and whether it must have a result. A result may be empty.
    """
    studio = Studio(folder)
    studio.make_all()
    for film in studio.films:
        yield str(folder / film.name), film.numbers is not None
    scene = draw_scene(['happiness', 'anger'], seconds=1.0).frames
    yield from _make_scenes(folder, scene)
    yield from _make_folders(folder, scene)
    yield from _make_paths(folder)


def _make_scenes(folder: Path, scene: np.ndarray) -> Iterator[tuple[str, bool]]:
    """Make films of whole scenes that differ in what they show and in their size."""
    height, width = scene.shape[1:3]
    noise = np.random.default_rng(0).integers(0, 256, (10, height, width, 3), dtype=np.uint8)
    films = {
        'no_face': np.full_like(scene, 90),
        'noise': noise,
        'black': np.zeros_like(scene[:10]),
        'border_left': scene[:, :, 330:],
        'border_top': scene[:, 210:],
        'two_people': np.concatenate([scene, scene[:, :, ::-1]], 2),
        'three_people': np.concatenate([scene] * 3, 2),
        '4k': np.stack([cv2.resize(f, (3840, 2160)) for f in scene[:10]]),
        'portrait': np.ascontiguousarray(scene[:, :, 220:490]),
        'upside_down': scene[:, ::-1],
        'grey': scene.mean(3, keepdims=True).astype(np.uint8).repeat(3, 3),
        'tiny': np.stack([cv2.resize(f, (32, 24)) for f in scene]),
        'flat': scene[:, 200:216],
        'narrow': scene[:, :, 400:416],
        'one_frame': scene[:1],
        'two_frames': scene[:2],
        'face_for_a_moment': np.concatenate([scene[:5], np.full_like(scene, 90)]),
        'cuts': np.concatenate([scene[:8], noise[:8], scene[8:16], noise[:2], scene[16:24]]),
        'dark': (scene // 8).astype(np.uint8),
        'bright': np.clip(scene.astype(int) + 120, 0, 255).astype(np.uint8),
    }
    for name, frames in films.items():
        path = folder / f'{name}.mp4'
        height, width = (side // 2 * 2 for side in frames.shape[1:3])
        write_film(path, frames, (width, height))
        yield str(path), True


def _make_folders(folder: Path, scene: np.ndarray) -> Iterator[tuple[str, bool]]:
    """Make folders of frames, and a single picture."""
    for name, damage in (('frames', ''), ('damaged_frame', 'cut'), ('text_frame', 'text')):
        target = folder / name
        target.mkdir()
        for number, frame in enumerate(scene[:20], 1):
            cv2.imwrite(str(target / f'{number}.jpg'), frame[:, :, ::-1])
        if damage:
            content = (target / '7.jpg').read_bytes()[:900] if damage == 'cut' else b'text'
            (target / '7.jpg').write_bytes(content)
        yield str(target), True  # the nearest readable frame takes the place of a damaged one
    sizes = folder / 'frames_of_two_sizes'
    sizes.mkdir()
    for number, frame in enumerate(scene[:20], 1):
        shown = frame if number % 2 else frame[:240, :320]
        cv2.imwrite(str(sizes / f'{number}.png'), shown[:, :, ::-1])
    yield str(sizes), True
    cv2.imwrite(str(folder / 'picture.jpg'), scene[0][:, :, ::-1])
    yield str(folder / 'picture.jpg'), True
    (folder / 'nothing').mkdir()
    yield str(folder / 'nothing'), False


def _make_paths(folder: Path) -> Iterator[tuple[str, bool]]:
    """Make odd paths: links, names, a file without read permission, and addresses."""
    plain = (folder / 'plain.mp4').read_bytes()
    odd = ('"quoted".mp4', '<script>.mp4', 'ä ö ü.mp4', '🙂.mp4', 'no_suffix', '..mp4', ' .mp4')
    for name in (*odd, 'long' * 50 + '.mp4'):
        (folder / name).write_bytes(plain)
        yield str(folder / name), True
    (folder / 'link.mp4').symlink_to('plain.mp4')
    yield str(folder / 'link.mp4'), True
    (folder / 'loop.mp4').symlink_to('loop.mp4')
    (folder / 'dangling.mp4').symlink_to('gone')
    yield str(folder / 'loop.mp4'), False
    yield str(folder / 'dangling.mp4'), False
    if hasattr(os, 'mkfifo'):
        os.mkfifo(folder / 'fifo.mp4')
        yield str(folder / 'fifo.mp4'), False
    (folder / 'list.m3u8').write_text('#EXTM3U\nhttps://example.org/film.ts\n')
    yield str(folder / 'list.m3u8'), False
    (folder / 'table.csv').write_text('clip,label\nplain.mp4,x\n')
    yield str(folder / 'table.csv'), False
    yield str(folder / 'gone.mp4'), False
    yield str(folder / ('x' * 300)), False
    yield 'https://example.org/film.mp4', False
    yield 'rtsp://example.org/stream', False
    yield '73', False
    yield '', False


def main() -> None:
    """Run the command on all inputs, print the wrong ones, and exit with 1 if there are any."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, 'in')
        folder.mkdir()
        inputs = list(make_inputs(folder))
        command = [sys.executable, str(ROOT / 'tools' / 'predict.py'), '--out', f'{name}/out']
        start = time.perf_counter()
        done = subprocess.run(
            [*command, '--', *(path for path, _ in inputs)],
            capture_output=True,
            text=True,
            timeout=MOST_SECONDS * len(inputs),
        )
        seconds = time.perf_counter() - start
        with Path(name, 'out', 'predictions.csv').open(encoding='utf-8') as file:
            rows = list(csv.DictReader(file))
    wrong = [path for (path, good), row in zip(inputs, rows) if good == bool(row['error'])]
    errors = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    failed = sum(not good for _, good in inputs)
    print(f'{len(inputs)} inputs, {failed} of them damaged, in {seconds:.0f} s')
    print(f'{len(rows)} rows, {len(errors)} lines of error, exit status {done.returncode}')
    for line in errors:
        print(f'  {line}')
    for path in wrong:
        print(f'WRONG: {path}')
    right = len(rows) == len(inputs) and len(errors) == failed and done.returncode == 1
    if wrong or not right or 'Traceback' in done.stderr:
        sys.exit(done.stderr[-2000:] if 'Traceback' in done.stderr else 1)


if __name__ == '__main__':
    main()
