"""Write the synthetic benchmark to disk: label files, videos and optional ground truth.

    root/train.txt, test.txt       label files for VideoDataset, as "videos/train/00001.mp4 4"
    root/fit.txt, heldout.txt      train.txt split by identity, to tune without the test split
    root/clips.jsonl               all parameters of each clip
    root/identities.jsonl          all parameters of each face
    root/videos/{train,test}/*.mp4
    root/{aus,masks,landmarks}/{train,test}/*.npz, root/captions.jsonl    (extras)
    root/making.lock               locked while a process writes here
    root/benchmark.json            written last: arguments, digest of the label files, file sizes

A file is only trusted if benchmark.json records its size. A video without a record is decoded and
compared with the frames that it should contain, and is written again if they differ.
"""

import hashlib
import io
import json
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from ..cpus import count_cpus
from ..errors import DFERError
from ..files import clear_leftovers, explain_write_errors, write_aside
from ..locks import lock_file
from ..workers import end_with_parent, explain_killed_worker
from .domains import SHADED, Domain, find_domain
from .emotions import ClipSpec, curves, describe
from .faces import Identity
from .media import write_video

#: Ground truth that can be written in addition to the videos: true action units (T, A), part masks
#: (T, size, size), landmarks (T, 68, 2), and captions, which are one sentence for each clip.
EXTRAS: tuple[str, ...] = ('aus', 'masks', 'landmarks', 'captions')

_MOST_WORKERS = 8
_PARTIAL = '.partial'
#: The file that a process locks while it writes in a folder of the benchmark or of levels.
LOCK = 'making.lock'
#: The record of a folder of levels, which may be in the folder of the benchmark.
LEVELS_RECORD = 'levels.json'


@dataclass(frozen=True)
class _Job:
    """Describe one file to write: the video of a clip (``what='videos'``) or one of its extras."""

    spec: ClipSpec
    what: str
    path: Path


# Files --------------------------------------------------------------------------------------------


def _temporary_path(path: Path) -> Path:
    """Return the path at which a file is written before it is renamed.

    The suffix is kept, because OpenCV chooses the format by the suffix.
    """
    return path.with_name(f'{_PARTIAL}-{os.getpid()}-{path.name}')


def _write(path: Path, content: bytes) -> None:
    """Write a file completely or not at all."""
    with write_aside(path) as aside:
        aside.write_bytes(content)


def _to_json_lines(rows: Iterator[dict[str, Any]]) -> bytes:
    """Encode rows as JSON, one row a line, with sorted keys."""
    return ''.join(json.dumps(row, sort_keys=True) + '\n' for row in rows).encode()


def annotations(
    specs: Sequence[ClipSpec], identities: dict[str, Identity], domain: Domain = SHADED
) -> dict[str, bytes]:
    """Build the annotation files of the benchmark, with the same bytes on every machine.

    Args:
        specs: All clips of the benchmark.
        identities: All faces of the benchmark by name.
        domain: The domain of the clips.

    Returns:
        The contents of train.txt, test.txt, fit.txt, heldout.txt, clips.jsonl and
        identities.jsonl, by file name.
    """

    def lines(**where: str) -> bytes:
        rows = (s for s in specs if all(getattr(s, k) == v for k, v in where.items()))
        return ''.join(f'{s.video} {s.label}\n' for s in rows).encode()

    return {
        'train.txt': lines(split='train'),
        'test.txt': lines(split='test'),
        'fit.txt': lines(part='fit'),
        'heldout.txt': lines(part='heldout'),
        'clips.jsonl': _to_json_lines(domain.to_json(s) for s in specs),
        'identities.jsonl': _to_json_lines({'id': k} | asdict(v) for k, v in identities.items()),
    }


def annotations_digest(files: dict[str, bytes]) -> str:
    """Compute the SHA-256 digest of the names and contents of annotation files, sorted by name.

    Args:
        files: The contents by file name, as returned by :func:`annotations`.

    Returns:
        The digest in hexadecimal.
    """
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode() + b'\0' + files[name] + b'\0')
    return digest.hexdigest()


def read_specs(root: str | Path) -> list[ClipSpec]:
    """Read the parameters of all clips of the benchmark in the folder ``root``."""
    with open(Path(root) / 'clips.jsonl', encoding='utf-8') as file:
        return [ClipSpec.from_json(json.loads(line)) for line in file]


# One clip -----------------------------------------------------------------------------------------


def _write_video(path: Path, spec: ClipSpec, face: Identity, size: int, domain: Domain) -> None:
    """Draw a clip and write its video."""
    write_video(path, domain.frames(spec, face, size), (size, size))


