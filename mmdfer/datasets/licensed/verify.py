"""Whether a dataset on disk is the release: every count compared, every clip looked at."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
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

DATASETS: dict[str, type[ListedDataset]] = dict(dfew=DFEW, ferv39k=FERV39k, mafw=MAFW)

# The lists that a dataset comes with, by name; the first must be there.
_KINDS: dict[str, dict[str, dict[str, Any]]] = dict(
    dfew={'single-labeled': {}},
    ferv39k={'all scenes': {}},
    mafw={
        f'{labels}, {"with" if captions else "no"} caption': dict(labels=labels, captions=captions)
        for labels in ('single', 'compound')
        for captions in (False, True)
    },
)
_SHORT = 16
_SHOWN = 5  # names in the table; the json has all
_WIDEST = 52


@dataclass(frozen=True)
class Line:
    """One thing that was checked.

    Attributes:
        what: Its name.
        expected: What it should be; empty where nothing is known.
        found: What it is.
        verdict: 'ok'; 'note', which changes no figure; or 'WRONG', which does.
    """

    what: str
    expected: str
    found: str
    verdict: str = 'ok'


@dataclass
class Report:
    """What was found.

    Attributes:
        dataset: Its name, which says so where it is synthetic.
        root: Where it lies.
        classes: In the order of the counts.
        lines: All that was checked.
        problems: What could not be read, each with its file, line and remedy.
        clips: Kind of media -> problem -> the clips that have it, all of them.
    """

    dataset: str
    root: str
    classes: tuple[str, ...]
    lines: list[Line] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    clips: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def add(self, what: str, expected: object, found: object, verdict: str | None = None) -> None:
        """Adds a line; without a verdict, anything but what is expected is wrong."""
        if verdict is None:
            verdict = 'ok' if str(expected) in ('', str(found)) else 'WRONG'
        self.lines.append(Line(what, str(expected), str(found), verdict))

    def add_problem(self, problem: DFERError) -> None:
        """Adds what could not be read, once."""
        if str(problem) not in self.problems:
            self.problems.append(str(problem))

    @property
    def right(self) -> bool:
        """Whether training on it gives right numbers."""
        return not self.problems and all(line.verdict != 'WRONG' for line in self.lines)

    def to_json(self) -> dict[str, Any]:
        """All of it, of JSON types."""
        return asdict(self) | dict(right=self.right)

    def __str__(self) -> str:
        """The table and the verdict."""
        rows = [('', 'should be', 'is', '')]
        rows += [(n.what, n.expected, n.found, n.verdict) for n in self.lines]
        text = [f'{self.dataset} in {self.root}', f'clips of {", ".join(self.classes)}:']
        text.append(indent(plain_table(rows, 'left', _WIDEST), '  '))
        text += [f'Problem: {problem}' for problem in self.problems]
        if self.right:
            text.append('Verdict: all as it should be; training on it gives right numbers.')
        else:
            wrong = sum(line.verdict == 'WRONG' for line in self.lines)
            text.append(
                f'Verdict: WRONG in {wrong} lines, {len(self.problems)} problems; '
                'training on it would give wrong numbers.'
            )
        return '\n'.join(text)


def check(
    name: str,
    root: str | os.PathLike,
    media: Sequence[str] | None = None,
    decode: bool = False,
    workers: int | None = None,
) -> Report:
    """Checks a dataset on disk, with a progress bar.

    Args:
        name: One of ``DATASETS``.
        root: The folder that holds it.
        media: Kinds of media to look at; None is all that are there.
        decode: Whether to decode every picture and video to its end.
        workers: Processes; the usable CPUs by default.

    Raises:
        DFERError: There is no such folder, or nothing of this dataset in it.
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
        _check_media(report, dataset, disk, kind, listed, decode, workers, asked=bool(media))
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
    """Compares each split and fold of one kind of list; returns its clips by name."""
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
    """All lists of one kind; where they are not as released, each as far as it can be read."""
    try:
        read = one.read_all(disk)
        if not read:
            one.read_lists(disk)  # which says what is missing
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
    """``9356: 1956 1515 2135 1738 1175 116 721``."""
    if counts is None:
        return ''
    return str(counts[0]) if len(counts) == 1 else f'{sum(counts)}: {" ".join(map(str, counts))}'


def _check_tables(report: Report, name: str, disk: Disk, listed: dict[str, Listed]) -> None:
    """Compares the lists' labels with those of the release's tables, where these are there."""
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
    # One clip may have been corrected by hand; a wrong order of classes makes most of them differ.
    verdict = 'ok' if not odd else 'note' if len(odd) <= len(both) / 100 else 'WRONG'
    shown = f', as {", ".join(c.clip for c in odd[:5])}' if odd else ''
    report.add('labels that the table contradicts', 0, f'{len(odd)} of {len(both)}{shown}', verdict)


