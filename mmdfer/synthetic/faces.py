"""Draw parametric faces that are moved by action units (AUs) of the Facial Action Coding System.

A face is a set of polygons in face units: x to the right, y down, z towards the camera, and the
frame spans -1..1. ``sample_identity`` samples the face of a person, and ``sample_shot`` samples how
the clip is filmed. ``render`` moves the polygons by the action units, rotates the head, draws the
frame at twice its size and averages it down. Soft shading and wrinkles are two grey maps by which
the colours are multiplied.

The action units and their appearance follow Ekman, Friesen and Hager, "Facial Action Coding
System" (2002).
"""

import functools
from dataclasses import dataclass

import cv2
import numpy as np

AU_NAMES: dict[str, str] = {
    'AU1': 'inner brow raiser',
    'AU2': 'outer brow raiser',
    'AU4': 'brow lowerer',
    'AU5': 'upper lid raiser',
    'AU6': 'cheek raiser',
    'AU7': 'lid tightener',
    'AU9': 'nose wrinkler',
    'AU10': 'upper lip raiser',
    'AU12': 'lip corner puller',
    'AU15': 'lip corner depressor',
    'AU17': 'chin raiser',
    'AU20': 'lip stretcher',
    'AU23': 'lip tightener',
    'AU25': 'lips part',
    'AU26': 'jaw drop',
    'AU45': 'blink',
}
AUS: tuple[str, ...] = tuple(AU_NAMES)

#: Name of the part for each value in the mask of :func:`render_parts`.
PARTS: tuple[str, ...] = (
    'background',
    'hair',
    'neck',
    'clothes',
    'ear',
    'skin',
    'eye',
    'brow',
    'nose',
    'mouth',
    'upper lip',
    'lower lip',
)
HAIR_STYLES: tuple[str, ...] = ('cropped', 'short', 'side part', 'fringe', 'long')

Color = tuple[int, int, int]
Shapes = dict[str, np.ndarray]
ShapesWithDepth = dict[str, tuple[np.ndarray, float]]  # points and distance in front of the face

_SUPERSAMPLE = 2
_SHIFT = 4  # fractional bits of the fixed-point coordinates for OpenCV

_SKIN = (
    (240, 208, 182),
    (236, 192, 160),
    (222, 172, 136),
    (190, 138, 100),
    (152, 106, 76),
    (122, 84, 62),
)
_HAIR = (
    (34, 26, 24),
    (62, 42, 30),
    (98, 66, 40),
    (150, 108, 62),
    (198, 164, 104),
    (134, 60, 34),
    (142, 138, 136),
)
_IRIS = ((72, 46, 30), (96, 66, 38), (86, 104, 66), (84, 118, 150), (58, 78, 104))
_NEUTRAL_SHADE = 128

# Parameter values at which the curves are computed, from inner to outer end or from left to right.
_BROW_U = np.linspace(0.0, 1.0, 9)
_EYE_U = np.linspace(-1.0, 1.0, 9)
_MOUTH_U = np.linspace(-1.0, 1.0, 13)
_JAW_V = np.sin(np.linspace(0.0, np.pi / 2, 13))
_ARC = np.linspace(0.0, np.pi, 17)
_CIRCLE = np.stack(
    [np.cos(np.linspace(0, 2 * np.pi, 17)[:-1]), np.sin(np.linspace(0, 2 * np.pi, 17)[:-1])], 1
)
_MIRROR = np.array([-1.0, 1.0])
_BEARD_TOP = np.array([[0.3, 0.42], [-0.3, 0.42]])


@dataclass(frozen=True)
class Identity:
    """Describe the face of a person by its colours, its geometry and its resting expression.

    Colours are RGB in 0..255. Lengths and positions are in face units (the frame spans -1..1).
    ``hair_style`` is an index into ``HAIR_STYLES``. ``rest`` contains the resting intensity of each
    action unit, in the order of ``AUS``.
    """

    skin: Color
    hair: Color
    iris: Color
    lips: Color
    clothes: Color
    hair_style: int
    hairline: float
    parting: float
    face_width: float
    chin: float
    jaw: float
    eye_x: float
    eye_y: float
    eye_width: float
    eye_height: float
    eye_tilt: float
    lash: float
    brow_gap: float
    brow_width: float
    brow_arch: float
    brow_tilt: float
    nose_width: float
    nose_y: float
    mouth_y: float
    mouth_width: float
    upper_lip: float
    lower_lip: float
    mouth_curve: float
    stubble: float
    wrinkles: float
    rest: tuple[float, ...]


