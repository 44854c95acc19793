"""Draw films of a face that moves through a scene and shows one expression after another."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from ..files import write_aside
from .domains import SHADED
from .emotions import CLASSES, FPS, ClipSpec, curves
from .faces import PARTS, Identity, render_parts
from .media import write_video
from .releases import sample_clip

WIDTH, HEIGHT = 640, 480
SIDE = 200  # of the square face in pixels
COLUMNS = ('time', 'x1', 'y1', 'x2', 'y2', 'label')


@dataclass
class Scene:
    """Hold a film with what it shows.

    Attributes:
        frames: The frames, RGB uint8 (T, 480, 640, 3), at 25 frames per second.
        boxes: The time in seconds and the box of the face in each frame: left, top, right and
            bottom edge in pixels.
        labels: The expression in each frame.
    """

    frames: np.ndarray
    boxes: list[tuple[float, tuple[float, float, float, float]]]
    labels: list[str]


def draw_scene(expressions: Sequence[str] = CLASSES, seed: int = 0, seconds: float = 3.0) -> Scene:
    """Draw one face that shows each expression for some seconds.

    Each expression takes its course once, as in a clip of the benchmark of this duration. The face
    moves slowly, off the centre of a blurred background.

    Args:
        expressions: The expressions in order.
        seed: Random seed of the face, its expressions and the background.
        seconds: Duration of each expression.
    """
    rng = np.random.default_rng(seed)
    tiles = rng.integers(90, 170, size=(HEIGHT // 40, WIDTH // 40), dtype=np.uint8)
    background = cv2.resize(tiles, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    background = cv2.cvtColor(background, cv2.COLOR_GRAY2RGB)
    pictures: list[np.ndarray] = []
    boxes: list[tuple[float, tuple[float, float, float, float]]] = []
    labels: list[str] = []
    face = None
    for expression in expressions:
        spec, own = sample_clip(expression, take=seed, seed=seed)
        face = face or own
        for picture, head in _draw_head(replace(spec, num_frames=round(seconds * FPS)), face):
            number = len(pictures)
            x = round(330 + 70 * np.sin(number / 60))
            y = round(170 + 40 * np.cos(number / 45))
            frame = background.copy()
            place = frame[y : y + SIDE, x : x + SIDE]
            place[:] = head * picture + (1 - head) * place
            pictures.append(frame)
            boxes.append((number / FPS, (x, y, x + SIDE, y + SIDE)))
            labels.append(expression)
    return Scene(np.stack(pictures), boxes, labels)


def _draw_head(spec: ClipSpec, face: Identity) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draw the frames of a clip (SIDE, SIDE, 3), and where each shows the head, (SIDE, SIDE, 1).

    The second array is 1 in the head and 0 in the background of the clip, with a soft edge.
    """
    for number, (picture, aus) in enumerate(zip(SHADED.frames(spec, face, SIDE), curves(spec))):
        time = number / (spec.num_frames - 1)
        parts, _ = render_parts(face, aus, spec.shot(), time=time, size=SIDE)
        head = (parts != PARTS.index('background')).astype(np.float32)
        yield picture, cv2.GaussianBlur(head, (5, 5), 0)[:, :, None]


def write_scene(path: Path, scene: Scene) -> Path:
    """Write a scene as a video, and its boxes and expressions as a CSV file beside it.

    Args:
        path: The video to write. Its name must end in ``.mp4``.
        scene: The scene.

    Returns:
        The path of the CSV file, which has the columns ``time``, ``x1``, ``y1``, ``x2``, ``y2`` and
        ``label``.
    """
    with write_aside(path) as aside:
        write_video(aside, scene.frames, (WIDTH, HEIGHT))
    table = path.with_suffix('.csv')
    with write_aside(table) as aside, aside.open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for (time, box), label in zip(scene.boxes, scene.labels):
            writer.writerow([f'{time:.2f}', *box, label])
    return table
