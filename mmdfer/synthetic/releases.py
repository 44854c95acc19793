"""Drawn trees in the layouts of DFEW, FERV39k and MAFW, with the releases' numbers of clips.

Label files are as in the releases (docs/datasets.md), to the clip: folds, classes, votes, captions.
At most ``POOL`` clips of each class are drawn; further ones are links to their pictures, so that
a tree of full size takes minutes. ``synthetic.json``, written last, holds the numbers of clips
that a reader should find, and tells the tree from the real thing.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from openpyxl import Workbook
from tqdm import tqdm

from ..errors import DFERError
from ..files import clear_leftovers, explain_write_errors, write_aside
from .benchmark import default_workers, one_opencv_thread, start_worker
from .benchmark import frames as drawn_frames
from .emotions import CLASSES as DFEW_CLASSES
from .emotions import ClipSpec, describe, make_clip
from .faces import Identity, sample_identity
from .media import write_picture, write_video

RELEASES = ('dfew', 'ferv39k', 'mafw')
MEDIA = ('frames', 'frames16', 'videos')
POOL = 20
MARKER = 'synthetic.json'

_FERV39K_WORDS = ('Happy', 'Sad', 'Neutral', 'Angry', 'Surprise', 'Disgust', 'Fear')
# fmt: off
_SCENES = (
    'Action', 'Argue', 'Business', 'Conflict', 'Contest', 'Crime', 'Crisis', 'DailyLife',
    'ElegantArt', 'Experiment', 'History', 'Interview', 'Liveshow', 'Medicine', 'OfficialEvent',
    'ScholarReport', 'School', 'Social', 'Speech', 'Talkshow', 'Terror', 'War',
)
_MAFW_CLASSES = (
    'anger', 'disgust', 'fear', 'happiness', 'neutral', 'sadness', 'surprise', 'contempt',
    'anxiety', 'helplessness', 'disappointment',
)
# fmt: on
# Clips of each class in the releases.
_DFEW = (2445, 1894, 2669, 2173, 1469, 145, 902)
_FERV39K = ((5854, 5523, 7790, 5906, 2502, 1833, 1680), (1473, 1393, 1958, 1487, 638, 467, 431))
_MAFW = (1390, 639, 625, 1242, 1138, 1470, 1072, 236, 916, 262, 182)
_DFEW_IDS, _MAFW_IDS = 16372, 20098 - 18
# MAFW's compound lists: clips of several labels, of these such without a single one, and clips of
# one label other than neutral.
_MAFW_SEVERAL, _MAFW_EXTRA, _MAFW_KEPT = 4058, 873, 3800
_NEUTRAL = _MAFW_CLASSES.index('neutral')
_STREAM = 4  # apart from the benchmark's random numbers
_POOL_FOLDER = '.drawn'
_OWN = {_POOL_FOLDER, 'EmoLabel_DataSplit', 'Annotation', 'Clip', '4_setups', '2_ClipsforFaceCrop'}
_OWN |= {'0_7_LabelClips', 'Train & Test Set', 'Labels', 'data'}

# The four expressions that MAFW adds, in action units that the faces have. Ours.
_FURTHER_AUS = {
    'contempt': {'AU10': 0.4, 'AU12': 0.5, 'AU23': 0.7},
    'anxiety': {'AU1': 0.8, 'AU2': 0.5, 'AU4': 0.5, 'AU20': 0.5, 'AU25': 0.4},
    'helplessness': {'AU1': 0.9, 'AU15': 0.6, 'AU26': 0.5},
    'disappointment': {'AU4': 0.7, 'AU15': 0.7, 'AU17': 0.9},
}

_CHINESE = {
    'anger': '眉头紧皱，嘴唇绷紧。',
    'disgust': '鼻子皱起，上唇抬高。',
    'fear': '眉毛抬起，嘴角向两侧拉伸。',
    'happiness': '脸颊抬起，嘴角上扬。',
    'neutral': '面部平静。',
    'sadness': '眉毛内侧抬起，嘴角下垂。',
    'surprise': '眉毛抬高，嘴巴张开。',
    'contempt': '嘴角微微抬起。',
    'anxiety': '眉头紧锁，嘴唇拉伸。',
    'helplessness': '眉毛内侧抬起，嘴巴微张。',
    'disappointment': '眉头下压，嘴角下垂。',
}


@dataclass(frozen=True)
class Clip:
    """One clip of a tree.

    Attributes:
        name: ``00001`` or ``Action/Sad/0010``.
        shows: The expression.
        take: Which of the drawn clips of this expression it shows.
        length: Number of frames.
    """

    name: str
    shows: str
    take: int
    length: int


@dataclass(frozen=True)
class Plan:
    """A tree without its media.

    Attributes:
        clips: All clips.
        texts: Label files by path below the root.
        tables: Excel files by path below the root, as rows.
        counts: Clips of each class, or one sum, by list, split and fold.
    """

    clips: list[Clip]
    texts: dict[str, bytes]
    tables: dict[str, list[tuple]]
    counts: dict[str, list[int]]


# ---------------------------------------------------------------- how many, and in which fold


def _generator(*words: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([_STREAM, *words]))


def _scaled(sizes: Sequence[int], total: int | None, least: int) -> list[int]:
    """The sizes scaled to a total by largest remainder, none under ``least``."""
    if total is None:
        return list(sizes)
    if total < least * len(sizes):
        raise DFERError(
            f'--clips {total}: too few for {least} of each of {len(sizes)} classes; '
            f'give {least * len(sizes)} or more'
        )
    free, whole = total - least * len(sizes), sum(sizes)
    scaled = [least + free * n // whole for n in sizes]
    order = sorted(range(len(sizes)), key=lambda i: (-(free * sizes[i] % whole), i))
    for i in order[: total - sum(scaled)]:
        scaled[i] += 1
    return scaled


def _fold_of(labels: dict[str, Any], rng: np.random.Generator) -> dict[str, int]:
    """The fold 1..5 that tests each clip: of each class a fifth, the first folds one more.

    This gives the releases' numbers for every class and fold.
    """
    by_class: dict[Any, list[str]] = {}
    for clip, label in labels.items():
        by_class.setdefault(label, []).append(clip)
    return {
        clip: place % 5 + 1
        for clips in by_class.values()
        for place, clip in enumerate(rng.permutation(clips).tolist())
    }


def _splits(labels: dict[str, Any], test: dict[str, int]) -> Iterator[tuple[str, int, list[str]]]:
    """Split, fold and clips of each of ten lists."""
    for fold in range(1, 6):
        for split in ('train', 'test'):
            yield split, fold, [c for c in labels if (test[c] == fold) == (split == 'test')]


def _tally(labels: Sequence[int], classes: int) -> list[int]:
    return np.bincount(labels, minlength=classes).tolist()


def _lengths(rng: np.random.Generator, count: int, low: int, middle: int, high: int) -> list[int]:
    """Numbers of frames about ``middle``, within ``low`` and ``high``."""
    drawn = middle * np.exp(0.45 * rng.standard_normal(count))
    return np.clip(drawn.round(), low, high).astype(int).tolist()


# ---------------------------------------------------------------- label files


def _plan_dfew(clips: int | None, seed: int) -> Plan:
    """DFEW: 11,697 clips or ``clips``, labels from 1, five folds, votes."""
    rng = _generator(seed, 0)
    sizes = _scaled(_DFEW, clips, least=5)
    total = sum(sizes)
    ids = 1 + np.sort(rng.choice(_DFEW_IDS * total // sum(_DFEW), total, replace=False))
    drawn = rng.permutation(np.repeat(np.arange(7), sizes))
    labels = {f'{i:05d}': int(n) for i, n in zip(ids, drawn, strict=True)}
    texts, counts = {}, {}
    for split, fold, names in _splits(labels, _fold_of(labels, rng)):
        rows = ''.join(f'{name},{labels[name] + 1}\n' for name in names)
        texts[f'EmoLabel_DataSplit/{split}(single-labeled)/set_{fold}.csv'] = (
            f'video_name,label\n{rows}'.encode()
        )
        counts[f'{split}/{fold}'] = _tally([labels[name] for name in names], 7)
    heads = ('1happy', '2sad', '3neutral', '4angry', '5surprise', '6disgust', '7fear')
    votes: list[tuple] = [(*heads, 'order', 'label')]
    for number in range(1, _DFEW_IDS * total // sum(_DFEW) + 1):
        label = labels.get(f'{number:05d}')
        votes.append((*_votes(label, rng), number, 0 if label is None else label + 1))
    lengths = _lengths(rng, total, 16, 70, 120)
    for short in rng.choice(total, max(1, 14 * total // sum(_DFEW)), replace=False):
        lengths[short] = int(rng.integers(11, 16))
    shows = {name: DFEW_CLASSES[label] for name, label in labels.items()}
    tables = {'Annotation/annotation.xlsx': votes}
    return Plan(_cast(list(labels), shows, lengths), texts, tables, counts)


def _votes(label: int | None, rng: np.random.Generator) -> list[int]:
    """Ten votes: seven or more for the label; without one, at most six for any."""
    if label is None:
        return (np.bincount(rng.choice(7, 2, replace=False).repeat(5), minlength=7)).tolist()
    votes = rng.multinomial(10 - (most := int(rng.integers(7, 11))), [1 / 7] * 7)
    votes[label] += most
    return votes.tolist()


def _plan_ferv39k(clips: int | None, seed: int) -> Plan:
    """FERV39k: 38,935 clips or ``clips``, one split, 22 scenes, no header."""
    rng = _generator(seed, 1)
    both = _scaled([n for part in _FERV39K for n in part], clips, least=1)
    names: dict[str, int] = {}
    counts = dict(train=both[:7], test=both[7:])
    split_of: dict[str, str] = {}
    numbers: dict[str, int] = {}
    for split, sizes in counts.items():
        for label, size in enumerate(sizes):
            for scene in rng.choice(_SCENES, size).tolist():
                where = f'{scene}/{_FERV39K_WORDS[label]}'
                numbers[where] = numbers.get(where, -1) + int(rng.integers(1, 3))
                names[name := f'{where}/{numbers[where]:04d}'] = label
                split_of[name] = split
    ordered = sorted(names)
    texts = {}
    for split in counts:
        lines = {n: f'{n} {n.split("/")[1]}\n' for n in ordered if split_of[n] == split}
        texts[f'4_setups/All_scenes/{split}_All.csv'] = ''.join(lines.values()).encode()
        for scene in _SCENES:
            some = [line for n, line in lines.items() if n.startswith(f'{scene}/')]
            texts[f'4_setups/22_scenes/{split}_{scene}.csv'] = ''.join(some).encode()
    lengths = rng.integers(16, 41, len(ordered))  # a tenth of them under 16, the median 28
    lengths = np.where(rng.random(len(ordered)) < 0.1, rng.integers(8, 16, len(ordered)), lengths)
    shows = {name: DFEW_CLASSES[label] for name, label in names.items()}
    return Plan(_cast(ordered, shows, lengths.tolist()), texts, {}, counts)


def _plan_mafw(clips: int | None, seed: int) -> Plan:
    """MAFW: 9,172 clips of one label or ``clips``, 43 classes in the compound lists, captions."""
    rng = _generator(seed, 2)
    sizes = _scaled(_MAFW, clips, least=5)
    share = sum(sizes) / sum(_MAFW)
    extra = max(15, round(_MAFW_EXTRA * share))  # clips of several labels and no single one
    count = sum(sizes) + extra
    numbers = rng.choice(max(round(_MAFW_IDS * share), 2 * count), count, replace=False)
    names = [f'{19 + number:05d}' for number in np.sort(numbers)]
    drawn = rng.permutation(np.repeat([*range(11), -1], [*sizes, extra])).tolist()
    single = {name: label for name, label in zip(names, drawn, strict=True) if label >= 0}
    compound = _compound(single, [n for n in names if n not in single], share, rng)
    shows = {n: _MAFW_CLASSES[single.get(n, compound.get(n, (0,))[0])] for n in names}
    lengths = _lengths(rng, count, 16, 60, 120)
    for short in rng.choice(count, max(1, round(8 * share)), replace=False):
        lengths[short] = int(rng.integers(9, 16))
    plan = Plan(_cast(names, shows, lengths), {}, {}, {})
    captions = {clip.name: _caption(clip, seed) for clip in plan.clips}
    for kind, labels in (
        ('single', {n: (label,) for n, label in single.items()}),
        ('compound', compound),
    ):
        for split, fold, chosen in _splits(labels, _fold_of(labels, rng)):
            for end in ('no_caption', 'with_caption'):
                listed = {n: labels[n] for n in chosen if end[0] == 'n' or labels[n] != (_NEUTRAL,)}
                path = f'Train & Test Set/{kind}/{end}/set_{fold}/{split}.txt'
                plan.texts[path] = _mafw_list(listed, captions if end[0] == 'w' else None)
                firsts = [label[0] for label in listed.values()]
                whole = _tally(firsts, 11) if kind == 'single' else [len(listed)]
                plan.counts[f'{kind}/{end}/{split}/{fold}'] = whole
    plan.tables.update(_mafw_tables(single, compound, captions, rng))
    return plan


def _compound(
    single: dict[str, int], extra: list[str], share: float, rng: np.random.Generator
) -> dict[str, tuple[int, ...]]:
    """The compound labels: some clips keep their single one, others and ``extra`` get several.

    At full size as many as in the release, and in classes of such sizes that each fold has as
    many too: what is left of a class by fifths goes to the first folds.
    """
    others = [i for i in range(11) if i != _NEUTRAL]
    sizes = [list(single.values()).count(i) for i in others]
    kinds = [*combinations(others, 2)][:29] + [*combinations(others, 3)][:3]
    if share == 1:
        kept = _with_rests(sizes, _MAFW_KEPT, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
        rests = [0] * 6 + [1] * 7 + [2] * 9 + [3] * 7 + [4] * 3
        several = _with_rests(range(60, 28, -1), _MAFW_SEVERAL, rests)
    else:
        kept = [max(5, n * _MAFW_KEPT // (sum(_MAFW) - _MAFW[_NEUTRAL])) for n in sizes]
        count = min(round(_MAFW_SEVERAL * share), sum(sizes) - sum(kept) + len(extra))
        kinds = kinds[: max(3, min(32, count // 5))]
        several = _scaled([1] * len(kinds), max(15, count), least=5)
    left = dict(zip(others, kept, strict=True)) | {_NEUTRAL: len(single)}
    compound: dict[str, tuple[int, ...]] = {}
    free = list(extra)
    for name in rng.permutation(list(single)).tolist():
        label = single[name]
        if left[label] > 0:
            compound[name], left[label] = (label,), left[label] - 1
        else:
            free.append(name)
    for kind, size in zip(kinds, several, strict=True):
        compound |= {free.pop(0): kind for _ in range(size)}
    return dict(sorted(compound.items()))


def _with_rests(weights: Sequence[int], total: int, rests: Sequence[int]) -> list[int]:
    """Sizes of this sum, by weight, of which fives leave these rests."""
    fives = _scaled(list(weights), (total - sum(rests)) // 5, least=1)
    return [5 * five + rest for five, rest in zip(fives, rests, strict=True)]


def _mafw_list(listed: dict[str, tuple[int, ...]], captions: dict[str, tuple] | None) -> bytes:
    rows = []
    for name, label in listed.items():
        word = '_'.join(_MAFW_CLASSES[i] for i in label)
        fields = [f'{name}.mp4', word, *(captions[name] if captions else ())]
        rows.append(('\t' if captions else ' ').join(fields) + '\r\n')
    return ''.join(rows).encode('gb18030' if captions else 'ascii')


def _mafw_tables(
    single: dict[str, int],
    compound: dict[str, tuple[int, ...]],
    captions: dict[str, tuple[str, str]],
    rng: np.random.Generator,
) -> dict[str, list[tuple]]:
    """The release's tables of confidences, single labels, several labels and captions."""
    confident = {n: np.round(rng.random(11) * 0.3, 4) for n in sorted({*single, *compound})}
    for name, values in confident.items():
        values[[*compound.get(name, (single.get(name, 0),))]] += 0.6
    head = ('clip', *_MAFW_CLASSES)
    several = {n: label for n, label in compound.items() if len(label) > 1}
    tables = {
        'annotation': [('clip', 'invalid', *_MAFW_CLASSES)]
        + [(f'{n}.mp4', 0, *v.tolist()) for n, v in confident.items()],
        'single-set': [(*head, 'single_label')]
        + [(f'{n}.mp4', *confident[n].tolist(), label + 1) for n, label in single.items()],
        'multi-set': [(*head, 'multi_label')]
        + [
            (f'{n}.mp4', *confident[n].tolist(), ','.join(str(i + 1) for i in label))
            for n, label in several.items()
        ],
        'descriptive_text': [
            (f'{n}.mp4', *captions[n]) for n, label in single.items() if label != _NEUTRAL
        ],
    }
    return {f'Labels/{name}.xlsx': rows for name, rows in tables.items()}