@dataclass(frozen=True)
class Shot:
    """Describe how a clip is filmed: light, background, head pose and camera.

    Attributes:
        light: Direction (x, y) from which the light comes, multiplied by its strength.
        exposure: Factor by which the brightness is multiplied.
        background: Colour at the upper edge of the background.
        background_far: Colour at the lower edge of the background.
        pose: Yaw, pitch and roll in radians, scale, and the shifts to the right and down in face
            units.
        drift: Amounts by which the six values of ``pose`` change from the start to the end of the
            clip.
        sway: Amounts by which the six values of ``pose`` change until the middle of the clip and
            back again until its end.
        gaze: Shift of the irises to the right and down in face units.
        noise: Amplitude of the camera noise in grey levels.
        blur: Standard deviation of the Gaussian lens blur, in 1/112 of the frame's side.
    """

    light: tuple[float, float]
    exposure: float
    background: Color
    background_far: Color
    pose: tuple[float, ...]
    drift: tuple[float, ...]
    sway: tuple[float, ...]
    gaze: tuple[float, float]
    noise: float
    blur: float


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a uniform number in low..high, rounded so that it can be written and read exactly."""
    return round(low + (high - low) * rng.random(), 6)


def _index(rng: np.random.Generator, count: int) -> int:
    """Draw an integer in 0..count - 1.

    Only ``Generator.random`` is used, because its numbers are the same in all versions of NumPy.
    """
    return int(rng.random() * count)


def _pick(rng: np.random.Generator, palette: tuple[Color, ...], jitter: int) -> Color:
    """Draw a colour of the palette, and change each channel by at most ``jitter``."""
    base = palette[_index(rng, len(palette))]
    r, g, b = (min(255, max(8, c + _index(rng, 2 * jitter + 1) - jitter)) for c in base)
    return r, g, b


def _sample_lip_color(rng: np.random.Generator, skin: Color) -> Color:
    """Draw a lip colour that is redder and darker than the skin by a random amount."""
    tint = _between(rng, 0.45, 0.85)
    r, g, b = (round((1 - tint) * c + tint * t) for c, t in zip(skin, (172, 62, 66), strict=True))
    return r, g, b


def _sample_rest(rng: np.random.Generator) -> tuple[float, ...]:
    """Draw the resting intensities of the action units.

    A face at rest may look a little happy, sad, angry or surprised.
    """
    rest = dict.fromkeys(AUS, 0.0)
    for name in ('AU1', 'AU4', 'AU12', 'AU15'):
        if rng.random() < 0.6:
            rest[name] = _between(rng, 0.05, 0.38)
    for name in ('AU2', 'AU5', 'AU6', 'AU7', 'AU10', 'AU17', 'AU20', 'AU23', 'AU25'):
        if rng.random() < 0.3:
            rest[name] = _between(rng, 0.05, 0.30)
    return tuple(rest.values())


def sample_identity(rng: np.random.Generator) -> Identity:
    """Sample the face of a person.

    Every number is drawn uniformly and rounded to six decimals, so that it is equal on all
    machines.

    Args:
        rng: The random generator. The same state gives the same face.

    Returns:
        The face.
    """
    skin = _pick(rng, _SKIN, 6)
    return Identity(
        skin=skin,
        hair=_pick(rng, _HAIR, 8),
        iris=_pick(rng, _IRIS, 8),
        lips=_sample_lip_color(rng, skin),
        clothes=_pick(
            rng, ((60, 70, 96), (120, 52, 56), (66, 96, 80), (150, 150, 156), (44, 44, 48)), 24
        ),
        hair_style=_index(rng, len(HAIR_STYLES)),
        hairline=_between(rng, -0.74, -0.66),
        parting=_between(rng, -0.4, 0.4),
        face_width=_between(rng, 0.66, 0.76),
        chin=_between(rng, 0.83, 0.92),
        jaw=_between(rng, 2.1, 3.2),
        eye_x=_between(rng, 0.29, 0.335),
        eye_y=_between(rng, -0.14, -0.09),
        eye_width=_between(rng, 0.145, 0.175),
        eye_height=_between(rng, 0.066, 0.084),
        eye_tilt=_between(rng, -0.018, 0.028),
        lash=_between(rng, 0.0, 1.0),
        brow_gap=_between(rng, 0.20, 0.235),
        brow_width=_between(rng, 0.022, 0.042),
        brow_arch=_between(rng, 0.015, 0.05),
        brow_tilt=_between(rng, -0.02, 0.025),
        nose_width=_between(rng, 0.10, 0.145),
        nose_y=_between(rng, 0.21, 0.26),
        mouth_y=_between(rng, 0.50, 0.54),
        mouth_width=_between(rng, 0.225, 0.275),
        upper_lip=_between(rng, 0.036, 0.056),
        lower_lip=_between(rng, 0.046, 0.072),
        mouth_curve=_between(rng, -0.018, 0.018),
        stubble=max(0.0, _between(rng, -1.2, 0.8)),
        wrinkles=_between(rng, 0.0, 0.6),
        rest=_sample_rest(rng),
    )


def sample_shot(rng: np.random.Generator) -> Shot:
    """Sample light, background, head pose and camera of one clip.

    Args:
        rng: The random generator. The same state gives the same shot.

    Returns:
        The shot.
    """

    def spread(*limits: float) -> tuple[float, ...]:
        return tuple(_between(rng, -limit, limit) for limit in limits)

    yaw, pitch, roll, zoom, right, down = spread(0.24, 0.13, 0.09, 0.06, 0.05, 0.04)
    backgrounds: tuple[Color, ...] = (
        (92, 104, 120),
        (150, 146, 136),
        (58, 62, 70),
        (120, 138, 118),
        (176, 160, 140),
    )
    return Shot(
        light=(_between(rng, -0.32, 0.32), _between(rng, -0.25, 0.10)),
        exposure=_between(rng, 0.88, 1.08),
        background=_pick(rng, backgrounds, 30),
        background_far=_pick(rng, backgrounds, 30),
        pose=(yaw, pitch, roll, round(0.97 + zoom, 6), right, down),
        drift=spread(0.12, 0.06, 0.05, 0.03, 0.03, 0.03),
        sway=spread(0.06, 0.05, 0.03, 0.015, 0.02, 0.02),
        gaze=(_between(rng, -0.025, 0.025), _between(rng, -0.012, 0.012)),
        noise=_between(rng, 1.0, 7.0),
        blur=max(0.0, _between(rng, -0.8, 0.8)),
    )


# Geometry, in face units ------------------------------------------------------------------------


def _both_sides(name: str, right: np.ndarray, depth: float = 0.0) -> ShapesWithDepth:
    """Return a polygon of the right side of the frame and its mirror image, with their depth."""
    return {f'{name}+': (right, depth), f'{name}-': (right * _MIRROR, depth)}


def _brow(who: Identity, a: dict[str, float]) -> np.ndarray:
    """Compute the polygon (18, 2) of the brow on the right side of the frame.

    The points follow the upper edge from the inner to the outer end, and the lower edge back.
    """
    u, inner, outer = _BROW_U, (1 - _BROW_U) ** 2, _BROW_U**2 * (3 - 2 * _BROW_U)
    x = who.eye_x - 0.165 + 0.355 * u - (0.05 * a['AU4'] + 0.015 * a['AU9']) * (1 - u)
    y = who.eye_y - who.brow_gap - who.brow_arch * 4 * u * (1 - u) - who.brow_tilt * (u - 0.5)
    y = y - 0.155 * a['AU1'] * inner - 0.135 * a['AU2'] * outer
    y = y + a['AU4'] * (0.125 - 0.055 * u) + a['AU9'] * 0.05 * inner
    half = who.brow_width * (0.55 + 1.6 * u * (1 - u)) * (1 - 0.45 * u**3)
    upper, lower = np.stack([x, y - half], 1), np.stack([x, y + half], 1)
    return np.concatenate([upper, lower[::-1]])


def _lids(who: Identity, a: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Compute the margins of the upper and the lower lid on the right side of the frame.

    Each margin has 9 points (9, 2), from the inner to the outer corner of the eye.
    """
    u, bow = _EYE_U, 1 - _EYE_U**2
    x = who.eye_x + who.eye_width * u
    corner = who.eye_y - who.eye_tilt * u
    below = who.eye_height * (0.72 + 0.22 * a['AU5'] - 1.0 * a['AU6'] - 0.62 * a['AU7'])
    above = who.eye_height * (
        1.0 + 0.75 * a['AU5'] - 0.12 * a['AU6'] - 0.45 * a['AU7'] - 0.15 * a['AU9']
    )
    below, above = below * (1 - 0.2 * a['AU45']), max(above, -below)
    lower = corner + below * bow
    upper = corner - above * bow * (1 - 0.18 * u * bow)
    upper = np.minimum(upper + a['AU45'] * (lower - upper), lower)
    return np.stack([x, upper], 1), np.stack([x, lower], 1)


