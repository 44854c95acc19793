"""Makes the synthetic benchmark on disk: annotations, videos and, on request, what is true of them.

    root/train.txt, test.txt       MMAction2's VideoDataset lines, "videos/train/00001.mp4 4"
    root/fit.txt, heldout.txt      train.txt in two, by identity, to tune without the test
    root/clips.jsonl               every parameter of every clip
    root/identities.jsonl          every parameter of every face
    root/videos/{train,test}/*.mp4
    root/{aus,masks,landmarks}/{train,test}/*.npz, root/captions.jsonl    (extras)
    root/benchmark.json            written last: arguments, annotations' digest, file sizes

What benchmark.json does not vouch for is not trusted: videos without it are decoded and compared
with the frames they should hold, and remade where they differ.
"""

import hashlib
import io
import json
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import parent_process
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from ..cpus import count_cpus
from ..files import clear_leftovers, explain_write_errors, write_aside
from .emotions import ClipSpec, curves, describe, make_identities, make_specs
from .faces import Identity, render, render_parts
from .media import write_video

#: Changes whenever the same arguments would give other clips.
GENERATOR = 1

#: What can be written beside the videos: true action units (T, A), part masks (T, size, size),
#: landmarks (T, 68, 2), and one sentence for each clip.
EXTRAS: tuple[str, ...] = ('aus', 'masks', 'landmarks', 'captions')

_MOST_WORKERS = 8
_PARTIAL = '.partial'


@dataclass(frozen=True)
class _Job:
    """One file to make: a clip's video or one of its extras."""

    spec: ClipSpec
    what: str
    path: Path


# Files --------------------------------------------------------------------------------------------


def _aside(path: Path) -> Path:
    """Where a file is written before it takes its name; the suffix stays, OpenCV goes by it."""
    return path.with_name(f'{_PARTIAL}-{os.getpid()}-{path.name}')


def _write(path: Path, content: bytes) -> None:
    with write_aside(path) as aside:
        aside.write_bytes(content)


def _json_lines(rows: Iterator[dict[str, Any]]) -> bytes:
    return ''.join(json.dumps(row, sort_keys=True) + '\n' for row in rows).encode()


def annotations(specs: Sequence[ClipSpec], identities: dict[str, Identity]) -> dict[str, bytes]:
    """The annotation files by name: the same bytes on every machine.

    Args:
        specs (Sequence[ClipSpec]): all clips.
        identities (dict[str, Identity]): all faces by name.

    Returns:
        dict[str, bytes]: content of train.txt, test.txt, fit.txt, heldout.txt, clips.jsonl and
        identities.jsonl.
    """

    def lines(**where: str) -> bytes:
        rows = (s for s in specs if all(getattr(s, k) == v for k, v in where.items()))
        return ''.join(f'{s.video} {s.label}\n' for s in rows).encode()

    return {
        'train.txt': lines(split='train'),
        'test.txt': lines(split='test'),
        'fit.txt': lines(part='fit'),
        'heldout.txt': lines(part='heldout'),
        'clips.jsonl': _json_lines(s.to_json() for s in specs),
        'identities.jsonl': _json_lines({'id': k} | asdict(v) for k, v in identities.items()),
    }


def annotations_digest(files: dict[str, bytes]) -> str:
    """SHA-256 over the annotation files, name and content, in order of name."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode() + b'\0' + files[name] + b'\0')
    return digest.hexdigest()


def read_specs(root: str | Path) -> list[ClipSpec]:
    """The clips of a benchmark on disk."""
    with open(Path(root) / 'clips.jsonl', encoding='utf-8') as file:
        return [ClipSpec.from_json(json.loads(line)) for line in file]


# One clip -----------------------------------------------------------------------------------------


def frames(spec: ClipSpec, face: Identity, size: int) -> Iterator[np.ndarray]:
    """Draws a clip frame by frame: RGB (size, size, 3), uint8."""
    shot, camera, aus = spec.shot(), spec.camera(), curves(spec)
    for t, values in enumerate(aus):
        time = t / (spec.num_frames - 1)
        yield render(face, values, shot, time=time, size=size, rng=camera)


def _write_video(path: Path, spec: ClipSpec, face: Identity, size: int) -> None:
    write_video(path, frames(spec, face, size), size)


def _write_extra(path: Path, what: str, spec: ClipSpec, face: Identity, size: int) -> None:
    """Writes a clip's true action units, masks or landmarks: an npz of one array so named."""
    values = curves(spec)
    if what != 'aus':
        shot, last = spec.shot(), spec.num_frames - 1
        parts = [
            render_parts(face, v, shot, time=t / last, size=size) for t, v in enumerate(values)
        ]
        values = np.stack([part[('masks', 'landmarks').index(what)] for part in parts])
    content = io.BytesIO()  # numpy leaves a broken file open where the disk is full
    arrays = {what: values}
    # `what` is of EXTRAS, never the option allow_pickle.
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    path.write_bytes(content.getvalue())


