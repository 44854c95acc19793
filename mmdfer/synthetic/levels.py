"""Make the semantic levels of the synthetic benchmark: masks, landmarks and captions with noise.

    levels/{train,test}/00001.npz    part masks and landmarks of a simulated detector
    levels/captions.jsonl            captions of a simulated observer
    levels/making.lock               locked while a process writes here
    levels/levels.json               the arguments and the noise

docs/levels.md describes the format.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..errors import DFERError
from ..files import clear_leftovers, write_text
from ..levels import CAPTIONS, ClipLevels, levels_path, write_captions, write_levels
from ..locks import lock_file
from ..workers import explain_killed_worker
from .benchmark import LEVELS_RECORD, LOCK, default_workers, one_opencv_thread, start_worker
from .describer import DescriberNoise, describe_noisily
from .detector import DetectorNoise, detect
from .domains import SHADED, Domain, find_domain
from .emotions import ClipSpec, curves
from .faces import Identity

#: Version of the noise. It must change whenever the same arguments would give other levels.
VERSION = 1

_NAMESPACE = tuple(b'synth-levels')  # the first words in the seed of every random stream here
_DETECTOR, _DESCRIBER = range(2)  # the purpose of a stream, a word in its seed

_Job = tuple[ClipSpec, Identity]


def clip_name(spec: ClipSpec) -> str:
    """Return the name of a clip in the benchmark, for example 'train/00001'."""
    return f'{spec.split}/{spec.id}'


def _stream(spec: ClipSpec, purpose: int, seed: int) -> np.random.Generator:
    """Return the random generator of a clip for one purpose."""
    name = tuple(clip_name(spec).encode())
    return np.random.Generator(np.random.PCG64([*_NAMESPACE, seed, purpose, *name]))


def true_levels(
    spec: ClipSpec, face: Identity, size: int, domain: Domain = SHADED
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the true masks and landmarks of a clip.

    Args:
        spec: The parameters of the clip.
        face: The face that the clip shows.
        size: Side S of the square frames in pixels.
        domain: The domain of the clip.

    Returns:
        The masks (T, S, S), uint8, and the landmarks (T, 68, 2), float32, in pixels.
    """
    frames = [
        domain.draw_parts(spec, face, values, number, size)
        for number, values in enumerate(curves(spec))
    ]
    masks, landmarks = zip(*frames, strict=True)
    return np.stack(masks), np.stack(landmarks)


def detect_levels(
    spec: ClipSpec,
    face: Identity,
    size: int = 112,
    seed: int = 0,
    noise: DetectorNoise | None = None,
    domain: Domain = SHADED,
) -> ClipLevels:
    """Return the masks and landmarks that the simulated detector finds in a clip.

    Args:
        spec: The parameters of the clip.
        face: The face that the clip shows.
        size: Side of the square frames in pixels.
        seed: Seed of the noise.
        noise: The errors of the detector. The default is ``DetectorNoise()``.
        domain: The domain of the clip.
    """
    rng = _stream(spec, _DETECTOR, seed)
    found = detect(*true_levels(spec, face, size, domain), noise or DetectorNoise(), rng)
    return ClipLevels((size, size), *found)


def describe_clips(
    specs: Sequence[ClipSpec], seed: int = 0, noise: DescriberNoise | None = None
) -> dict[str, str]:
    """Return the captions of the simulated observer by the name of the clip.

    Args:
        specs: The clips.
        seed: Seed of the noise.
        noise: The errors of the observer. The default is ``DescriberNoise()``.
    """
    noise = noise or DescriberNoise()
    return {
        clip_name(spec): describe_noisily(spec, _stream(spec, _DESCRIBER, seed), noise)
        for spec in specs
    }