def _eye_shapes(who: Identity, a: dict[str, float], gaze: tuple[float, float]) -> ShapesWithDepth:
    """Compute the shapes of the eyes: whites, irises, lids and the lines of the lids."""
    upper, lower = _lids(who, a)
    lift = np.array([[0.0, 0.13]])
    white = np.concatenate([upper, lower[::-1]])
    center = np.array([who.eye_x, who.eye_y - 0.1 * who.eye_height]) + 0.0
    shapes: ShapesWithDepth = {}
    shapes |= _both_sides('eye', white)
    shapes |= _both_sides('lid_above', np.concatenate([upper, (upper - lift)[::-1]]))
    shapes |= _both_sides('lid_below', np.concatenate([lower, (lower + lift)[::-1]]))
    shapes |= _both_sides('lash', upper)
    shapes |= _both_sides('lower_lid', lower)
    crease = upper[1:] - [0.0, 0.034 - 0.014 * a['AU5']] * (1 - 0.3 * _EYE_U[1:, None] ** 2)
    shapes |= _both_sides('crease', crease)
    for side, sign in (('+', 1.0), ('-', -1.0)):
        shapes[f'iris{side}'] = (center * [sign, 1.0] + gaze + 0.069 * _CIRCLE, 0.0)
        shapes[f'pupil{side}'] = (center * [sign, 1.0] + gaze + 0.032 * _CIRCLE, 0.0)
        shapes[f'glint{side}'] = (
            center * [sign, 1.0] + gaze + [0.022, -0.026] + 0.016 * _CIRCLE,
            0.0,
        )
    return shapes


def _mouth_shapes(who: Identity, a: dict[str, float]) -> ShapesWithDepth:
    """Compute the shapes of the mouth: lips, the opening between them, teeth and tongue."""
    u, bow = _MOUTH_U, 1 - _MOUTH_U**2
    wide = who.mouth_width * (
        1
        + 0.34 * a['AU12']
        + 0.38 * a['AU20']
        - 0.24 * a['AU23']
        - 0.16 * a['AU26']
        - 0.05 * a['AU17']
    )
    corner = (
        who.mouth_curve - 0.14 * a['AU12'] + 0.13 * a['AU15'] + 0.03 * a['AU20'] + 0.05 * a['AU26']
    )
    pull = 0.5 * (u**2 + u**4)
    lift = 0.03 * a['AU12'] - 0.045 * a['AU17']
    upper = who.mouth_y + lift - 0.025 * a['AU25'] - 0.02 * a['AU26'] - 0.012 * a['AU15']
    lower = who.mouth_y + lift + 0.055 * a['AU25'] + 0.20 * a['AU26']
    sneer = a['AU10'] * (0.055 * bow + 0.10 * u**2 * bow)
    part = a['AU10'] * 0.022 * bow
    ends = who.mouth_y + corner
    inner_up = upper + (ends - upper) * pull - sneer
    inner_low = np.maximum(lower + (ends - lower) * pull - sneer + part, inner_up)
    thin = max(0.25, 1 - 0.68 * a['AU23'] - 0.35 * a['AU20'] - 0.22 * a['AU12'] - 0.2 * a['AU26'])
    cupid = bow**0.7 * (1 - 0.22 * (1 - 5 * np.minimum(np.abs(u), 0.2)))
    outer_up = inner_up - who.upper_lip * thin * cupid * (1 + 0.25 * a['AU10'])
    full = who.lower_lip * thin * (1 + 0.55 * a['AU17'])
    outer_low = inner_low + full * bow**0.8
    x = wide * u
    points = {
        'outer_up': outer_up,
        'inner_up': inner_up,
        'inner_low': inner_low,
        'outer_low': outer_low,
    }
    rows = {name: np.stack([x, y], 1) for name, y in points.items()}
    band = inner_up + np.minimum(0.055, 0.8 * (inner_low - inner_up))
    teeth = np.stack([x, band], 1)
    tongue = np.stack([x, inner_low - 0.5 * (inner_low - inner_up) * (bow - 0.25).clip(0)], 1)
    return {
        'mouth': (np.concatenate([rows['inner_up'], rows['inner_low'][::-1]]), 0.0),
        'teeth': (np.concatenate([rows['inner_up'][1:-1], teeth[1:-1][::-1]]), 0.0),
        'tongue': (np.concatenate([tongue[2:-2], rows['inner_low'][2:-2][::-1]]), 0.0),
        'upper_lip': (np.concatenate([rows['outer_up'], rows['inner_up'][::-1]]), 0.02),
        'lower_lip': (np.concatenate([rows['inner_low'], rows['outer_low'][::-1]]), 0.02),
    }


