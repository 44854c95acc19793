"""Draw faces in the style of a comic, the second domain of the synthetic benchmark.

The action units and the expressions are those of the first domain. Other things differ: the people,
the light, the rendering, what covers the face, and the compression. All values are our choice.
docs/synthetic.md shows both domains, and says how the strength of the difference was chosen.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from .faces import PARTS, Color, Identity, Shot, render, render_parts

COVERS: tuple[str, ...] = ('nothing', 'bubble', 'stripe', 'hand')

_INK = (24, 20, 32)
_SKIN = ((255, 214, 170), (244, 176, 120), (214, 140, 92), (168, 104, 66), (120, 74, 52))
_HAIR = ((22, 22, 40), (190, 60, 40), (236, 190, 60), (60, 90, 170), (70, 130, 80), (150, 80, 150))
_CLOTHES = ((220, 60, 60), (50, 90, 190), (240, 200, 60), (60, 150, 100), (240, 240, 240))
_GROUNDS = ((250, 220, 90), (110, 190, 230), (240, 130, 110), (150, 210, 140), (225, 225, 235))
_PAPER = (250, 248, 240)
_RIGHT_EYE, _LEFT_EYE = slice(36, 42), slice(42, 48)  # of the person, among the 68 landmarks
_FINE = 2  # lines are drawn at twice the size and averaged down
# The nose has no line, because the small CLIP takes a line there for the creases of disgust.
_LINED = np.array([PARTS.index('skin' if part == 'nose' else part) for part in PARTS], np.uint8)


@dataclass(frozen=True)
class Style:
    """Describe how a clip is inked and printed.

    Attributes:
        ink: Darkness of the lines, 0..1.
        tones: Number of steps of brightness.
        shadow: Direction (x, y) towards the dark side of the frame.
        depth: Darkness of the dark side, 0..1.
        tint: Factors of red, green and blue, the colour of the light.
        ground: Colour of the background.
        dots: Distance between the dots of the background, in 1/112 of the side of the frame.
        glasses: Whether the person wears glasses.
        cover: What covers a part of the face, one of ``COVERS``.
        cover_at: Centre (x, y) of the cover, in sides of the frame.
        detail: Resolution at which the picture is printed, relative to its size.
        quality: Quality of the JPEG compression, 0..100.
    """

    ink: float
    tones: int
    shadow: tuple[float, float]
    depth: float
    tint: tuple[float, float, float]
    ground: Color
    dots: float
    glasses: bool
    cover: str
    cover_at: tuple[float, float]
    detail: float
    quality: int


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a uniform number in low..high, rounded so that it can be written and read exactly."""
    return round(low + (high - low) * rng.random(), 6)


def _pick(rng: np.random.Generator, palette: tuple[Color, ...]) -> Color:
    """Draw a colour of the palette."""
    return palette[int(rng.random() * len(palette))]


def sample_person(rng: np.random.Generator, face: Identity) -> Identity:
    """Draw a person of the comic.

    Args:
        rng: The random generator. The same state gives the same person.
        face: A face of the first domain, whose resting expression the person has.

    Returns:
        The person, with larger eyes, stronger brows and other colours than the first domain has.
    """
    skin = _pick(rng, _SKIN)
    return replace(
        face,
        skin=skin,
        hair=_pick(rng, _HAIR),
        clothes=_pick(rng, _CLOTHES),
        lips=(round(0.7 * skin[0] + 20), round(0.45 * skin[1]), round(0.45 * skin[2])),
        face_width=_between(rng, 0.67, 0.78),
        chin=_between(rng, 0.81, 0.93),
        jaw=_between(rng, 1.9, 3.1),
        eye_x=_between(rng, 0.285, 0.33),
        eye_width=_between(rng, 0.155, 0.185),
        eye_height=_between(rng, 0.072, 0.09),
        brow_gap=_between(rng, 0.205, 0.245),
        brow_width=_between(rng, 0.028, 0.046),
        nose_width=_between(rng, 0.09, 0.135),
        mouth_width=_between(rng, 0.21, 0.27),
        stubble=0.0,
    )