def _write_extra(
    path: Path, what: str, spec: ClipSpec, face: Identity, size: int, domain: Domain
) -> None:
    """Write the true action units, the masks or the landmarks of a clip to an npz file.

    The file contains one array. The name of the array is ``what``: 'aus', 'masks' or 'landmarks'.
    """
    values = curves(spec)
    if what != 'aus':
        parts = [domain.draw_parts(spec, face, v, t, size) for t, v in enumerate(values)]
        values = np.stack([part[('masks', 'landmarks').index(what)] for part in parts])
    content = io.BytesIO()  # If the disk is full, numpy would leave an incomplete file open.
    arrays = {what: values}
    # `what` is a name in EXTRAS, so it never sets savez's own argument allow_pickle.
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    path.write_bytes(content.getvalue())


def _shows_clip(path: Path, spec: ClipSpec, face: Identity, size: int, domain: Domain) -> bool:
    """Return whether a video file shows this clip.

    The number and the size of the frames must be equal, and the first and the last frame similar.
    """
    capture = cv2.VideoCapture(str(path))
    decoded = []
    while (read := capture.read())[0]:
        decoded.append(read[1])
    capture.release()
    if len(decoded) != spec.num_frames or decoded[0].shape != (size, size, 3):
        return False
    aus = curves(spec)
    return all(
        cv2.norm(cv2.cvtColor(decoded[t], cv2.COLOR_BGR2RGB), drawn, cv2.NORM_L1) < 12 * drawn.size
        for t in (0, spec.num_frames - 1)
        for drawn in [domain.draw(spec, face, aus[t], t, size)]
    )


def _write_file(job: _Job, face: Identity, size: int, domain: Domain) -> None:
    """Write the file of a job, unless the file is a video that already shows the right clip."""
    drawn = (job.spec, face, size, domain)
    if job.what == 'videos' and job.path.exists() and _shows_clip(job.path, *drawn):
        return
    aside = _temporary_path(job.path)
    with explain_write_errors(job.path):
        try:
            if job.what == 'videos':
                _write_video(aside, *drawn)
            else:
                _write_extra(aside, job.what, *drawn)
            with open(aside, 'rb') as file:
                os.fsync(file.fileno())
            os.replace(aside, job.path)
        finally:
            aside.unlink(missing_ok=True)


# All clips ----------------------------------------------------------------------------------------

_WORKER: dict[str, Any] = {}  # the identities and the frame size, set in each worker process