def _nose_shapes(who: Identity, a: dict[str, float]) -> ShapesWithDepth:
    """Compute the shapes of the nose: outline (for masks and shading), wings and nostrils."""
    up = 0.035 * a['AU9'] + 0.015 * a['AU10']
    wide, base = who.nose_width * (1 + 0.12 * a['AU9'] + 0.05 * a['AU12']), who.nose_y - up
    top = who.eye_y - 0.02
    side = np.array(
        [[0.035, top], [0.045, 0.5 * (top + base)], [0.6 * wide, base - 0.12], [wide, base - 0.045]]
    )
    bottom = np.array([[0.92 * wide, base - 0.005], [0.5 * wide, base + 0.012], [0.0, base + 0.03]])
    half = np.concatenate([side, bottom])
    outline = np.concatenate([half, (half * _MIRROR)[::-1]])
    wing = np.array(
        [
            [0.86 * wide, base - 0.075],
            [1.02 * wide, base - 0.045],
            [0.98 * wide, base - 0.008],
            [0.74 * wide, base + 0.008],
        ]
    )
    nostril = np.array([0.48 * wide, base + 0.002]) + _CIRCLE * [0.3 * wide, 0.017]
    shapes = {'nose': (outline, 0.16)}
    shapes |= _both_sides('wing', wing, 0.1)
    shapes |= _both_sides('nostril', nostril, 0.16)
    shapes |= _both_sides('nose_side', np.concatenate([side, [[0.35 * wide, base - 0.05]]]), 0.1)
    return shapes


def _head_shapes(who: Identity, a: dict[str, float]) -> ShapesWithDepth:
    """Compute the shapes of the head: face outline, ears, neck, shoulders and hair."""
    v, top = _JAW_V, -0.15
    y = top + (who.chin - top) * v
    x = who.face_width * (1 - v**who.jaw) ** 0.5 * (1 - 0.10 * v)
    x = x + (0.03 * a['AU12'] + 0.025 * a['AU20'] + 0.015 * a['AU6']) * 4 * v**2 * (1 - v)
    y = y + (0.15 * a['AU26'] - 0.03 * a['AU17']) * v**3
    jaw = np.stack([x, y], 1)  # from ear to chin on the right side of the frame
    crown = np.stack([who.face_width * np.cos(_ARC), top - 0.80 * np.sin(_ARC)], 1)
    face = np.concatenate([crown, (jaw * _MIRROR)[1:], jaw[::-1][1:]])
    ear = [who.face_width * 1.0, 0.02] + _CIRCLE * [0.085, 0.17]
    neck = np.array(
        [[0.42, 0.5], [0.44, 0.95], [0.62, 1.4], [-0.62, 1.4], [-0.44, 0.95], [-0.42, 0.5]]
    )
    cloth = np.array(
        [
            [0.46, 0.97],
            [1.3, 1.12],
            [1.3, 1.6],
            [-1.3, 1.6],
            [-1.3, 1.12],
            [-0.46, 0.97],
            [0.0, 1.2],
        ]
    )
    shapes = {'face': (face, 0.0), 'neck': (neck, -0.35), 'clothes': (cloth, -0.35)}
    shapes |= _both_sides('ear', ear, -0.25)
    shapes |= _hair_shapes(who)
    return shapes


def _hair_shapes(who: Identity) -> ShapesWithDepth:
    """Compute the shapes of the hair behind the head and above the forehead."""
    style, wide = HAIR_STYLES[who.hair_style], who.face_width
    bulk = {'cropped': 0.02, 'short': 0.07, 'side part': 0.09, 'fringe': 0.10, 'long': 0.11}[style]
    outer = np.stack([(wide + bulk) * np.cos(_ARC), -0.15 - (0.80 + bulk) * np.sin(_ARC)], 1)
    t = np.cos(_ARC)[::-1]  # from the left temple to the right temple
    line = who.hairline + 0.0 * t
    if style == 'side part':
        line = line + 0.07 - 0.12 * np.abs(t - who.parting)
    elif style == 'fringe':
        line = line + 0.06 + 0.012 * np.where(np.arange(len(t)) % 2, 1.0, -1.0)
    elif style == 'long':
        line = line - 0.05 + 0.10 * np.abs(t)
    elif style == 'cropped':
        line = line - 0.08
    temple = -0.12 if style == 'long' else -0.22
    line = line + (temple - line) * t**6
    front = np.concatenate([outer, np.stack([0.985 * wide * t, line], 1)])
    back = outer
    if style == 'long':
        sides = np.array([[wide + 0.16, 0.5], [wide + 0.1, 1.15], [0.3, 1.2]])
        back = np.concatenate([outer, sides * _MIRROR, sides[::-1]])
    return {'hair_front': (front, 0.02), 'hair_back': (back, -0.3)}


