"""Draw the faces on which the small CLIP is trained and tested, with their action units.

The faces are drawn by the generator of the synthetic benchmark, but from other random streams
(`NAMESPACE`). So the small CLIP never sees an identity of the benchmark.
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

# The first words in the seed of every random stream here. The benchmark's seeds start differently.
NAMESPACE = tuple(b'synth-clip')
# The purpose of a stream, a word in its seed.
TRAIN, TEST, STEP, WORDS, VIT_TRAIN, VIT_STEP = range(6)

RENDER_SIZE = 112  # side in pixels of a rendered frame, as in the benchmark's videos
POOL_SIZE = 72  # side in pixels of a stored face; crops of 64 to 72 pixels are resized to 64
SHARD = 2000  # number of faces in a file of the pool


def stream(seed: int, kind: int, *rest: int) -> np.random.Generator:
    """Return the random generator for one purpose, which is the same on every machine."""
    return np.random.default_rng([*NAMESPACE, seed, kind, *rest])


@dataclass(frozen=True)
class Pose:
    """Describe the facial movement of one face.

    Attributes:
        aus: Intensities (16,) of the action units, 0..1.
        emotion: Class index into ``emotions.CLASSES``, or -1 if the units do not form an emotion.
        strength: Strength of the emotion, 0..1, or 0 without an emotion.
    """

    aus: np.ndarray
    emotion: int
    strength: float


def apex(rng: np.random.Generator, emotion: str) -> np.ndarray:
    """Return the action units (16,) of an emotion at full strength; optional units are random."""
    optional = emotions.OPTIONAL_AUS[emotion]
    brought = {name: value for name, value in optional.items() if rng.random() < 0.5}
    shown = emotions.EMOTION_AUS[emotion] | brought
    return np.array([shown.get(name, 0.0) for name in faces.AUS])


def emotion_pose(rng: np.random.Generator, emotion: int, strength: float) -> Pose:
    """Draw the pose of an emotion; its units vary in strength, and one in eight is left out."""
    aus = apex(rng, emotions.CLASSES[emotion]) * strength
    aus = aus * rng.uniform(0.6, 1.0, aus.shape) * (rng.random(aus.shape) > 0.125)
    return Pose(aus, emotion, strength)


def mixed_pose(rng: np.random.Generator) -> Pose:
    """Draw a pose of up to five action units that do not form an emotion."""
    aus = np.zeros(len(faces.AUS))
    chosen = rng.choice(len(aus), rng.integers(0, 6), replace=False)
    aus[chosen] = rng.uniform(0.15, 1.0, len(chosen))
    return Pose(aus, -1, 0.0)


def draw_pose(rng: np.random.Generator) -> Pose:
    """Draw, with equal probability, the pose of an emotion or a free mixture of action units."""
    if rng.random() < 0.5:
        return mixed_pose(rng)
    return emotion_pose(rng, int(rng.integers(len(emotions.CLASSES))), float(rng.uniform(0.2, 1)))


@dataclass(frozen=True)
class DrawnFace:
    """Hold a rendered face.

    Attributes:
        image: The frame (112, 112, 3), RGB uint8.
        aus: The true action units (16,), which combine the pose and the resting expression of the
            identity.
        identity: The identity.
        shot: Head pose, light and camera.
        time: Position in the clip, 0..1.
    """

    image: np.ndarray
    aus: np.ndarray
    identity: faces.Identity
    shot: faces.Shot
    time: float

    def parts(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mask of the parts (112, 112) and the landmarks (68, 2) in pixels."""
        return faces.render_parts(
            self.identity, self.aus, self.shot, time=self.time, size=RENDER_SIZE
        )