# ---------------------------------------------------------------- pictures


def _cast(names: Sequence[str], shows: dict[str, str], lengths: Sequence[int]) -> list[Clip]:
    """The clips, each with the drawn one of its expression whose turn it is."""
    turns: Counter[str] = Counter()
    clips = []
    for name, length in zip(names, lengths, strict=True):
        clips.append(Clip(name, shows[name], turns[shows[name]] % POOL, int(length)))
        turns[shows[name]] += 1
    return clips


def drawn_clip(shows: str, take: int, seed: int = 0) -> tuple[ClipSpec, Identity]:
    """What a drawn clip is made of: a face of its own, and the curves of its action units."""
    rng = _generator(seed, 3, _MAFW_CLASSES.index(shows), take)
    face = sample_identity(rng)
    kind = {'happiness': 'felt smile', 'neutral': 'rest'}.get(shows, 'plain')
    stand_in = shows if shows in DFEW_CLASSES else 'sadness'  # of which only the shape is kept
    where = dict(id=f'{take}', split='train', part='fit', identity=f'{shows}_{take}')
    spec = make_clip(rng, kind=kind, shown=(stand_in,), face=face, **where)
    if shows not in DFEW_CLASSES:
        strength = 0.6 + 0.4 * rng.random()
        aus = {name: round(value * strength, 6) for name, value in _FURTHER_AUS[shows].items()}
        first, *more = spec.expressions
        spec = replace(spec, expressions=(replace(first, name=shows, aus=aus), *more))
    return spec, face