def _crease_shapes(who: Identity, a: dict[str, float]) -> ShapesWithDepth:
    """Compute the lines along which the skin creases; see :func:`_crease_strengths`."""
    ex, ey, ew = who.eye_x, who.eye_y, who.eye_width
    nw, ny, mw, my = who.nose_width, who.nose_y, who.mouth_width, who.mouth_y
    out = 0.34 * a['AU12'] * mw + 0.3 * a['AU20'] * mw
    brow = ey - who.brow_gap + 0.06 * a['AU4']
    raised = ey - who.brow_gap - 0.195
    rise = 0.03 * a['AU9'] + 0.02 * a['AU10']
    shapes: ShapesWithDepth = {}
    shapes |= _both_sides(
        'nasolabial',
        np.array(
            [
                [nw + 0.025, ny - 0.075 - rise],
                [nw + 0.095 + 0.4 * out, ny + 0.03 - rise],
                [mw + 0.055 + out, my - 0.10],
                [mw + 0.06 + out, my + 0.02],
            ]
        ),
    )
    corner = ex + ew + 0.035
    for i, (dy, end) in enumerate(((-0.05, -0.09), (0.0, 0.005), (0.05, 0.10))):
        shapes |= _both_sides(f'crow{i}', np.array([[corner, ey + dy], [corner + 0.09, ey + end]]))
    bag = np.stack(
        [ex + ew * 0.95 * _EYE_U, ey + 0.085 + 0.05 * (1 - _EYE_U**2) - 0.03 * a['AU6']], 1
    )
    shapes |= _both_sides('bag', bag)
    shapes |= _both_sides(
        'furrow', np.array([[0.045, brow - 0.10], [0.036, brow - 0.01], [0.044, brow + 0.06]])
    )
    for i, dy in enumerate((-0.035, 0.015, 0.065)):
        shapes[f'bunny{i}'] = (
            np.array([[-0.075, ey + dy - 0.02], [0.0, ey + dy + 0.012], [0.075, ey + dy - 0.02]]),
            0.1,
        )
    shapes |= _both_sides(
        'snarl', np.array([[0.07, ey + 0.02], [0.115, ey + 0.10], [0.13, ey + 0.19]]), 0.06
    )
    for i, dy in enumerate((0.0, -0.07)):
        shapes[f'forehead{i}'] = (
            np.array([[-0.17, raised + dy + 0.02], [0.0, raised + dy], [0.17, raised + dy + 0.02]]),
            0.0,
        )
        shapes |= _both_sides(
            f'temple{i}',
            np.array(
                [[0.26, raised + dy + 0.01], [0.38, raised + dy - 0.01], [0.48, raised + dy + 0.03]]
            ),
        )
    return shapes | _lower_crease_shapes(who, a, out)


def _lower_crease_shapes(who: Identity, a: dict[str, float], out: float) -> ShapesWithDepth:
    """Compute the lines of the creases around mouth and chin."""
    mw, my = who.mouth_width + out, who.mouth_y
    chin = who.chin + 0.12 * a['AU26']
    shapes: ShapesWithDepth = {}
    shapes |= _both_sides(
        'marionette',
        np.array([[mw + 0.035, my + 0.11], [mw + 0.055, my + 0.17], [mw + 0.04, my + 0.26]]),
    )
    shapes |= _both_sides(
        'stretch',
        np.array([[mw + 0.075, my - 0.06], [mw + 0.10, my + 0.03], [mw + 0.07, my + 0.13]]),
    )
    for i, x in enumerate((0.05, 0.12)):
        shapes |= _both_sides(f'purse{i}', np.array([[x, my - 0.105], [0.9 * x, my - 0.055]]))
        shapes |= _both_sides(f'purse_below{i}', np.array([[0.9 * x, my + 0.06], [x, my + 0.105]]))
    shapes['chin_arc'] = (
        np.array(
            [
                [-0.13, chin - 0.10],
                [-0.08, chin - 0.165],
                [0.0, chin - 0.185],
                [0.08, chin - 0.165],
                [0.13, chin - 0.10],
            ]
        ),
        0.04,
    )
    shapes |= _both_sides('dimple', np.array([[0.035, chin - 0.12], [0.055, chin - 0.085]]), 0.04)
    return shapes


def _crease_strengths(who: Identity, a: dict[str, float]) -> dict[str, float]:
    """Compute the darkness in 0..1 of each kind of crease in ``_CREASES``."""
    age = who.wrinkles
    return {
        'nasolabial': 0.12
        + 0.25 * age
        + 0.5 * max(a['AU12'], a['AU10'], 0.8 * a['AU9'], 0.4 * a['AU20']),
        'crow': 0.1 * age + 0.8 * a['AU6'],
        'bag': 0.1 + 0.15 * age + 0.55 * max(a['AU6'], 0.7 * a['AU7']),
        'furrow': 0.15 * age + 0.95 * a['AU4'],
        'bunny': 0.95 * a['AU9'],
        'snarl': 0.75 * a['AU9'],
        'forehead': 0.15 * age + 0.65 * a['AU1'],
        'temple': 0.1 * age + 0.65 * a['AU2'],
        'marionette': 0.12 * age + 0.45 * a['AU15'],
        'stretch': 0.75 * a['AU20'],
        'purse': 0.4 * a['AU23'],
        'purse_below': 0.3 * a['AU23'],
        'chin_arc': 0.12 + 0.85 * a['AU17'],
        'dimple': 0.8 * a['AU17'],
    }


def _soft_shapes(who: Identity, a: dict[str, float]) -> ShapesWithDepth:
    """Compute the patches of soft light and shadow; see :func:`_soft_shades`."""
    ex, ey = who.eye_x, who.eye_y
    chin = who.chin + 0.12 * a['AU26'] - 0.02 * a['AU17']
    lip = who.mouth_y + 0.105 + 0.2 * a['AU26'] + 0.05 * a['AU25'] - 0.04 * a['AU17']
    shapes: ShapesWithDepth = {}
    shapes |= _both_sides('socket', [ex - 0.02, ey - 0.085] + _CIRCLE * [0.2, 0.085])
    shapes |= _both_sides(
        'cheek', [ex + 0.05, 0.17 - 0.05 * a['AU6'] - 0.03 * a['AU12']] + _CIRCLE * [0.15, 0.10]
    )
    shapes |= _both_sides('hollow', [who.face_width * 0.86, 0.36] + _CIRCLE * [0.13, 0.3])
    shapes['bridge'] = ([0.0, 0.06] + _CIRCLE * [0.035, 0.16], 0.2)
    shapes['below_nose'] = ([0.0, who.nose_y + 0.055] + _CIRCLE * [0.11, 0.035], 0.1)
    shapes['below_lip'] = ([0.0, lip] + _CIRCLE * [0.15, 0.04], 0.0)
    shapes['chin'] = ([0.0, chin - 0.10] + _CIRCLE * [0.10, 0.075], 0.05)
    shapes['glabella'] = ([0.0, ey - 0.17] + _CIRCLE * [0.10, 0.09], 0.05)
    return shapes