def start_worker(identities: dict[str, Identity], size: int) -> None:
    """Initialise a worker process of a process pool.

    The worker ignores Ctrl-C, which the parent process handles, and ends if the parent is killed.

    Args:
        identities: The faces by name, for the worker's later jobs.
        size: Side of the square frames in pixels.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    cv2.setNumThreads(1)
    _WORKER.update(identities=identities, size=size)


def _write_file_in_worker(domain: Domain, job: _Job) -> None:
    """Write the file of a job in a worker process that :func:`start_worker` initialised."""
    _write_file(job, _WORKER['identities'][job.spec.identity], _WORKER['size'], domain)


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Limit OpenCV to one thread inside a ``with`` block that starts other processes.

    A process that is forked while OpenCV has more threads can wait forever.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _write_files(
    jobs: list[_Job], identities: dict[str, Identity], size: int, workers: int, domain: Domain
) -> None:
    """Write the files of all jobs with a progress bar, in several processes if there are many."""
    bar = tqdm(total=len(jobs), desc='Making the synthetic benchmark', unit='file')
    with bar, one_opencv_thread():
        if workers <= 1 or len(jobs) < 4 * workers:
            for job in jobs:
                _write_file(job, identities[job.spec.identity], size, domain)
                bar.update()
            return
        pool = ProcessPoolExecutor(workers, initializer=start_worker, initargs=(identities, size))
        try:
            with explain_killed_worker():
                for _ in pool.map(partial(_write_file_in_worker, domain), jobs, chunksize=4):
                    bar.update()
        finally:  # After Ctrl-C too, the clips in progress are finished and no other is started.
            pool.shutdown(cancel_futures=True)


def _list_jobs(root: Path, specs: list[ClipSpec], extras: Sequence[str]) -> list[_Job]:
    """List the videos and extras of a benchmark, one job for each file; captions are one file."""
    jobs = [_Job(spec, 'videos', root / spec.video) for spec in specs]
    for what in extras:
        if what != 'captions':
            jobs += [_Job(s, what, root / what / s.split / f'{s.id}.npz') for s in specs]
    return jobs


def _build_captions(specs: list[ClipSpec]) -> bytes:
    """Build the content of captions.jsonl, one line for each clip."""
    return _to_json_lines({'video': s.video, 'caption': describe(s)} for s in specs)


# The record ---------------------------------------------------------------------------------------


def _read_record(root: Path, arguments: dict[str, Any], digest: str) -> dict[str, Any] | None:
    """Read the record that an earlier run, finished or not, left in the folder ``root``.

    Args:
        root: The folder of the benchmark.
        arguments: The arguments of this run.
        digest: The digest of the annotation files of this run.

    Returns:
        The content of benchmark.json or else of making.json, or None if neither exists.

    Raises:
        DFERError: If the record has other arguments or was written by another generator, or if
            the record cannot be read.
    """
    path = next((p for n in ('benchmark.json', 'making.json') if (p := root / n).exists()), None)
    if path is None:
        return None
    try:
        record = json.loads(path.read_text(encoding='utf-8'))
        made, made_digest = record['arguments'], record['digest']
    except (ValueError, KeyError, TypeError):
        raise DFERError(
            f'{path} is not the record of finished files that a synthetic benchmark keeps; delete '
            'it, and the next run makes the missing and changed files again'
        ) from None
    remedy = 'give another folder, or delete this one'
    if made != arguments:
        raise DFERError(
            f'{root} contains a benchmark with the arguments {made}, not {arguments}; {remedy}'
        )
    if made_digest != digest:
        raise DFERError(
            f'{root} contains annotations with the digest {made_digest[:12]}, written by another '
            f'generator; the installed generator gives {digest[:12]}; {remedy}'
        )
    return record


def _check_unused(root: Path, files: dict[str, bytes]) -> None:
    """Check that a folder without a record holds nothing but files of this benchmark, and levels.

    Args:
        root: The folder.
        files: The contents of the annotation files by file name.

    Raises:
        DFERError: If the folder contains another file.
    """
    names = sorted(os.listdir(root))
    for name in names:
        if name in files and (root / name).read_bytes() != files[name]:
            raise DFERError(
                f'{root / name} exists and does not belong to this benchmark; give an empty folder'
            )
    if LOCK in names or set(files) <= set(names):
        return  # The record is not written yet, or was deleted: the clips are checked one by one.
    others = [
        name for name in names if name not in files and not (root / name / LEVELS_RECORD).is_file()
    ]
    if others:
        raise DFERError(
            f'{root} contains other files ({others[0]}), and the synthetic benchmark is drawn only '
            'in a folder of its own; give an empty folder, or train on your own clips with '
            'configs/align_dfer_custom.py'
        )


def _write_annotations(root: Path, files: dict[str, bytes], recorded: bool) -> None:
    """Write the annotation files that are missing or changed.

    Args:
        root: The folder of the benchmark.
        files: The contents by file name.
        recorded: Whether the folder contains the record of a benchmark, so that a changed file may
            be overwritten.

    Raises:
        DFERError: If the folder has no record and contains other files than those of a benchmark.
        WriteError: If a file cannot be written.
    """
    clear_leftovers(root)
    if not recorded:
        _check_unused(root, files)
    for name, content in files.items():
        path = root / name
        if path.exists():
            if path.read_bytes() == content:
                continue
            warnings.warn(f'{path} had been changed and is written again', stacklevel=3)
        _write(path, content)


def _find_unfinished(root: Path, jobs: list[_Job], sizes: dict[str, int]) -> list[_Job]:
    """Return the jobs with a file that is missing or does not have its recorded size."""

    def finished(job: _Job) -> bool:
        try:
            size = job.path.stat().st_size
            # No file of a benchmark is empty, even if a record says so.
            return size > 0 and size == sizes.get(job.path.relative_to(root).as_posix())
        except FileNotFoundError:
            return False

    return [job for job in jobs if not finished(job)]


def _is_complete(
    root: Path, record: dict[str, Any], files: dict[str, bytes], jobs: list[_Job]
) -> bool:
    """Return whether a folder holds all files of the benchmark, as its record describes them."""
    return (
        not (root / 'making.json').exists()
        and all(
            (path := root / name).is_file() and path.read_bytes() == content
            for name, content in files.items()
        )
        and not _find_unfinished(root, jobs, record.get('files', {}))
    )


def default_workers() -> int:
    """Return the default number of worker processes: the usable CPUs, at most eight."""
    return min(_MOST_WORKERS, count_cpus())


def _check_arguments(size: int, extras: Sequence[str]) -> None:
    """Raise DFERError if decord cannot read frames of this size, or if an extra is unknown."""
    if size % 16 or not 64 <= size <= 512:
        raise DFERError(
            'size must be a multiple of 16 within 64..512, because decord misreads other sizes; '
            f'got {size}'
        )
    if isinstance(extras, str) or not set(extras) <= set(EXTRAS):
        raise DFERError(f'extras must be a list with names from {EXTRAS}, got {extras!r}')


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
    domain: str = SHADED.name,
) -> Path:
    """Write the synthetic benchmark to a folder, or only the files that are missing there.

    If the folder already contains the complete benchmark, nothing is written.

    Args:
        root: The folder of the benchmark. It is created if it does not exist.
        num_train: Number of clips of the training split.
        num_test: Number of clips of the test split.
        num_train_identities: Number of faces of the training split.
        num_test_identities: Number of faces of the test split. No face is in both splits.
        seed: Seed of all random numbers. The same seed gives the same clips on every machine.
        size: Side of the square frames in pixels, a multiple of 16 within 64..512.
        workers: Number of processes that draw the clips. By default one for each usable CPU, at
            most 8.
        extras: Names from ``EXTRAS`` of the ground truth to write. Extras can be added by a later
            call.
        domain: Name of the domain, ``'shaded'`` or ``'comic'``.

    Returns:
        ``root`` as a path.

    Raises:
        DFERError: If ``root`` contains a benchmark with other arguments or files that do not
            belong to a benchmark, or if ``size``, ``extras`` or ``domain`` is not allowed.
        WriteError: If a file cannot be written.
        OSError: If a worker process is killed.
    """
    _check_arguments(size, extras)
    root, drawn = Path(root), find_domain(domain)
    people = (num_train_identities, num_test_identities)
    arguments: dict[str, Any] = dict(
        **drawn.mark,
        generator=drawn.version,
        num_train=num_train,
        num_test=num_test,
        num_train_identities=num_train_identities,
        num_test_identities=num_test_identities,
        seed=seed,
        size=size,
    )
    specs = drawn.make_specs(num_train, num_test, *people, seed)
    identities = drawn.make_identities(*people, seed)
    files = annotations(specs, identities, drawn)
    made: dict[str, Any] = dict(arguments=arguments, digest=annotations_digest(files))
    if 'captions' in extras:
        files['captions.jsonl'] = _build_captions(specs)
    jobs = _list_jobs(root, specs, extras)
    record = _read_record(root, **made)
    if record is not None and _is_complete(root, record, files, jobs):
        return root
    if record is None and root.is_dir():
        _check_unused(root, files)  # before the lock file is created there
    with lock_file(root / LOCK, 'data_root', 'makes the synthetic benchmark in this folder'):
        record = _read_record(root, **made)  # which another process may have finished meanwhile
        _write_annotations(root, files, recorded=record is not None)
        sizes = (record or {}).get('files', {})
        count = default_workers() if workers is None else workers
        _complete(root, made, jobs, sizes, identities, count, drawn)
    return root


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file completely or not at all."""
    _write(path, json.dumps(content, indent=0, sort_keys=True).encode() + b'\n')


