"""Films of a drawn face that moves through a scene and shows known expressions."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mmdfer.faces import Box
from mmdfer.synthetic.benchmark import frames
from mmdfer.synthetic.emotions import FPS
from mmdfer.synthetic.releases import sample_clip

WIDTH, HEIGHT, SIDE = 640, 480, 200


@dataclass
class Scene:
    """Hold the frames of a scene, (T, H, W, 3), and for each its box and its expression."""

    frames: np.ndarray
    boxes: list[tuple[float, Box]]
    labels: list[str]


def draw_scene(expressions: list[str], seed: int = 0, seconds: float = 3.0) -> Scene:
    """Draw one face that shows each expression for some seconds, again and again.

    The face is drawn as in the benchmark and pasted into a background of blurred noise, off its
    centre, on a slowly moving place.
    """
    rng = np.random.default_rng(seed)
    back = rng.integers(40, 200, size=(HEIGHT // 40, WIDTH // 40, 3), dtype=np.uint8)
    back = cv2.resize(back, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    pictures, boxes, labels = [], [], []
    face = None
    for expression in expressions:
        shown: list[np.ndarray] = []
        take = seed
        while len(shown) < seconds * FPS:
            spec, own = sample_clip(expression, take, seed)
            face = face or own
            shown += list(frames(spec, face, SIDE))
            take += 1
        for picture in shown[: round(seconds * FPS)]:
            number = len(pictures)
            x = round(330 + 70 * np.sin(number / 60))
            y = round(170 + 40 * np.cos(number / 45))
            scene = back.copy()
            scene[y : y + SIDE, x : x + SIDE] = picture
            pictures.append(scene)
            boxes.append((number / FPS, (float(x), float(y), float(x + SIDE), float(y + SIDE))))
            labels.append(expression)
    return Scene(np.stack(pictures), boxes, labels)