def _soft_shades(who: Identity, a: dict[str, float]) -> dict[str, float]:
    """Compute the lightening (> 0) or darkening (< 0) of each kind of soft patch in ``_SOFT``."""
    return {
        'hollow': -0.16,
        'socket': -0.14 - 0.10 * a['AU4'],
        'nose_side': -0.13 - 0.08 * a['AU9'],
        'below_nose': -0.20,
        'below_lip': -0.16 - 0.12 * a['AU17'],
        'glabella': -0.22 * a['AU4'] - 0.10 * a['AU9'],
        'cheek': 0.02 + 0.15 * max(a['AU6'], 0.6 * a['AU12']),
        'bridge': 0.12,
        'chin': 0.05 + 0.24 * a['AU17'],
    }


def _project(shapes: ShapesWithDepth, shot: Shot, time: float, size: float) -> np.ndarray:
    """Rotate the head, and map the points of all shapes to pixels of a frame.

    The face is modelled as a curved surface: its depth decreases with the distance from its middle.

    Args:
        shapes: Points and depth of all shapes, in face units.
        shot: The head pose and its changes over the clip.
        time: Position in the clip, 0..1.
        size: Side of the square frame in pixels.

    Returns:
        The points (N, 2) of all shapes in pixels, concatenated.
    """
    along, back = time - 0.5, 4 * time * (1 - time) - 0.5
    yaw, pitch, roll, scale, right, down = (
        p + d * along + s * back for p, d, s in zip(shot.pose, shot.drift, shot.sway, strict=True)
    )
    points = np.concatenate([points for points, _ in shapes.values()])
    depth = np.repeat(
        [depth for _, depth in shapes.values()], [len(points) for points, _ in shapes.values()]
    )
    x, y = points[:, 0], points[:, 1]
    z = 0.55 * (0.6 - x**2) - 0.25 * y**2 + depth
    x = x * (1 - 0.5 * yaw**2) + yaw * z
    y = y * (1 - 0.5 * pitch**2) + pitch * z
    cos, sin = 1 - 0.5 * roll**2, roll
    unit = 0.5 * size * scale
    turned = np.stack([x * cos - y * sin + right, x * sin + y * cos + down], 1)
    return turned * unit + (0.5 * size - 0.5)


def _split_points(shapes: ShapesWithDepth, points: np.ndarray) -> Shapes:
    """Split the concatenated points (N, 2) of all shapes into the points of each shape."""
    named, start = {}, 0
    for name, (shape, _) in shapes.items():
        named[name] = points[start : start + len(shape)]
        start += len(shape)
    return named


def _check_action_units(aus: np.ndarray) -> dict[str, float]:
    """Check the intensities (A,) of the action units, and return them by name.

    Raises:
        ValueError: If there is not exactly one finite number in 0..1 for each of ``AUS``.
    """
    values = np.asarray(aus, dtype=np.float64)
    if values.shape != (len(AUS),) or not (values.min() >= 0.0 and values.max() <= 1.0):
        raise ValueError(
            f'aus must be {len(AUS)} values within 0..1, one for each name in AUS, got {aus!r}'
        )
    return dict(zip(AUS, values.tolist(), strict=True))


# Drawing ------------------------------------------------------------------------------------------


def _to_fixed_point(points: np.ndarray) -> np.ndarray:
    """Convert coordinates in pixels to fixed-point numbers for OpenCV."""
    return np.rint(points * (1 << _SHIFT)).astype(np.int32)


def _fill(image: np.ndarray, points: np.ndarray, color: Color | int) -> None:
    """Fill a polygon in place; its points are fixed-point numbers."""
    cv2.fillPoly(image, [points], color, cv2.LINE_8, _SHIFT)


def _draw_line(image: np.ndarray, points: np.ndarray, color: Color | int, width: int) -> None:
    """Draw an open line in place; its points are fixed-point numbers."""
    cv2.polylines(image, [points], False, color, width, cv2.LINE_AA, _SHIFT)


def _multiply(color: Color, factor: float) -> Color:
    """Multiply a colour by a factor, and clip it at white."""
    r, g, b = (min(255, round(c * factor)) for c in color)
    return r, g, b


@functools.lru_cache(maxsize=8)
def _draw_background(shot: Shot, size: int) -> np.ndarray:
    """Draw the background (size, size, 3) as a vertical gradient between two colours."""
    ends = np.array([[shot.background], [shot.background_far]], dtype=np.uint8)
    return cv2.resize(ends, (size, size), interpolation=cv2.INTER_LINEAR)


@functools.lru_cache(maxsize=8)
def _draw_light(shot: Shot, size: int) -> np.ndarray:
    """Draw the light as a grey map (size, size) that brightens the side towards the light.

    A value of 128 means no change.
    """
    axis = (np.arange(size) + 0.5) * 2 / size - 1
    x, y = axis[None, :], axis[:, None]
    falloff = 1.05 - 0.16 * (x**2 + 0.6 * y**2) + shot.light[0] * x + shot.light[1] * y
    return np.clip(_NEUTRAL_SHADE * shot.exposure * falloff, 0, 255).astype(np.uint8)


@functools.lru_cache(maxsize=1)
def _noise_sheet() -> np.ndarray:
    """Draw a large image of camera noise around 128, from which each frame takes a window."""
    noise = np.random.default_rng(1).normal(128, 32, (512, 512, 3))
    return np.clip(noise, 0, 255).astype(np.uint8)