def _caption(clip: Clip, seed: int) -> tuple[str, str]:
    """A clip's sentence in Chinese and in English."""
    return _CHINESE[clip.shows], describe(drawn_clip(clip.shows, clip.take, seed)[0])


def _draw(folder: Path, suffix: str, size: int, seed: int, job: tuple[str, int]) -> None:
    """Draws a clip into ``folder``, as pictures or as a video, unless it is there."""
    shows, take = job
    target = folder / f'{shows}_{take}{suffix if suffix == ".mp4" else ""}'
    if target.exists():
        return
    spec, face = drawn_clip(shows, take, seed)
    drawn = drawn_frames(spec, face, size)
    aside = target.with_name(f'.{os.getpid()}-{target.name}')
    with explain_write_errors(target):
        try:
            if suffix == '.mp4':
                write_video(aside, drawn, size)
            else:
                aside.mkdir()
                for number, frame in enumerate(drawn):
                    write_picture(aside / f'{number:03d}{suffix}', frame)
            os.replace(aside, target)
        finally:
            _remove(aside)


def _remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _draw_all(
    folder: Path, clips: Sequence[Clip], suffix: str, size: int, seed: int, workers: int
) -> None:
    """Draws what the clips show, on several processes."""
    jobs = sorted({(clip.shows, clip.take) for clip in clips})
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for left_over in folder.glob('.[0-9]*-*'):  # of a process that was killed while it drew
        _remove(left_over)
    draw = partial(_draw, folder, suffix, size, seed)
    with tqdm(total=len(jobs), desc='Drawing clips', unit='clip') as bar, one_opencv_thread():
        if workers == 1:
            for job in jobs:
                draw(job)
                bar.update()
            return
        pool = ProcessPoolExecutor(workers, initializer=start_worker, initargs=({}, size))
        try:
            for _ in pool.map(draw, jobs):
                bar.update()
        finally:
            pool.shutdown(cancel_futures=True)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)