def _holds(path: Path, spec: ClipSpec, face: Identity, size: int) -> bool:
    """Whether a video decodes to this clip: number and size of frames, the first and the last."""
    capture = cv2.VideoCapture(str(path))
    decoded = []
    while (read := capture.read())[0]:
        decoded.append(read[1])
    capture.release()
    if len(decoded) != spec.num_frames or decoded[0].shape != (size, size, 3):
        return False
    aus, shot = curves(spec), spec.shot()
    return all(
        cv2.norm(cv2.cvtColor(decoded[t], cv2.COLOR_BGR2RGB), drawn, cv2.NORM_L1) < 12 * drawn.size
        for t in (0, spec.num_frames - 1)
        for drawn in [render(face, aus[t], shot, time=t / (spec.num_frames - 1), size=size)]
    )


def _do(job: _Job, face: Identity, size: int) -> None:
    """Makes the file of a job, unless it is a video that already is what it should be."""
    if job.what == 'videos' and job.path.exists() and _holds(job.path, job.spec, face, size):
        return
    aside = _aside(job.path)
    with explain_write_errors(job.path):
        try:
            if job.what == 'videos':
                _write_video(aside, job.spec, face, size)
            else:
                _write_extra(aside, job.what, job.spec, face, size)
            with open(aside, 'rb') as file:
                os.fsync(file.fileno())
            os.replace(aside, job.path)
        finally:
            aside.unlink(missing_ok=True)


# All clips ----------------------------------------------------------------------------------------

_WORKER: dict[str, Any] = {}  # a worker process's identities and frame size


def _end_with_parent() -> None:
    """Ends a worker process whose parent was killed; it would wait for work forever."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def start_worker(identities: dict[str, Identity], size: int) -> None:
    """Sets a worker process up; Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    _WORKER.update(identities=identities, size=size)


def _do_in_worker(job: _Job) -> None:
    _do(job, _WORKER['identities'][job.spec.identity], _WORKER['size'])


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Ends OpenCV's threads for a while: a process forked beside them would wait forever."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _do_all(jobs: list[_Job], identities: dict[str, Identity], size: int, workers: int) -> None:
    """Does the jobs, on several processes if there is enough to do, with a progress bar."""
    bar = tqdm(total=len(jobs), desc='Making the synthetic benchmark', unit='file')
    with bar, one_opencv_thread():
        if workers <= 1 or len(jobs) < 4 * workers:
            for job in jobs:
                _do(job, identities[job.spec.identity], size)
                bar.update()
            return
        pool = ProcessPoolExecutor(workers, initializer=start_worker, initargs=(identities, size))
        try:
            for _ in pool.map(_do_in_worker, jobs, chunksize=4):
                bar.update()
        except BrokenProcessPool:
            raise OSError(
                'a process that made videos was killed (out of memory?); '
                'run the same again to go on where it stopped, with fewer workers'
            ) from None
        finally:  # after Ctrl-C too: the clips in hand are finished, no more are begun
            pool.shutdown(cancel_futures=True)


def _jobs(root: Path, specs: list[ClipSpec], extras: Sequence[str]) -> list[_Job]:
    jobs = [_Job(spec, 'videos', root / spec.video) for spec in specs]
    for what in extras:
        if what != 'captions':
            jobs += [_Job(s, what, root / what / s.split / f'{s.id}.npz') for s in specs]
    return jobs


def _captions(specs: list[ClipSpec]) -> bytes:
    return _json_lines({'video': s.video, 'caption': describe(s)} for s in specs)


# The record ---------------------------------------------------------------------------------------


def _read_record(root: Path, arguments: dict[str, int], digest: str) -> dict[str, Any] | None:
    """What an earlier making, finished or not, wrote down; None if there was none.

    Raises:
        ValueError: if it had other arguments or another generator, or cannot be read.
    """
    path = next((p for n in ('benchmark.json', 'making.json') if (p := root / n).exists()), None)
    if path is None:
        return None
    try:
        record = json.loads(path.read_text(encoding='utf-8'))
        made, made_digest = record['arguments'], record['digest']
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f'{path} is not a record of a synthetic benchmark; delete it to check all videos'
        ) from None
    remedy = 'give another folder, or delete this one'
    if made != arguments:
        raise ValueError(f'{root} holds the benchmark of {made}, not of {arguments}; {remedy}')
    if made_digest != digest:
        raise ValueError(
            f'{root} holds annotations of digest {made_digest[:12]}, by another generator than '
            f'this one, which gives {digest[:12]}; {remedy}'
        )
    return record