def _draw_head(image: np.ndarray, p: Shapes, who: Identity) -> None:
    """Draw hair, neck, clothes, ears and the skin of the face."""
    _fill(image, p['hair_back'], _multiply(who.hair, 0.8))
    _fill(image, p['neck'], _multiply(who.skin, 0.78))
    _fill(image, p['clothes'], who.clothes)
    for side in '+-':
        _fill(image, p[f'ear{side}'], _multiply(who.skin, 0.88))
    _fill(image, p['face'], who.skin)


def _draw_eyes(image: np.ndarray, p: Shapes, who: Identity, pixel: float) -> None:
    """Draw whites and irises, and the lids over them as far as they are closed."""
    thick = max(1, round((1.6 + 1.2 * who.lash) * pixel))
    for side in '+-':
        _fill(image, p[f'eye{side}'], (238, 234, 230))
        if p[f'eye{side}'][13, 1] - p[f'eye{side}'][4, 1] > 1 << _SHIFT:
            _fill(image, p[f'iris{side}'], who.iris)
            _fill(image, p[f'pupil{side}'], (16, 12, 12))
            _fill(image, p[f'glint{side}'], (250, 250, 250))
        _fill(image, p[f'lid_above{side}'], who.skin)
        _fill(image, p[f'lid_below{side}'], who.skin)
        _draw_line(image, p[f'lower_lid{side}'], _multiply(who.skin, 0.62), max(1, round(pixel)))
        _draw_line(image, p[f'lash{side}'], (34, 24, 22), thick)


def _draw_mouth(image: np.ndarray, p: Shapes, who: Identity, pixel: float) -> None:
    """Draw the opening of the mouth, tongue and teeth, and then the lips over their edges."""
    _fill(image, p['mouth'], (62, 18, 22))
    opening = p['mouth'][19, 1] - p['mouth'][6, 1]
    if opening > 2 * pixel * (1 << _SHIFT):
        _fill(image, p['tongue'], (176, 84, 86))
        _fill(image, p['teeth'], (240, 236, 226))
    _fill(image, p['upper_lip'], _multiply(who.lips, 0.88))
    _fill(image, p['lower_lip'], who.lips)
    _draw_line(image, p['upper_lip'][13:], _multiply(who.lips, 0.5), max(1, round(pixel)))


def _draw_color(p: Shapes, who: Identity, shot: Shot, size: int) -> np.ndarray:
    """Draw the face in flat colours (size, size, 3), at twice the size and averaged down."""
    big = size * _SUPERSAMPLE
    pixel = big / 224
    image = _draw_background(shot, big).copy()
    _draw_head(image, p, who)
    _draw_eyes(image, p, who, pixel)
    for side in '+-':
        _fill(image, p[f'brow{side}'], _multiply(who.hair, 0.75))
        _fill(image, p[f'nostril{side}'], _multiply(who.skin, 0.4))
    _draw_mouth(image, p, who, pixel)
    _fill(image, p['hair_front'], who.hair)
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)


# Names of the shapes of each kind of soft patch and of crease. Most kinds have a shape on either
# side of the face, and some have several.
_SOFT: dict[str, tuple[str, ...]] = {
    stem: (f'{stem}+', f'{stem}-') for stem in ('hollow', 'socket', 'nose_side', 'cheek')
} | {stem: (stem,) for stem in ('below_nose', 'below_lip', 'glabella', 'bridge', 'chin')}
_CREASES: dict[str, tuple[str, ...]] = (
    {
        stem: (f'{stem}+', f'{stem}-')
        for stem in ('nasolabial', 'bag', 'furrow', 'snarl', 'marionette', 'stretch', 'dimple')
    }
    | {
        stem: tuple(f'{stem}{i}{side}' for i in range(count) for side in '+-')
        for stem, count in (('crow', 3), ('temple', 2), ('purse', 2), ('purse_below', 2))
    }
    | {stem: tuple(f'{stem}{i}' for i in range(n)) for stem, n in (('bunny', 3), ('forehead', 2))}
    | {'chin_arc': ('chin_arc',)}
)


def _draw_shade(p: Shapes, who: Identity, a: dict[str, float], size: int) -> np.ndarray:
    """Draw shading and creases of the skin as a grey map (size, size); 128 means no change."""
    soft: np.ndarray = np.full((size, size), _NEUTRAL_SHADE, np.uint8)
    if who.stubble:
        _fill(soft, p['beard'], round(_NEUTRAL_SHADE * (1 - 0.25 * who.stubble)))
    for stem, shade in _soft_shades(who, a).items():
        for name in _SOFT[stem]:
            _fill(soft, p[name], round(_NEUTRAL_SHADE * (1 + shade)))
    width = 2 * round(size * 0.045) + 1
    soft = cv2.GaussianBlur(soft, (width, width), 0)
    inside = np.zeros((size, size), np.uint8)
    _fill(inside, p['face'], 255)
    soft = cv2.copyTo(soft, inside, np.full((size, size), _NEUTRAL_SHADE, np.uint8))
    lines = np.zeros((size, size), np.uint8)
    for stem, strength in _crease_strengths(who, a).items():
        if strength > 0.02:
            for name in _CREASES[stem]:
                _draw_line(
                    lines, p[name], round(72 * min(1.0, strength)), max(1, round(size / 112))
                )
    for side in '+-':
        _draw_line(lines, p[f'wing{side}'], 42, 1)
        _draw_line(lines, p[f'crease{side}'], 34, 1)
    width = 2 * round(size / 112) + 1
    return cv2.subtract(soft, cv2.GaussianBlur(lines, (width, width), 0.6 * size / 112))