def draw_face(rng: np.random.Generator, pose: Pose) -> DrawnFace:
    """Render a pose on a new identity.

    Half of the faces are compressed as JPEG, because the frames of the benchmark's videos are
    compressed too.

    Args:
        rng: The random generator of the face.
        pose: The pose to render.
    """
    identity = faces.sample_identity(rng)
    rest = np.asarray(identity.rest)
    aus = rest + pose.aus * (1 - rest)
    shot = faces.sample_shot(rng)
    time = rng.random()
    image = faces.render(identity, aus, shot, time=time, size=RENDER_SIZE, rng=rng)
    if rng.random() < 0.5:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(50, 96))]
        written = cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)[1]
        read = cv2.imdecode(written, cv2.IMREAD_COLOR)
        assert read is not None  # OpenCV encoded this picture two lines above
        image = cv2.cvtColor(read, cv2.COLOR_BGR2RGB)
    return DrawnFace(image, aus, identity, shot, time)


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Resize a square frame as the benchmark's pipeline does (bilinear, without antialiasing)."""
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)


def render_shard(path: Path, seed: int, shard: int, kind: int) -> Path:
    """Render `SHARD` training faces and write them to a file, unless the file exists."""
    if path.exists():
        return path
    cv2.setNumThreads(1)
    rngs = [stream(seed, kind, shard, index) for index in range(SHARD)]
    poses = [draw_pose(rng) for rng in rngs]
    drawn = [draw_face(*pair) for pair in zip(rngs, poses, strict=True)]
    arrays = dict(
        images=np.stack([resize(face.image, POOL_SIZE) for face in drawn]),
        aus=np.stack([face.aus for face in drawn]),
        emotion=np.array([pose.emotion for pose in poses], np.int8),
        strength=np.array([pose.strength for pose in poses]),
    )
    if kind == VIT_TRAIN:
        masks, landmarks = zip(*(face.parts() for face in drawn), strict=True)
        size, nearest = (POOL_SIZE, POOL_SIZE), cv2.INTER_NEAREST_EXACT
        arrays['masks'] = np.stack(
            [cv2.resize(mask, size, interpolation=nearest) for mask in masks]
        )
        arrays['landmarks'] = np.stack(landmarks) * np.float32(POOL_SIZE / RENDER_SIZE)
    buffer = io.BytesIO()
    # The keys are the names above, so none sets savez's own argument allow_pickle.
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_file(path, buffer.getvalue())
    return path


def render_pool(
    folder: Path, seed: int, n_faces: int, workers: int | None, kind: int = TRAIN
) -> dict[str, np.ndarray]:
    """Render the training faces in several processes, except those that are on disk.

    Args:
        folder: The folder of the rendered faces.
        seed: Seed of the training.
        n_faces: Number of faces, which is rounded up to a multiple of `SHARD`.
        workers: Number of processes. By default one for each CPU.
        kind: `TRAIN`, or `VIT_TRAIN` for other faces, with masks and landmarks.

    Returns:
        The arrays 'images' (N, 72, 72, 3) uint8, 'aus' (N, 16), 'emotion' (N,) and 'strength' (N,),
        as described in `Pose`. With `VIT_TRAIN` also 'masks' (N, 72, 72), indices of the parts of
        the face, and 'landmarks' (N, 68, 2) in pixels.
    """
    shards = range(math.ceil(n_faces / SHARD))
    recipe = sources_digest()[:12]
    name = 'parts' if kind == VIT_TRAIN else 'faces'
    paths = [folder / f'{name}-{recipe}-{seed}-{shard:03d}.npz' for shard in shards]
    with ProcessPoolExecutor(workers) as executor:
        jobs = [
            executor.submit(render_shard, *job)
            for job in zip(paths, [seed] * len(paths), shards, [kind] * len(paths), strict=True)
        ]
        for job in tqdm(jobs, desc='rendering', unit='shard'):
            job.result()
    loaded = [np.load(path, allow_pickle=False) for path in paths]
    return {name: np.concatenate([shard[name] for shard in loaded]) for name in loaded[0].files}


def write_file(path: Path, content: bytes) -> None:
    """Write a file completely or not at all."""
    with write_aside(path) as aside:
        aside.write_bytes(content)


def sources_digest() -> str:
    """Compute the SHA-256 digest of the generator's source code, on which every face depends."""
    sources = [Path(module.__file__ or '').read_bytes() for module in (faces, emotions)]
    return hashlib.sha256(b'\0'.join(sources)).hexdigest()