def sample_shot(rng: np.random.Generator, shot: Shot) -> Shot:
    """Return how a clip of the comic is filmed, from how a clip of the first domain would be.

    The head turns further and is smaller. There is neither soft light nor camera noise.
    """
    yaw, pitch, roll, scale, right, down = shot.pose
    pose = (1.3 * yaw, 1.2 * pitch, 1.4 * roll, 0.93 * scale, 1.5 * right, 1.5 * down)
    return replace(
        shot,
        light=(0.0, 0.0),
        exposure=1.0,
        pose=tuple(round(value, 6) for value in pose),
        gaze=(_between(rng, -0.03, 0.03), _between(rng, -0.015, 0.015)),
        noise=0.0,
        blur=0.0,
    )


def sample_style(rng: np.random.Generator) -> Style:
    """Draw how a clip is inked and printed."""
    side = 1 if rng.random() < 0.5 else -1  # the dark side; a cover is on the other one
    slope, place = _between(rng, -0.4, 0.4), _between(rng, 0.2, 0.36)
    cover = COVERS[1 + int(rng.random() * (len(COVERS) - 1))] if rng.random() < 0.3 else COVERS[0]
    height = _between(rng, 0.05, 0.15) if cover == 'bubble' else _between(rng, 0.78, 0.92)
    return Style(
        ink=_between(rng, 0.2, 0.45),
        tones=14 + int(rng.random() * 6),
        shadow=(float(side), slope),
        depth=_between(rng, 0.05, 0.15),
        tint=(_between(rng, 0.92, 1.08), _between(rng, 0.92, 1.05), _between(rng, 0.92, 1.1)),
        ground=_pick(rng, _GROUNDS),
        dots=_between(rng, 4.0, 8.0),
        glasses=rng.random() < 0.12,
        cover=cover,
        cover_at=(round(0.5 - side * place, 6), height),
        detail=_between(rng, 0.75, 1.0),
        quality=30 + int(rng.random() * 40),
    )


# Drawing ------------------------------------------------------------------------------------------


def draw(
    face: Identity, aus: np.ndarray, shot: Shot, style: Style, time: float, size: int
) -> np.ndarray:
    """Draw one frame of a clip.

    Args:
        face: The person.
        aus: Intensities (A,) of the action units, each in 0..1, in the order of ``AUS``.
        shot: Head pose.
        style: How the clip is inked and printed.
        time: Position in the clip, 0..1.
        size: Side of the square frame in pixels.

    Returns:
        The frame, RGB uint8 (size, size, 3).
    """
    mask, marks = render_parts(face, aus, shot, time=time, size=_FINE * size)
    image = _flatten(render(face, aus, shot, time=time, size=size), style)
    small = cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST)
    image = _shade(_draw_ground(image, small, style), style)
    lines = style.ink * _find_lines(mask, size)[:, :, None]
    image = (image * (1 - lines) + lines * np.array(_INK)).astype(np.uint8)
    _draw_covers(image, (marks + 0.5) / _FINE - 0.5, style, _INK, _PAPER)
    return _print(image, style)


