"""Check whether a dataset on disk is complete and has the numbers of clips of the release.

``mmdfer check_dataset`` runs this check and prints its report.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from mmdfer.cpus import count_cpus
from mmdfer.datasets.licensed.base import Listed, ListedDataset, read_marker
from mmdfer.datasets.licensed.dfew import DFEW, read_votes
from mmdfer.datasets.licensed.discovery import Disk, look
from mmdfer.datasets.licensed.ferv39k import FERV39k
from mmdfer.datasets.licensed.label_files import count_labels, read_table
from mmdfer.datasets.licensed.mafw import CLASSES as MAFW_CLASSES
from mmdfer.datasets.licensed.mafw import MAFW
from mmdfer.datasets.transforms.frame_reader import (
    NO_PICTURE,
    find_frame_folder,
    list_frames,
    read_picture,
)
from mmdfer.datasets.transforms.video_reader import VideoReader
from mmdfer.errors import DFERError, UnreadableClipError
from mmdfer.tables import plain_table

# Returns how many of the pictures with these paths are crops of a face.
CountCrops = Callable[[Sequence[str]], int]

DATASETS: dict[str, type[ListedDataset]] = dict(dfew=DFEW, ferv39k=FERV39k, mafw=MAFW)

# For each dataset, the kinds of label files that it comes with, and the arguments of the dataset
# that select them. The first kind must be present.
_KINDS: dict[str, dict[str, dict[str, Any]]] = dict(
    dfew={'single-labeled': {}},
    ferv39k={'all scenes': {}},
    mafw={
        f'{labels}, {"with" if captions else "no"} caption': dict(labels=labels, captions=captions)
        for labels in ('single', 'compound')
        for captions in (False, True)
    },
)
_SHORT = 16  # frames; the number that the methods read from a clip
_SHOWN = 5  # names of clips in the table; the JSON report has all of them
_SAMPLE = 200  # pictures in which faces are looked for
_WIDEST = 52  # characters of a table cell


@dataclass(frozen=True)
class Line:
    """Hold the result of one check, a line of the report.

    Attributes:
        what: Name of the check.
        expected: The expected value, or an empty string if it is unknown.
        found: The value that was found.
        verdict: 'ok', 'note' for a difference that does not change the results of training, or
            'WRONG' for a difference that does.
    """

    what: str
    expected: str
    found: str
    verdict: str = 'ok'


@dataclass
class Report:
    """Hold the results of all checks of a dataset.

    Attributes:
        dataset: Name of the dataset. The name says so if the dataset is a synthetic imitation.
        root: Folder of the dataset.
        classes: Names of the classes, in the order in which clips are counted.
        lines: The result of each check.
        problems: Error messages about files that could not be read, each with file, line and
            remedy.
        clips: For each kind of media and each kind of problem, the names of all affected clips.
    """

    dataset: str
    root: str
    classes: tuple[str, ...]
    lines: list[Line] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    clips: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def add(self, what: str, expected: object, found: object, verdict: str | None = None) -> None:
        """Add the result of a check.

        Args:
            what: Name of the check.
            expected: The expected value, or an empty string if it is unknown.
            found: The value that was found.
            verdict: 'ok', 'note' or 'WRONG'. By default, 'WRONG' if the value is not as expected.
        """
        if verdict is None:
            verdict = 'ok' if str(expected) in ('', str(found)) else 'WRONG'
        self.lines.append(Line(what, str(expected), str(found), verdict))

    def add_problem(self, problem: DFERError) -> None:
        """Add the message of an error, unless the report already has it."""
        if str(problem) not in self.problems:
            self.problems.append(str(problem))

    @property
    def right(self) -> bool:
        """Return whether no check found an error that changes the results of training."""
        return not self.problems and all(line.verdict != 'WRONG' for line in self.lines)

    def to_json(self) -> dict[str, Any]:
        """Convert the report to JSON values."""
        return asdict(self) | dict(right=self.right)

    def __str__(self) -> str:
        """Format the report as a table, the problems and a verdict."""
        rows = [('', 'expected', 'found', '')]
        rows += [(n.what, n.expected, n.found, n.verdict) for n in self.lines]
        text = [f'{self.dataset} in {self.root}', f'Clips of {", ".join(self.classes)}:']
        text.append(indent(plain_table(rows, 'left', _WIDEST), '  '))
        text += [f'Problem: {problem}' for problem in self.problems]
        if self.right:
            text.append('Verdict: the dataset is as expected; training gives right results.')
        else:
            wrong = sum(line.verdict == 'WRONG' for line in self.lines)
            text.append(
                f'Verdict: {wrong} lines are WRONG and there are {len(self.problems)} problems; '
                'training would give wrong results.'
            )
        return '\n'.join(text)


def check(
    name: str,
    root: str | os.PathLike,
    media: Sequence[str] | None = None,
    decode: bool = False,
    workers: int | None = None,
    count_crops: CountCrops | None = None,
) -> Report:
    """Check a dataset on disk: its label files, its numbers of clips, and every clip.

    A progress bar is shown.

    Args:
        name: Name of the dataset, a key into ``DATASETS``.
        root: Folder of the dataset.
        media: Kinds of media to check. By default, all kinds that are on disk.
        decode: Whether to decode every picture and every video completely. By default, only the
            sizes of the files and the headers of the pictures are read.
        workers: Number of processes. By default, the number of usable CPUs.
        count_crops: Function that returns how many pictures are crops of a face. It gets a sample
            of the pictures of each kind of media. By default, this is not checked.

    Raises:
        DFERError: If the root is not a folder.
    """
    dataset, disk = DATASETS[name], look(root)
    synthetic = 'synthetic tree like ' if read_marker(disk.root) is not None else ''
    meta = dataset.METAINFO
    report = Report(synthetic + meta['dataset'], str(disk.root), meta['classes'])
    lists = {
        kind: _check_lists(report, dataset, disk, kind, options, needed=number == 0)
        for number, (kind, options) in enumerate(_KINDS[name].items())
    }
    _check_tables(report, name, disk, next(iter(lists.values())))
    listed = {clip: entry for clips in lists.values() for clip, entry in clips.items()}
    for kind in media or dataset.MEDIA:
        paths = _check_media(
            report, dataset, disk, kind, listed, decode, workers, asked=bool(media)
        )
        if count_crops is not None and kind != 'videos' and paths:
            _check_crops(report, kind, paths, count_crops)
    if not report.clips:
        report.add('clips', 'frames or videos', 'none')
    return report


# ---------------------------------------------------------------- label files


def _check_lists(
    report: Report,
    dataset: type[ListedDataset],
    disk: Disk,
    kind: str,
    options: dict[str, Any],
    needed: bool,
) -> dict[str, Listed]:
    """Compare the numbers of clips of each split and fold with the release.

    Args:
        report: The report to which the results are added.
        dataset: Class of the dataset.
        disk: The files below the root of the dataset.
        kind: Name of the kind of label files, for the report.
        options: Arguments of the dataset that select this kind of label files.
        needed: Whether missing label files of this kind are an error.

    Returns:
        All clips that these label files list, keyed by clip name.
    """
    one = dataset(str(disk.root), pipeline=[], lazy_init=True, **options)
    if not needed and not one.find_lists(disk):
        report.add(f'{kind}: lists', '', 'none', 'note')
        return {}
    read = _read(report, one, disk)
    for fold, split in product(range(1, dataset.FOLDS + 1) or [0], ('train', 'test')):
        clips = read.get((split, fold), [])
        expected = one.counts.get(one.counts_key(split, fold))
        counts = count_labels([c.label for c in clips], len(one.metainfo['classes']))
        counts = (sum(counts),) if len(expected or [0]) == 1 else counts
        what = f'{kind}{f", fold {fold}" if fold else ""}, {split}'
        report.add(what, _totals(expected), _totals(counts) if clips else 'cannot be read')
    for reading, count in Counter(one.readings.values()).items():
        report.add(f'{kind}: labels of {count} files', '', reading)
    return {clip.clip: clip for clips in read.values() for clip in clips}


def _read(report: Report, one: ListedDataset, disk: Disk) -> dict[tuple[str, int], list[Listed]]:
    """Read all label files of one kind.

    If the files do not agree with each other or with the release, the problem is added to the
    report, and each file that can be read on its own is returned.
    """
    try:
        read = one.read_all(disk)
        if not read:
            one.read_lists(disk)  # raises an error that says which label file is missing
        return read
    except DFERError as error:
        report.add_problem(error)
    one.check_counts = False
    read = {}
    for key, paths in one.find_lists(disk).items():
        for path in paths if len(paths) == 1 else ():
            try:
                read[key] = one.read_list(disk.root / path, *key)
            except DFERError as error:
                report.add_problem(error)
    return read


def _totals(counts: Sequence[int] | None) -> str:
    """Format numbers of clips as sum and list, ``9356: 1956 1515 2135 1738 1175 116 721``.

    A single number is formatted without a sum, and None as an empty string.
    """
    if counts is None:
        return ''
    return str(counts[0]) if len(counts) == 1 else f'{sum(counts)}: {" ".join(map(str, counts))}'


def _check_tables(report: Report, name: str, disk: Disk, listed: dict[str, Listed]) -> None:
    """Compare the labels of the label files with the release's tables of annotations, if present.

    Args:
        report: The report to which the result is added.
        name: Name of the dataset, a key into ``DATASETS``.
        disk: The files below the root of the dataset.
        listed: The clips of the label files, keyed by clip name.
    """
    try:
        if name == 'dfew' and _tables(disk, 'annotation.xlsx'):
            votes = read_votes(disk)
            told = {clip: int(np.argmax(shares)) for clip, shares in votes.items()}
        elif name == 'mafw' and (tables := _tables(disk, 'single-set.xlsx')):
            told = _single_set(disk.root / tables[0])
        else:
            return
    except DFERError as error:
        report.add_problem(error)
        return
    both = [clip for clip in listed.values() if clip.clip in told]
    odd = [c for c in both if told[c.clip] != c.label]
    # Single clips may have been corrected by hand. A wrong order of classes would make most clips
    # differ.
    verdict = 'ok' if not odd else 'note' if len(odd) <= len(both) / 100 else 'WRONG'
    shown = f', as {", ".join(c.clip for c in odd[:5])}' if odd else ''
    report.add('labels that the table contradicts', 0, f'{len(odd)} of {len(both)}{shown}', verdict)


def _tables(disk: Disk, name: str) -> list[str]:
    """Return the paths, relative to the root, of all files with a name."""
    return [path for path in disk.lists if path.rsplit('/', 1)[-1] == name]


def _single_set(path: Path) -> dict[str, int]:
    """Read the class index of each clip from MAFW's table of single labels.

    The last column of the table holds the label, from 1 to 11.
    """
    told: dict[str, int] = {}
    rows = read_table(path)
    next(rows)
    for line, row in rows:
        clip, label = str(row[0]).removesuffix('.mp4'), row[-1]
        if not clip.isdecimal() or label not in range(1, len(MAFW_CLASSES) + 1):
            raise DFERError(
                f'{path}:{line}: {row[0]!r} with label {label!r} is not a clip number with a label '
                f'from 1 to {len(MAFW_CLASSES)}; unpack the file again'
            )
        told[f'{int(clip):05d}'] = int(label) - 1
    return told


# ---------------------------------------------------------------- clips


@dataclass(frozen=True)
class Seen:
    """Describe the files of one clip.

    Attributes:
        frames: Number of frames. 0 if the clip is missing; None for a video that was not decoded.
        bad: Number of frames that are empty files or, if pictures are decoded, cannot be decoded.
        size: Width and height of the first frame in pixels, as 'W x H'.
    """

    frames: int | None
    bad: int = 0
    size: str | None = None


def _check_media(
    report: Report,
    dataset: type[ListedDataset],
    disk: Disk,
    kind: str,
    listed: dict[str, Listed],
    decode: bool,
    workers: int | None,
    asked: bool,
) -> dict[str, str]:
    """Check the clips of one kind of media.

    Args:
        report: The report to which the results are added.
        dataset: Class of the dataset.
        disk: The files below the root of the dataset.
        kind: Kind of media, such as ``frames``.
        listed: The clips of the label files, keyed by clip name.
        decode: Whether to decode every picture and video.
        workers: Number of processes, or None for the number of usable CPUs.
        asked: Whether the user requested this kind of media. If not, it may be missing on disk.

    Returns:
        The path of each clip on disk, keyed by clip name.
    """
    one = dataset(str(disk.root), media=kind, pipeline=[], lazy_init=True)
    there = any(folder.media == kind for folder in disk.folders)
    if not there and not asked:
        report.add(kind, '', 'none', 'note')
        return {}
    try:
        paths = one.find_clips(disk)
    except DFERError as error:
        report.add_problem(error)
        return {}
    folder = os.path.relpath(os.path.commonpath(paths.values()), disk.root)
    report.add(f'{kind}: folder', '', folder)
    wanted = sorted(listed)
    jobs = [(paths.get(clip), decode) for clip in wanted]
    looked = _look_at_all(jobs, f'Checking {kind}', workers)
    # `looked` is the first argument of zip, so that it is exhausted and closes its progress bar.
    seen = {clip: one for one, clip in zip(looked, wanted)}
    _add_clips(report, kind, seen, len(paths.keys() - listed.keys()), decode)
    return paths


def _check_crops(report: Report, kind: str, paths: dict[str, str], count_crops: CountCrops) -> None:
    """Add to the report how many pictures of a sample are crops of a face."""
    rng = np.random.default_rng(0)
    clips = [paths[name] for name in sorted(paths)]
    pictures = []
    for number in rng.permutation(len(clips))[:_SAMPLE]:
        folder = find_frame_folder(clips[number])
        if folder is not None:
            names = list_frames(folder)
            pictures.append(os.path.join(folder, names[len(names) // 2]))
    crops = count_crops(pictures)
    verdict = 'ok' if crops >= 0.8 * len(pictures) else 'note'
    report.add(f'{kind}: pictures that are face crops', '', f'{crops} of {len(pictures)}', verdict)


def _add_clips(
    report: Report, kind: str, seen: dict[str, Seen], unlisted: int, decode: bool
) -> None:
    """Add the results for the clips of one kind of media to the report.

    Args:
        report: The report.
        kind: Kind of media, such as ``frames``.
        seen: The description of each listed clip, keyed by clip name.
        unlisted: Number of clips on disk that no label file lists.
        decode: Whether the pictures and videos were decoded.
    """
    missing = [c for c, s in seen.items() if s.frames == 0 and s.size is None and s.bad == 0]
    there = {c: s for c, s in seen.items() if c not in set(missing)}
    lost = [c for c, s in there.items() if s.frames is not None and s.bad >= s.frames]
    damaged = [c for c, s in there.items() if s.bad > 0 and c not in set(lost)]
    lengths = [s.frames for s in there.values() if s.frames]
    short = [c for c, s in there.items() if s.frames is not None and 0 < s.frames < _SHORT]
    clips = dict(missing=missing, unreadable=lost, damaged=damaged, short=short)
    if kind == 'frames16':
        clips['not 16'] = [c for c, s in there.items() if s.frames != _SHORT]
    report.clips[kind] = clips
    report.add(f'{kind}: listed clips on disk', len(seen), len(seen) - len(missing))
    report.add(f'{kind}: clips without any readable frame', 0, _few(lost))
    how = 'frames that cannot be decoded' if decode else 'empty frames (--decode reads all)'
    report.add(f'{kind}: clips with {how}', 0, _few(damaged), _note(damaged))
    if kind == 'frames16':
        report.add(f'{kind}: clips that do not have 16 frames', 0, _few(clips['not 16']))
    elif lengths:
        report.add(f'{kind}: clips with repeated frames (under 16)', '', _few(short), 'ok')
    if lengths:
        middle = int(np.median(lengths))
        span = f'{min(lengths)} to {max(lengths)}, median {middle}'
        report.add(f'{kind}: frames per clip', '', span)
    sizes = Counter(s.size for s in there.values() if s.size).most_common()
    if sizes:
        shown = ', '.join(f'{size} ({count})' for size, count in sizes[:3])
        more = f', {len(sizes) - 3} more' if len(sizes) > 3 else ''
        report.add(f'{kind}: picture sizes', '', shown + more)
        wide = sum(count for size, count in sizes if _is_wide(size))
        if kind != 'videos' and wide > len(there) / 2:
            report.add(
                f'{kind}: whole pictures?', 'faces', f'{wide} clips are wider than high', 'note'
            )
    if unlisted:
        report.add(f'{kind}: clips that no label file lists', '', unlisted, 'note')


def _is_wide(size: str) -> bool:
    """Return whether a size 'W x H' has at least the ratio 5:4 of a film's whole picture."""
    width, height = map(int, size.split(' x '))
    return width >= 1.25 * height