def _complete(
    root: Path,
    made: dict[str, Any],
    jobs: list[_Job],
    sizes: dict[str, int],
    identities: dict[str, Identity],
    workers: int,
    domain: Domain,
) -> None:
    """Write the files that are not finished, and record the sizes of all files.

    Args:
        root: The folder of the benchmark.
        made: The record's arguments and digest. They are in making.json while files are written,
            and together with the file sizes in benchmark.json at the end.
        jobs: The jobs of all files.
        sizes: The recorded sizes by path below ``root``.
        identities: The faces by name.
        workers: Number of processes that draw the clips.
        domain: The domain of the clips.
    """
    todo = _find_unfinished(root, jobs, sizes)
    if todo or not sizes:
        _write_json(root / 'making.json', made)
        _prepare_folders({job.path.parent for job in todo})
        _write_files(todo, identities, made['arguments']['size'], workers, domain)
        sizes = sizes | {j.path.relative_to(root).as_posix(): j.path.stat().st_size for j in jobs}
        _write_json(root / 'benchmark.json', made | dict(files=sizes))
    (root / 'making.json').unlink(missing_ok=True)


def _prepare_folders(folders: set[Path]) -> None:
    """Create the folders, and delete the partly written files of a run that was killed."""
    for folder in folders:
        with explain_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        for left_over in folder.glob(f'{_PARTIAL}-*'):
            left_over.unlink()