def _place(folder: Path, pool: list[Path], names: Sequence[str]) -> None:
    """Makes a clip's folder of pictures, whole or not at all."""
    if folder.exists():
        return
    aside = folder.with_name(f'.{folder.name}.partial')
    with explain_write_errors(folder):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for place, name in enumerate(names):
            _link(pool[place * len(pool) // len(names)], aside / name)
        os.replace(aside, folder)


def _place_video(target: Path, drawn: Path) -> None:
    """Make a clip's video, whole or not at all."""
    aside = target.with_name(f'.{target.name}.partial')
    with explain_write_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        aside.unlink(missing_ok=True)
        _link(drawn, aside)
        os.replace(aside, target)


def _frame_names(layout: str, clip: Clip) -> list[str]:
    """Names of a clip's pictures, as in the release; DFEW's and MAFW's numbers have gaps."""
    rng = np.random.default_rng(zlib.crc32(clip.name.encode()))
    if layout == 'ferv39k':
        return [f'{i:02d}.jpg' for i in range(clip.length)]
    numbers = 1 + np.sort(
        rng.choice(clip.length + clip.length // 8 + 1, clip.length, replace=False)
    )
    if layout == 'dfew':
        return [f'{clip.name}_{number:05d}.jpg' for number in numbers]
    return [f'{number:05d}.png' for number in numbers]


def _video_path(layout: str, clip: Clip) -> str:
    if layout == 'dfew':
        return f'Clip/original/part_{(int(clip.name) - 1) // 1600 + 1}/{int(clip.name)}.mp4'
    return f'{dict(ferv39k="0_7_LabelClips", mafw="data/clips")[layout]}/{clip.name}.mp4'


_FRAMES = dict(dfew='Clip/clip_224x224', ferv39k='2_ClipsforFaceCrop', mafw='data/frames')


def _add_media(
    layout: str, root: Path, clips: Sequence[Clip], kind: str, size: int, seed: int, workers: int
) -> None:
    """Gives each clip its pictures or its video."""
    suffix = '.mp4' if kind == 'videos' else '.png' if layout == 'mafw' else '.jpg'
    pool = root / _POOL_FOLDER / suffix.strip('.')
    _draw_all(pool, clips, suffix, size, seed, workers)
    pictures = {
        folder.name: sorted(folder.iterdir()) for folder in pool.iterdir() if folder.is_dir()
    }
    for clip in tqdm(clips, f'Placing {kind}', unit='clip'):
        drawn = f'{clip.shows}_{clip.take}'
        if kind == 'videos':
            target = root / _video_path(layout, clip)
            if not target.exists():
                _place_video(target, pool / f'{drawn}.mp4')
        elif kind == 'frames16':
            names = [f'{i}.jpg' for i in range(1, 17)]
            _place(root / 'Clip/clip_224x224_16f' / clip.name, pictures[drawn], names)
        else:
            names = _frame_names(layout, clip)
            _place(root / _FRAMES[layout] / clip.name, pictures[drawn], names)


# ---------------------------------------------------------------- the tree


def plan(layout: str, clips: int | None = None, seed: int = 0) -> Plan:
    """All of a tree but its media.

    Args:
        layout: One of ``RELEASES``.
        clips: How many; None as many as the release has.
        seed: The same seed gives the same bytes.

    Raises:
        DFERError: Too few clips for the folds.
    """
    plans = dict(dfew=_plan_dfew, ferv39k=_plan_ferv39k, mafw=_plan_mafw)
    return plans[layout](clips, seed)


def make_release(
    layout: str,
    root: str | Path,
    clips: int | None = None,
    media: Sequence[str] = ('frames',),
    seed: int = 0,
    size: int = 112,
    workers: int | None = None,
) -> Path:
    """Makes a tree, or what is missing of it; does nothing where it is whole.

    Args:
        layout: One of ``RELEASES``.
        root: The folder to make it in.
        clips: How many; None as many as the release has.
        media: Of ``MEDIA``; more can be added later. ``frames16`` is DFEW's alone.
        seed: Of labels, folds and faces.
        size: Side of the pictures in pixels, a multiple of 16.
        workers: Processes that draw; the usable CPUs, at most 8, by default.

    Returns:
        ``root``.

    Raises:
        DFERError: Arguments that do not fit, or a root that holds something else.
    """
    root = Path(root)
    if 'frames16' in media and layout != 'dfew':
        raise DFERError(f'--frames16: {layout} has no folder of 16 frames; only dfew does')
    if size % 16 or not 64 <= size <= 512:
        raise DFERError(f'--size {size}: give a multiple of 16 within 64..512')
    made = dict(layout=layout, clips=clips, seed=seed, size=size)
    have = _media_of(root, made)
    todo = [kind for kind in media if kind not in have]
    if have and not todo:
        return root
    tree = plan(layout, clips, seed)
    for folder in {root, *((root / path).parent for path in (*tree.texts, *tree.tables))}:
        clear_leftovers(folder)
    for path, content in tree.texts.items():
        with write_aside(root / path) as aside:
            aside.write_bytes(content)
    for path, rows in tree.tables.items():
        _write_table(root / path, rows)
    for kind in todo:
        _add_media(layout, root, tree.clips, kind, size, seed, workers or default_workers())
    shutil.rmtree(root / _POOL_FOLDER, ignore_errors=True)
    note = f'Drawn by tools/make_synthetic.py in the layout of {layout}: figures are synthetic.'
    marker = dict(made, note=note, media=sorted({*have, *media}), counts=tree.counts)
    with write_aside(root / MARKER) as aside:
        aside.write_text(json.dumps(marker, indent=1))
    return root


def _write_table(path: Path, rows: Sequence[tuple]) -> None:
    """Writes an Excel file."""
    content = io.BytesIO()
    with explain_write_errors(tempfile.gettempdir()):  # where openpyxl collects the rows
        book = Workbook(write_only=True)
        page = book.create_sheet('Sheet1')
        for row in rows:
            page.append(list(row))
        book.save(content)
    with write_aside(path) as aside:
        aside.write_bytes(content.getvalue())


def _media_of(root: Path, made: dict[str, Any]) -> list[str]:
    """The media that a tree of these arguments has already.

    Raises:
        DFERError: The root holds a tree of others, or something that is no such tree.
    """
    path = root / MARKER
    if not path.is_file():
        strangers = [p.name for p in root.iterdir() if p.name not in _OWN] if root.is_dir() else []
        if strangers:
            raise DFERError(
                f'{root}: holds {strangers[0]}, not of a drawn tree; give an empty folder'
            )
        return []
    marker = json.loads(path.read_text())
    other = {key: marker.get(key) for key in made}
    if other != made:
        raise DFERError(f'{root}: holds the tree of {other}, not of {made}; give another folder')
    return marker['media']