def _note(clips: list[str]) -> str:
    """Return the verdict for a list of affected clips that do not change results."""
    return 'note' if clips else 'ok'


def _few(clips: list[str]) -> str:
    """Format the number of clips and the names of the first ones."""
    shown = ', '.join(clips[:_SHOWN]) + (', ...' if len(clips) > _SHOWN else '')
    return f'{len(clips)}: {shown}' if clips else '0'


def _look_at_all(
    jobs: list[tuple[str | None, bool]], title: str, workers: int | None
) -> Iterator[Seen]:
    """Inspect clips in several processes, with a progress bar.

    Args:
        jobs: The path of each clip, or None if the clip is missing, and whether to decode it.
        title: Title of the progress bar.
        workers: Number of processes, or None for the number of usable CPUs.

    Yields:
        The description of each clip, in the order of the jobs.
    """
    count = workers or count_cpus()
    if count == 1 or len(jobs) < 256:
        yield from tqdm(map(_look_at, jobs), title, len(jobs), unit='clip')
        return
    pool = ProcessPoolExecutor(count, initializer=_ignore_interrupts)
    try:
        yield from tqdm(pool.map(_look_at, jobs, chunksize=64), title, len(jobs), unit='clip')
    finally:
        pool.shutdown(cancel_futures=True)