def draw_parts(
    face: Identity, aus: np.ndarray, shot: Shot, style: Style, time: float, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the part mask (size, size) and the landmarks (68, 2) of the frame of :func:`draw`.

    What covers the face is background, as glasses are in CelebAMask-HQ.
    """
    mask, marks = render_parts(face, aus, shot, time=time, size=size)
    _draw_covers(mask, marks, style, 0, 0)
    return mask, marks


def _find_lines(mask: np.ndarray, size: int) -> np.ndarray:
    """Return the darkness (size, size) of the lines in 0..1, which follow borders of parts.

    Args:
        mask: The part mask at ``_FINE`` times the size.
        size: Side of the frame in pixels.
    """
    edges = cv2.morphologyEx(_LINED[mask], cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) > 0
    return cv2.resize(edges.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)


def _flatten(image: np.ndarray, style: Style) -> np.ndarray:
    """Reduce an image to few tones, with stronger colours."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    step = 256 / style.tones
    table = np.floor(np.arange(256) / step) * step + step / 2
    hsv[:, :, 2] = table.astype(np.uint8)[hsv[:, :, 2]]
    saturation: np.ndarray = hsv[:, :, 1]
    hsv[:, :, 1] = np.minimum(np.rint(saturation * 1.15), 255).astype(np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _draw_ground(image: np.ndarray, mask: np.ndarray, style: Style) -> np.ndarray:
    """Replace the background by paper of one colour with a grid of dots."""
    axis = np.cos(np.arange(len(image)) * (112 / len(image)) * (2 * np.pi / style.dots))
    dots = (axis[:, None] + axis[None] > 0.9).astype(np.float32)[:, :, None]
    ground = np.array(style.ground) * (0.8 - 0.12 * dots)
    return np.where((mask == PARTS.index('background'))[:, :, None], ground, image)


def _shade(image: np.ndarray, style: Style) -> np.ndarray:
    """Darken one side of the frame up to a hard edge, and colour the light."""
    axis = np.linspace(-1, 1, len(image))
    dark = style.shadow[0] * axis[None] + style.shadow[1] * axis[:, None] > 0.12
    factor = 1 - style.depth * dark[:, :, None]
    return np.clip(image * factor * np.array(style.tint), 0, 255)


def _draw_covers(
    image: np.ndarray, marks: np.ndarray, style: Style, ink: Color | int, paper: Color | int
) -> None:
    """Draw the glasses and the cover of a clip into an image or a mask, in place."""
    size = len(image)
    thick = max(1, round(size / 80))
    if style.glasses:
        _draw_glasses(image, marks, ink, thick)
    x, y = (round(size * value) for value in style.cover_at)
    if style.cover == 'bubble':
        axes = (round(0.24 * size), round(0.12 * size))
        cv2.ellipse(image, (x, y), axes, 0, 0, 360, paper, cv2.FILLED)
        cv2.ellipse(image, (x, y), axes, 0, 0, 360, ink, thick)
    elif style.cover == 'stripe':
        top = round(0.9 * size)
        cv2.rectangle(image, (0, top), (size, size), paper, cv2.FILLED)
        cv2.line(image, (0, top), (size, top), ink, thick)
    elif style.cover == 'hand':
        axes = (round(0.1 * size), round(0.2 * size))
        cv2.ellipse(image, (x, y), axes, 20, 0, 360, paper, cv2.FILLED)
        cv2.ellipse(image, (x, y), axes, 20, 0, 360, ink, thick)


def _draw_glasses(image: np.ndarray, marks: np.ndarray, ink: Color | int, thick: int) -> None:
    """Draw the frame of a pair of glasses around the eyes, in place."""
    left, right = marks[_RIGHT_EYE].mean(0), marks[_LEFT_EYE].mean(0)
    radius = 0.36 * float(np.linalg.norm(right - left))
    for centre in (left, right):
        cv2.circle(image, tuple(np.rint(centre).astype(int).tolist()), round(radius), ink, thick)
    inner = [left + (right - left) * share for share in (0.36, 0.64)]
    ends = [tuple(np.rint(point).astype(int).tolist()) for point in inner]
    cv2.line(image, ends[0], ends[1], ink, thick)


def _print(image: np.ndarray, style: Style) -> np.ndarray:
    """Reduce the resolution and compress the picture, as a copy of a copy would be."""
    size = len(image)
    small = max(16, round(size * style.detail))
    image = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
    quality = [cv2.IMWRITE_JPEG_QUALITY, style.quality]
    written = cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)[1]
    read = cv2.imdecode(written, cv2.IMREAD_COLOR)
    assert read is not None  # OpenCV encoded this picture two lines above
    large = cv2.resize(read, (size, size), interpolation=cv2.INTER_LINEAR)
    return cv2.cvtColor(large, cv2.COLOR_BGR2RGB)