def _write_annotations(root: Path, files: dict[str, bytes], ours: bool) -> None:
    """Make the folder and write the annotation files that are missing or changed.

    Raises:
        ValueError: A file of that name is there that no record says is ours.
        WriteError: The folder or a file cannot be written.
    """
    with explain_write_errors(root):
        root.mkdir(parents=True, exist_ok=True)
    clear_leftovers(root)
    for name, content in files.items():
        path = root / name
        if path.exists():
            if path.read_bytes() == content:
                continue
            if not ours:
                raise ValueError(f'{path} is there and not of this benchmark; give an empty folder')
            warnings.warn(f'{path} had been changed and is written anew', stacklevel=3)
        _write(path, content)


def _unfinished(root: Path, jobs: list[_Job], sizes: dict[str, int]) -> list[_Job]:
    """The jobs whose file is not there with its recorded size."""

    def finished(job: _Job) -> bool:
        try:
            size = job.path.stat().st_size
            # No file of a benchmark is empty, even if a record says so.
            return size > 0 and size == sizes.get(job.path.relative_to(root).as_posix())
        except FileNotFoundError:
            return False

    return [job for job in jobs if not finished(job)]


def default_workers() -> int:
    """The CPUs that this process may use, at most eight."""
    return min(_MOST_WORKERS, count_cpus())


def _check(size: int, extras: Sequence[str]) -> None:
    """Raises ValueError for a size that decord misreads, and for an extra there is not."""
    if size % 16 or not 64 <= size <= 512:
        raise ValueError(
            f'size must be a multiple of 16 within 64..512, which decord reads right; got {size}'
        )
    if isinstance(extras, str) or not set(extras) <= set(EXTRAS):
        raise ValueError(f'extras takes a list of {", ".join(EXTRAS)}; got {extras!r}')


def make_benchmark(
    root: str | Path,
    *,
    num_train: int = 1400,
    num_test: int = 700,
    num_train_identities: int = 140,
    num_test_identities: int = 70,
    seed: int = 0,
    size: int = 112,
    workers: int | None = None,
    extras: Sequence[str] = (),
) -> Path:
    """Makes the benchmark, or what is missing of it; does nothing where it is whole.

    Args:
        root (str | Path): the folder to make it in.
        num_train, num_test (int): clips of each split.
        num_train_identities, num_test_identities (int): faces of each split; no face is in both.
        seed (int): the same seed gives the same clips on every machine.
        size (int): side of the square frames in pixels, a multiple of 16.
        workers (int, optional): processes to draw with; the usable CPUs, at most 8, by default.
        extras (Sequence[str]): what else to write, of ``EXTRAS``; can be added later.

    Returns:
        Path: ``root``.

    Raises:
        ValueError: if ``root`` holds a benchmark of other arguments, or files that are not ours;
            for a size or an extra that is not allowed.
        WriteError: if a file cannot be written.
        OSError: if a process that makes them is killed.
    """
    _check(size, extras)
    root = Path(root)
    people = (num_train_identities, num_test_identities)
    arguments = dict(
        generator=GENERATOR,
        num_train=num_train,
        num_test=num_test,
        num_train_identities=num_train_identities,
        num_test_identities=num_test_identities,
        seed=seed,
        size=size,
    )
    specs = make_specs(num_train, num_test, *people, seed)
    identities = make_identities(*people, seed)
    files = annotations(specs, identities)
    made: dict[str, Any] = dict(arguments=arguments, digest=annotations_digest(files))
    record = _read_record(root, **made)
    if 'captions' in extras:
        files['captions.jsonl'] = _captions(specs)
    _write_annotations(root, files, ours=record is not None)
    sizes = (record or {}).get('files', {})
    count = default_workers() if workers is None else workers
    _complete(root, made, _jobs(root, specs, extras), sizes, identities, count)
    return root


def _write_json(path: Path, content: dict[str, Any]) -> None:
    _write(path, json.dumps(content, indent=0, sort_keys=True).encode() + b'\n')


def _complete(
    root: Path,
    made: dict[str, Any],
    jobs: list[_Job],
    sizes: dict[str, int],
    identities: dict[str, Identity],
    workers: int,
) -> None:
    """Does the jobs that are left, noting first what is being made and last what was."""
    todo = _unfinished(root, jobs, sizes)
    if todo or not sizes:
        _write_json(root / 'making.json', made)
        _clear({job.path.parent for job in todo})
        _do_all(todo, identities, made['arguments']['size'], workers)
        sizes = sizes | {j.path.relative_to(root).as_posix(): j.path.stat().st_size for j in jobs}
        _write_json(root / 'benchmark.json', made | dict(files=sizes))
    (root / 'making.json').unlink(missing_ok=True)


def _clear(folders: set[Path]) -> None:
    """Makes the folders, or clears them of what a killed making left half written."""
    for folder in folders:
        with explain_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        for left_over in folder.glob(f'{_PARTIAL}-*'):
            left_over.unlink()