def _ignore_interrupts() -> None:
    """Ignore Ctrl-C in a worker process, since the main process handles it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _look_at(job: tuple[str | None, bool]) -> Seen:
    """Inspect one clip, given by its path and whether to decode it."""
    path, decode = job
    if path is None or not os.path.exists(path):
        return Seen(0)
    return _look_at_folder(path, decode) if os.path.isdir(path) else _look_at_video(path, decode)


def _look_at_folder(path: str, decode: bool) -> Seen:
    """Inspect a clip that is a folder of pictures."""
    folder = find_frame_folder(path)
    if folder is None:
        empty = len(list_frames(path))
        return Seen(empty, bad=empty)
    files = [os.path.join(folder, name) for name in list_frames(folder)]
    bad = [file for file in files if not _is_picture(file, decode)]
    good = next(file for file in files if os.path.getsize(file) > 0)
    return Seen(len(files), len(bad), _size(good))


def _is_picture(file: str, decode: bool) -> bool:
    """Return whether a picture can be decoded or, without decoding, whether it is not empty."""
    if not decode:
        return os.path.getsize(file) > 0
    try:
        read_picture(file)
    except NO_PICTURE:
        return False
    return True


def _size(file: str) -> str | None:
    """Return the size of a picture as 'W x H', or None if its header cannot be read."""
    try:
        with Image.open(file) as picture:
            return '{} x {}'.format(*picture.size)
    except NO_PICTURE:
        return None


def _look_at_video(path: str, decode: bool) -> Seen:
    """Inspect a clip that is a video."""
    if os.path.getsize(path) == 0:
        return Seen(1, bad=1)
    if not decode:
        return Seen(None)
    try:
        reader = VideoReader(path)
    except UnreadableClipError:
        return Seen(1, bad=1)
    height, width, _ = reader.read([0])[0].shape
    return Seen(len(reader), size=f'{width} x {height}')
