"""Draw the faces that the small CLIP is trained and measured on, with what they show.

They come from the package's own generator, from random streams of their own (`NAMESPACE`), so that
no identity of the benchmark is ever seen.
"""

from __future__ import annotations

import hashlib
import io
import math
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from mmdfer.files import write_aside
from mmdfer.synthetic import emotions, faces

# First words of every random stream here; the benchmark's streams start otherwise.
NAMESPACE = tuple(b'synth-clip')
TRAIN, TEST, STEP, WORDS = range(4)  # the streams' second word

RENDER_SIZE = 112  # pixels a face is rendered at, as in the benchmark's videos
POOL_SIZE = 72  # pixels a pooled face is kept at: its crop of 64 to 72 becomes the tower's 64
SHARD = 2000  # faces a file of the pool


def stream(seed: int, kind: int, *rest: int) -> np.random.Generator:
    """Return the random stream of one purpose, the same on every machine."""
    return np.random.default_rng([*NAMESPACE, seed, kind, *rest])


@dataclass(frozen=True)
class Pose:
    """What one face shows.

    Attributes:
        aus: (16,) intensities of the action units, 0 to 1.
        emotion: position in ``emotions.CLASSES``, or -1 where the mixture is no emotion's.
        strength: how strongly the emotion shows, 0 to 1; 0 where there is none.
    """

    aus: np.ndarray
    emotion: int
    strength: float


def apex(rng: np.random.Generator, emotion: str) -> np.ndarray:
    """Return the action units (16,) of an expression at its height, optional ones by chance."""
    optional = emotions.OPTIONAL_AUS[emotion]
    brought = {name: value for name, value in optional.items() if rng.random() < 0.5}
    shown = emotions.EMOTION_AUS[emotion] | brought
    return np.array([shown.get(name, 0.0) for name in faces.AUS])


def emotion_pose(rng: np.random.Generator, emotion: int, strength: float) -> Pose:
    """Draw an expression: its units vary in strength, and one in eight stays away."""
    aus = apex(rng, emotions.CLASSES[emotion]) * strength
    aus = aus * rng.uniform(0.6, 1.0, aus.shape) * (rng.random(aus.shape) > 0.125)
    return Pose(aus, emotion, strength)


def mixed_pose(rng: np.random.Generator) -> Pose:
    """Draw up to five action units that need not belong together."""
    aus = np.zeros(len(faces.AUS))
    chosen = rng.choice(len(aus), rng.integers(0, 6), replace=False)
    aus[chosen] = rng.uniform(0.15, 1.0, len(chosen))
    return Pose(aus, -1, 0.0)


def draw_pose(rng: np.random.Generator) -> Pose:
    """Draw half of the faces from the emotions, faint to full, and half from free mixtures."""
    if rng.random() < 0.5:
        return mixed_pose(rng)
    return emotion_pose(rng, int(rng.integers(len(emotions.CLASSES))), float(rng.uniform(0.2, 1)))


def draw_face(rng: np.random.Generator, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    """Render a pose on a new identity, half of the time through lossy compression.

    Videos reach the benchmark's models compressed; JPEG stands in for that here.

    Returns:
        The face (112, 112, 3), and what it shows in truth (16,): the pose over the face at rest.
    """
    identity = faces.sample_identity(rng)
    rest = np.asarray(identity.rest)
    aus = rest + pose.aus * (1 - rest)
    shot = faces.sample_shot(rng)
    image = faces.render(identity, aus, shot, time=rng.random(), size=RENDER_SIZE, rng=rng)
    if rng.random() < 0.5:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(50, 96))]
        written = cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)[1]
        read = cv2.imdecode(written, cv2.IMREAD_COLOR)
        assert read is not None  # OpenCV has just written it
        image = cv2.cvtColor(read, cv2.COLOR_BGR2RGB)
    return image, aus


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Resize a square image as the benchmark's pipeline does (bilinear, no antialiasing)."""
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)


def render_shard(path: Path, seed: int, shard: int) -> Path:
    """Render `SHARD` faces of the training stream and write them to a file, aside first."""
    if path.exists():
        return path
    cv2.setNumThreads(1)
    rngs = [stream(seed, TRAIN, shard, index) for index in range(SHARD)]
    poses = [draw_pose(rng) for rng in rngs]
    images, aus = zip(*(draw_face(*pair) for pair in zip(rngs, poses, strict=True)), strict=True)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        images=np.stack([resize(image, POOL_SIZE) for image in images]),
        aus=np.stack(aus),
        emotion=np.array([pose.emotion for pose in poses], np.int8),
        strength=np.array([pose.strength for pose in poses]),
    )
    write_file(path, buffer.getvalue())
    return path


def render_pool(
    folder: Path, seed: int, n_faces: int, workers: int | None
) -> dict[str, np.ndarray]:
    """Render the training faces, or take those already there.

    Returns:
        images (N, 72, 72, 3) uint8, aus (N, 16), emotion (N,), strength (N,).
    """
    shards = range(math.ceil(n_faces / SHARD))
    recipe = sources_digest()[:12]
    paths = [folder / f'faces-{recipe}-{seed}-{shard:03d}.npz' for shard in shards]
    with ProcessPoolExecutor(workers) as executor:
        jobs = [
            executor.submit(render_shard, *job)
            for job in zip(paths, [seed] * len(paths), shards, strict=True)
        ]
        for job in tqdm(jobs, desc='rendering', unit='shard'):
            job.result()
    loaded = [np.load(path, allow_pickle=False) for path in paths]
    names = ('images', 'aus', 'emotion', 'strength')
    return {name: np.concatenate([shard[name] for shard in loaded]) for name in names}


def write_file(path: Path, content: bytes) -> None:
    """Write a file aside and rename it."""
    with write_aside(path) as aside:
        aside.write_bytes(content)


def sources_digest() -> str:
    """Return the digest of the generator's source, on which every face depends."""
    sources = [Path(module.__file__ or '').read_bytes() for module in (faces, emotions)]
    return hashlib.sha256(b'\0'.join(sources)).hexdigest()