def _tables(disk: Disk, name: str) -> list[str]:
    return [path for path in disk.lists if path.rsplit('/', 1)[-1] == name]


def _single_set(path: Path) -> dict[str, int]:
    """Clip -> label of MAFW's table of single labels, 1..11 in its last column."""
    told: dict[str, int] = {}
    rows = read_table(path)
    next(rows)
    for line, row in rows:
        clip, label = str(row[0]).removesuffix('.mp4'), row[-1]
        if not clip.isdecimal() or label not in range(1, len(MAFW_CLASSES) + 1):
            raise DFERError(
                f'{path}:{line}: {row[0]!r} with label {label!r}; unpack the file again'
            )
        told[f'{int(clip):05d}'] = int(label) - 1
    return told


# ---------------------------------------------------------------- clips


@dataclass(frozen=True)
class Seen:
    """What one clip is.

    Attributes:
        frames: Their number; 0 where the clip is not there, None of a video that was not decoded.
        bad: How many of them are empty files or, where they were decoded, cannot be.
        size: Of the first, as 'W x H'.
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
) -> None:
    one = dataset(str(disk.root), media=kind, pipeline=[], lazy_init=True)
    there = any(folder.media == kind for folder in disk.folders)
    if not there and not asked:
        report.add(kind, '', 'none', 'note')
        return
    try:
        paths = one.find_clips(disk)
    except DFERError as error:
        report.add_problem(error)
        return
    folder = os.path.relpath(os.path.commonpath(paths.values()), disk.root)
    report.add(f'{kind}: folder', '', folder)
    wanted = sorted(listed)
    jobs = [(paths.get(clip), decode) for clip in wanted]
    looked = _look_at_all(jobs, f'Looking at {kind}', workers)
    seen = {clip: one for one, clip in zip(looked, wanted)}  # in this order: the bar is closed
    _add_clips(report, kind, seen, len(paths.keys() - listed.keys()), decode)


def _add_clips(
    report: Report, kind: str, seen: dict[str, Seen], unlisted: int, decode: bool
) -> None:
    """Lines about the clips of one kind of media."""
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
    report.add(f'{kind}: clips without any frame to read', 0, _few(lost))
    how = 'that cannot be decoded' if decode else 'empty (--decode reads all)'
    report.add(f'{kind}: clips with frames {how}', 0, _few(damaged), _note(damaged))
    if kind == 'frames16':
        report.add(f'{kind}: clips of other than 16 frames', 0, _few(clips['not 16']))
    elif lengths:
        report.add(f'{kind}: clips under 16 frames, which are repeated', '', _few(short), 'ok')
    if lengths:
        middle = int(np.median(lengths))
        span = f'{min(lengths)} to {max(lengths)}, median {middle}'
        report.add(f'{kind}: frames of a clip', '', span)
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
        report.add(f'{kind}: clips that no list names', '', unlisted, 'note')


def _is_wide(size: str) -> bool:
    """Return whether a size, 'W x H', is that of a film's picture: at least 5 to 4."""
    width, height = map(int, size.split(' x '))
    return width >= 1.25 * height


def _note(clips: list[str]) -> str:
    return 'note' if clips else 'ok'


def _few(clips: list[str]) -> str:
    """How many, and the first of them."""
    shown = ', '.join(clips[:_SHOWN]) + (', ...' if len(clips) > _SHOWN else '')
    return f'{len(clips)}: {shown}' if clips else '0'


def _look_at_all(
    jobs: list[tuple[str | None, bool]], title: str, workers: int | None
) -> Iterator[Seen]:
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
    """Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _look_at(job: tuple[str | None, bool]) -> Seen:
    path, decode = job
    if path is None or not os.path.exists(path):
        return Seen(0)
    return _look_at_folder(path, decode) if os.path.isdir(path) else _look_at_video(path, decode)


def _look_at_folder(path: str, decode: bool) -> Seen:
    folder = find_frame_folder(path)
    if folder is None:
        empty = len(list_frames(path))
        return Seen(empty, bad=empty)
    files = [os.path.join(folder, name) for name in list_frames(folder)]
    bad = [file for file in files if not _is_picture(file, decode)]
    good = next(file for file in files if os.path.getsize(file) > 0)
    return Seen(len(files), len(bad), _size(good))


def _is_picture(file: str, decode: bool) -> bool:
    if not decode:
        return os.path.getsize(file) > 0
    try:
        read_picture(file)
    except NO_PICTURE:
        return False
    return True


def _size(file: str) -> str | None:
    try:
        with Image.open(file) as picture:
            return '{} x {}'.format(*picture.size)
    except NO_PICTURE:
        return None


def _look_at_video(path: str, decode: bool) -> Seen:
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