def _apply_camera(image: np.ndarray, shot: Shot, rng: np.random.Generator | None) -> np.ndarray:
    """Add the lens blur and the camera noise to a frame; without ``rng``, no noise is added."""
    size = image.shape[0]
    sigma = shot.blur * size / 112
    if sigma > 0.25:
        image = cv2.GaussianBlur(image, (5, 5), sigma)
    if rng is None or shot.noise <= 0:
        return image
    sheet = _noise_sheet()
    if size > sheet.shape[0]:
        raise ValueError(f'size must be at most {sheet.shape[0]}, got {size}')
    top, left = rng.integers(0, sheet.shape[0] - size + 1, 2).tolist()
    gain = shot.noise / 32
    window = np.ascontiguousarray(sheet[top : top + size, left : left + size])
    return cv2.addWeighted(image, 1.0, window, gain, -128 * gain)


def _face_shapes(who: Identity, a: dict[str, float], shot: Shot) -> ShapesWithDepth:
    """Compute the shapes from which masks and landmarks are made."""
    shapes = (
        _head_shapes(who, a)
        | _eye_shapes(who, a, shot.gaze)
        | _both_sides('brow', _brow(who, a), 0.03)
    )
    return shapes | _nose_shapes(who, a) | _mouth_shapes(who, a)


def render(
    identity: Identity,
    aus: np.ndarray,
    shot: Shot,
    *,
    time: float = 0.0,
    size: int = 112,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Draw one frame of a face.

    Args:
        identity: The face to draw.
        aus: Intensities (A,) of the action units, each in 0..1, in the order of ``AUS``.
        shot: Light, background, head pose and camera.
        time: Position in the clip, 0..1. The head pose changes with the time as ``shot`` says.
        size: Side of the square frame in pixels, at most 512 with camera noise.
        rng: The random generator of the camera noise. By default there is no noise.

    Returns:
        The frame, RGB uint8 (size, size, 3).

    Raises:
        ValueError: If ``aus`` does not have the shape (A,) or contains a value outside 0..1, or if
            ``size`` is too large.
    """
    a = _check_action_units(aus)
    shapes = _face_shapes(identity, a, shot)
    shapes |= _crease_shapes(identity, a) | _soft_shapes(identity, a)
    shapes['beard'] = (np.concatenate([shapes['face'][0][21:37], _BEARD_TOP]), 0.0)
    large = _project(shapes, shot, time, size * _SUPERSAMPLE)
    small = (large + 0.5) / _SUPERSAMPLE - 0.5
    image = _draw_color(_split_points(shapes, _to_fixed_point(large)), identity, shot, size)
    shade = _draw_shade(_split_points(shapes, _to_fixed_point(small)), identity, a, size)
    shade = cv2.multiply(shade, _draw_light(shot, size), scale=1 / _NEUTRAL_SHADE)
    image = cv2.multiply(image, cv2.cvtColor(shade, cv2.COLOR_GRAY2RGB), scale=1 / _NEUTRAL_SHADE)
    return _apply_camera(image, shot, rng)


_PART_OF_SHAPE: tuple[tuple[str, str], ...] = (
    ('hair_back', 'hair'),
    ('neck', 'neck'),
    ('clothes', 'clothes'),
    ('ear+', 'ear'),
    ('ear-', 'ear'),
    ('face', 'skin'),
    ('eye+', 'eye'),
    ('eye-', 'eye'),
    ('brow+', 'brow'),
    ('brow-', 'brow'),
    ('nose', 'nose'),
    ('mouth', 'mouth'),
    ('upper_lip', 'upper lip'),
    ('lower_lip', 'lower lip'),
    ('hair_front', 'hair'),
)


def _find_landmarks(p: Shapes) -> np.ndarray:
    """Return the 68 landmarks (68, 2) of the iBUG 300-W layout, left side of the frame first."""
    face, nose = p['face'], p['nose']
    jaw = face[np.rint(np.linspace(16, 40, 17)).astype(int) % len(face)]
    brows = [p['brow-'][8::-2], p['brow+'][0:9:2]]
    middle = 0.5 * (nose[:3] + nose[[13, 12, 11]])
    tip = 0.3 * middle[2:3] + 0.7 * nose[6:7]
    base = np.stack([nose[9], nose[8], nose[6], nose[5], nose[4]])
    eyes = [p['eye-'][[8, 5, 3, 0, 14, 12]], p['eye+'][[0, 3, 5, 8, 12, 14]]]
    upper, lower = p['upper_lip'], p['lower_lip']
    outer = [upper[0:13:2], lower[13:][[2, 4, 6, 8, 10]]]
    inner = [upper[25:26], upper[13:26][[9, 6, 3]], upper[13:14], lower[:13][[9, 6, 3]]]
    return np.concatenate([jaw, *brows, middle, tip, base, *eyes, *outer, *inner]).astype(
        np.float32
    )


def render_parts(
    identity: Identity, aus: np.ndarray, shot: Shot, *, time: float = 0.0, size: int = 112
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the position of each part of the face in the frame that :func:`render` draws.

    Args:
        identity: The face.
        aus: Intensities (A,) of the action units, each in 0..1, in the order of ``AUS``.
        shot: Head pose and gaze; light and camera have no effect.
        time: Position in the clip, 0..1.
        size: Side of the square frame in pixels.

    Returns:
        The mask (size, size), uint8, of indices into ``PARTS``, and the landmarks (68, 2), float32,
        x and y in pixels, in the iBUG 300-W layout.

    Raises:
        ValueError: If ``aus`` does not have the shape (A,) or contains a value outside 0..1.
    """
    a = _check_action_units(aus)
    shapes = _face_shapes(identity, a, shot)
    pixels = _project(shapes, shot, time, size)
    points = _split_points(shapes, _to_fixed_point(pixels))
    mask = np.zeros((size, size), np.uint8)
    for name, part in _PART_OF_SHAPE:
        _fill(mask, points[name], PARTS.index(part))
    return mask, _find_landmarks(_split_points(shapes, pixels))