def make_levels(
    folder: str | Path,
    *,
    num_train: int = 1400,
    num_test: int = 700,
    num_train_identities: int = 140,
    num_test_identities: int = 70,
    seed: int = 0,
    size: int = 112,
    workers: int | None = None,
    domain: str = SHADED.name,
) -> Path:
    """Write the levels of the synthetic benchmark to a folder, or only the files that are missing.

    The videos of the benchmark are not read. The levels fit the videos that ``make_benchmark``
    makes with the same arguments.

    Args:
        folder: The folder of the levels. It is created if it does not exist.
        num_train: Number of clips of the training split.
        num_test: Number of clips of the test split.
        num_train_identities: Number of faces of the training split.
        num_test_identities: Number of faces of the test split.
        seed: Seed of the benchmark, and of the noise.
        size: Side of the square frames in pixels.
        workers: Number of processes. By default one for each usable CPU, at most 8.
        domain: Name of the domain, ``'shaded'`` or ``'comic'``.

    Returns:
        ``folder`` as a path.

    Raises:
        DFERError: If the folder contains levels with other arguments, or other files, or if there
            is no such domain.
        WriteError: If a file cannot be written.
    """
    folder, drawn = Path(folder), find_domain(domain)
    people, stream_seed = (num_train_identities, num_test_identities), drawn.stream_seed(seed)
    specs = drawn.make_specs(num_train, num_test, *people, seed)
    record = json.dumps(_describe_making(specs, seed, size, drawn), indent=0, sort_keys=True) + '\n'
    _check_record(folder, record)
    files = (folder / LEVELS_RECORD, folder / CAPTIONS)
    if all(file.exists() for file in files) and not _find_missing(folder, specs):
        return folder
    with lock_file(folder / LOCK, 'levels', 'makes the levels in this folder'):
        _check_record(folder, record)  # Another process may have made levels meanwhile.
        if not (folder / LEVELS_RECORD).exists():  # It is the first file of the folder.
            write_text(folder / LEVELS_RECORD, record)
        if not (folder / CAPTIONS).exists():
            write_captions(folder / CAPTIONS, describe_clips(specs, stream_seed))
        if todo := _find_missing(folder, specs):
            identities = drawn.make_identities(*people, seed)
            jobs = [(spec, identities[spec.identity]) for spec in todo]
            for split in sorted({spec.split for spec in todo}):
                clear_leftovers(folder / split)
            write = partial(_write_clip, folder, size, stream_seed, drawn)
            _write_all(write, jobs, size, default_workers() if workers is None else workers)
    return folder


def _find_missing(folder: Path, specs: Sequence[ClipSpec]) -> list[ClipSpec]:
    """Return the clips without a file of masks and landmarks."""
    return [spec for spec in specs if not levels_path(folder, clip_name(spec)).exists()]


def _describe_making(
    specs: Sequence[ClipSpec], seed: int, size: int, domain: Domain
) -> dict[str, Any]:
    """Return everything on which the levels depend, as JSON values."""
    clips = json.dumps([domain.to_json(spec) for spec in specs], sort_keys=True)
    return dict(
        **domain.mark,
        generator=domain.version,
        version=VERSION,
        clips=hashlib.sha256(clips.encode()).hexdigest(),
        seed=seed,
        size=size,
        detector=asdict(DetectorNoise()),
        describer=asdict(DescriberNoise()),
    )


def _check_record(folder: Path, record: str) -> None:
    """Check that a folder has this record, or that it is new.

    Raises:
        DFERError: If the folder has another record, or files without a record.
    """
    names = os.listdir(folder) if folder.is_dir() else []
    if LEVELS_RECORD in names:
        if (folder / LEVELS_RECORD).read_text(encoding='utf-8') != record:
            raise DFERError(
                f'{folder / LEVELS_RECORD}: the levels in this folder were made with other '
                'arguments or by another version; give another folder, or delete this folder'
            )
    elif any(name[0] != '.' and name != LOCK for name in names):
        raise DFERError(
            f'{folder}: contains files, but not {LEVELS_RECORD}; give an empty folder for levels'
        )


def _write_clip(folder: Path, size: int, seed: int, domain: Domain, job: _Job) -> None:
    """Write the masks and landmarks of a clip."""
    spec, face = job
    found = detect_levels(spec, face, size, seed, domain=domain)
    write_levels(levels_path(folder, clip_name(spec)), found)


def _write_all(write: Callable[[_Job], None], jobs: list[_Job], size: int, workers: int) -> None:
    """Call a function for each job with a progress bar, in several processes if there are many."""
    bar = tqdm(total=len(jobs), desc='Making the levels', unit='clip')
    with bar, one_opencv_thread():
        if workers <= 1 or len(jobs) < 4 * workers:
            for job in jobs:
                write(job)
                bar.update()
            return
        pool = ProcessPoolExecutor(workers, initializer=start_worker, initargs=({}, size))
        try:
            with explain_killed_worker():
                for _ in pool.map(write, jobs, chunksize=4):
                    bar.update()
        finally:  # After Ctrl-C too, the clips in progress are finished and no other is started.
            pool.shutdown(cancel_futures=True)
