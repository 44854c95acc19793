"""Write synthetic copies of the releases of DFEW, FERV39k and MAFW, called trees here.

A tree has the same folders, file formats, folds, votes and captions as the release of the dataset,
and the same number of clips of each class in each fold (docs/datasets.md). Its faces are drawn. At
most ``POOL`` clips of each expression are drawn, and all other clips are links to their files, so
that a tree of full size takes only minutes. The file ``synthetic.json`` is written last. It
contains the number of clips that a reader of the dataset should find, and distinguishes the tree
from the real dataset.
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
from ..workers import explain_killed_worker
from .benchmark import default_workers, one_opencv_thread, start_worker
from .domains import SHADED
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
# Number of clips of each class in the releases. FERV39k has a training and a test split.
_DFEW = (2445, 1894, 2669, 2173, 1469, 145, 902)
_FERV39K = ((5854, 5523, 7790, 5906, 2502, 1833, 1680), (1473, 1393, 1958, 1487, 638, 467, 431))
_MAFW = (1390, 639, 625, 1242, 1138, 1470, 1072, 236, 916, 262, 182)
_DFEW_IDS, _MAFW_IDS = 16372, 20098 - 18
# Numbers of clips in the compound lists of MAFW: clips with several labels, the clips among them
# that have no single label, and clips with one label other than neutral.
_MAFW_SEVERAL, _MAFW_EXTRA, _MAFW_KEPT = 4058, 873, 3800
_NEUTRAL = _MAFW_CLASSES.index('neutral')
_STREAM = 4  # a word in all seeds here, so that random numbers differ from the benchmark's
_POOL_FOLDER = '.drawn'
# Names at the top of a tree. A folder that contains any other name is not overwritten.
_OWN = {_POOL_FOLDER, 'EmoLabel_DataSplit', 'Annotation', 'Clip', '4_setups', '2_ClipsforFaceCrop'}
_OWN |= {'0_7_LabelClips', 'Train & Test Set', 'Labels', 'data'}

# Action units of the four expressions that only MAFW has. No publication gives them. They were
# chosen for this package, from the action units that the faces have.
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
    """Describe one clip of a tree.

    Attributes:
        name: Name of the clip in the dataset, for example ``00001`` or ``Action/Sad/0010``.
        shows: The expression that the clip shows.
        take: Number of the drawn clip of this expression that supplies the frames.
        length: Number of frames.
    """

    name: str
    shows: str
    take: int
    length: int


@dataclass(frozen=True)
class Plan:
    """Describe the clips and the label files of a tree, without its pictures and videos.

    Attributes:
        clips: All clips of the tree.
        texts: Contents of the text files with labels, by path below the root.
        tables: Rows of the Excel files, by path below the root.
        counts: Number of clips of each class, or in total for compound labels, by the name of the
            list: ``'train/1'`` (split and fold), or ``'train'`` if there are no folds.
    """

    clips: list[Clip]
    texts: dict[str, bytes]
    tables: dict[str, list[tuple]]
    counts: dict[str, list[int]]


# ---------------------------------------------------------------- numbers of clips, and folds


def _generator(*words: int) -> np.random.Generator:
    """Return a random generator that is seeded by integers."""
    return np.random.Generator(np.random.PCG64([_STREAM, *words]))


def _scale_sizes(sizes: Sequence[int], total: int | None, least: int) -> list[int]:
    """Scale class sizes to a total, rounded by the method of the largest remainder.

    Args:
        sizes: Number of clips of each class.
        total: The sum of the scaled sizes. If None, the sizes are returned unchanged.
        least: Lower bound of each scaled size.

    Raises:
        DFERError: If the total is too small for ``least`` clips of each class.
    """
    if total is None:
        return list(sizes)
    if total < least * len(sizes):
        raise DFERError(
            f'--clips {total}: each of the {len(sizes)} classes needs at least {least} clips; '
            f'give {least * len(sizes)} or more'
        )
    free, whole = total - least * len(sizes), sum(sizes)
    scaled = [least + free * n // whole for n in sizes]
    order = sorted(range(len(sizes)), key=lambda i: (-(free * sizes[i] % whole), i))
    for i in order[: total - sum(scaled)]:
        scaled[i] += 1
    return scaled


def _assign_folds(labels: dict[str, Any], rng: np.random.Generator) -> dict[str, int]:
    """Assign each clip to the fold 1..5 in which the clip is tested.

    Each fold tests a fifth of the clips of each class. If the class size is not a multiple of five,
    the first folds test one clip more. This gives the numbers of the releases for every class and
    fold.

    Args:
        labels: The label of each clip by name.
        rng: The random generator.

    Returns:
        The fold of each clip by name.
    """
    by_class: dict[Any, list[str]] = {}
    for clip, label in labels.items():
        by_class.setdefault(label, []).append(clip)
    return {
        clip: place % 5 + 1
        for clips in by_class.values()
        for place, clip in enumerate(rng.permutation(clips).tolist())
    }


def _iterate_lists(
    labels: dict[str, Any], test: dict[str, int]
) -> Iterator[tuple[str, int, list[str]]]:
    """Yield (split, fold, names of clips) of the ten lists of a dataset with five folds."""
    for fold in range(1, 6):
        for split in ('train', 'test'):
            yield split, fold, [c for c in labels if (test[c] == fold) == (split == 'test')]


def _count_labels(labels: Sequence[int], classes: int) -> list[int]:
    """Count the clips of each class."""
    return np.bincount(labels, minlength=classes).tolist()


def _draw_lengths(
    rng: np.random.Generator, count: int, low: int, middle: int, high: int
) -> list[int]:
    """Draw the lengths of ``count`` clips in frames, around ``middle`` and within ``low..high``."""
    drawn = middle * np.exp(0.45 * rng.standard_normal(count))
    return np.clip(drawn.round(), low, high).astype(int).tolist()


# ---------------------------------------------------------------- label files


def _plan_dfew(clips: int | None, seed: int) -> Plan:
    """Plan a tree of DFEW: 11,697 clips by default, labels from 1, five folds, and votes."""
    rng = _generator(seed, 0)
    sizes = _scale_sizes(_DFEW, clips, least=5)
    total = sum(sizes)
    ids = 1 + np.sort(rng.choice(_DFEW_IDS * total // sum(_DFEW), total, replace=False))
    drawn = rng.permutation(np.repeat(np.arange(7), sizes))
    labels = {f'{i:05d}': int(n) for i, n in zip(ids, drawn, strict=True)}
    texts, counts = {}, {}
    for split, fold, names in _iterate_lists(labels, _assign_folds(labels, rng)):
        rows = ''.join(f'{name},{labels[name] + 1}\n' for name in names)
        texts[f'EmoLabel_DataSplit/{split}(single-labeled)/set_{fold}.csv'] = (
            f'video_name,label\n{rows}'.encode()
        )
        counts[f'{split}/{fold}'] = _count_labels([labels[name] for name in names], 7)
    heads = ('1happy', '2sad', '3neutral', '4angry', '5surprise', '6disgust', '7fear')
    votes: list[tuple] = [(*heads, 'order', 'label')]
    for number in range(1, _DFEW_IDS * total // sum(_DFEW) + 1):
        label = labels.get(f'{number:05d}')
        votes.append((*_draw_votes(label, rng), number, 0 if label is None else label + 1))
    lengths = _draw_lengths(rng, total, 16, 70, 120)
    for short in rng.choice(total, max(1, 14 * total // sum(_DFEW)), replace=False):
        lengths[short] = int(rng.integers(11, 16))
    shows = {name: DFEW_CLASSES[label] for name, label in labels.items()}
    tables = {'Annotation/annotation.xlsx': votes}
    return Plan(_assign_drawn_clips(list(labels), shows, lengths), texts, tables, counts)


def _draw_votes(label: int | None, rng: np.random.Generator) -> list[int]:
    """Draw the ten votes of a clip for the seven classes.

    At least seven votes are for the label. Without a label, two classes have five votes each.
    """
    if label is None:
        return (np.bincount(rng.choice(7, 2, replace=False).repeat(5), minlength=7)).tolist()
    votes = rng.multinomial(10 - (most := int(rng.integers(7, 11))), [1 / 7] * 7)
    votes[label] += most
    return votes.tolist()


def _plan_ferv39k(clips: int | None, seed: int) -> Plan:
    """Plan a tree of FERV39k: 38,935 clips by default, 22 scenes, one training and test split."""
    rng = _generator(seed, 1)
    both = _scale_sizes([n for part in _FERV39K for n in part], clips, least=1)
    names: dict[str, int] = {}
    counts = dict(train=both[:7], test=both[7:])
    splits: dict[str, str] = {}
    numbers: dict[str, int] = {}
    for split, sizes in counts.items():
        for label, size in enumerate(sizes):
            for scene in rng.choice(_SCENES, size).tolist():
                where = f'{scene}/{_FERV39K_WORDS[label]}'
                numbers[where] = numbers.get(where, -1) + int(rng.integers(1, 3))
                names[name := f'{where}/{numbers[where]:04d}'] = label
                splits[name] = split
    ordered = sorted(names)
    texts = {}
    for split in counts:
        lines = {n: f'{n} {n.split("/")[1]}\n' for n in ordered if splits[n] == split}
        texts[f'4_setups/All_scenes/{split}_All.csv'] = ''.join(lines.values()).encode()
        for scene in _SCENES:
            some = [line for n, line in lines.items() if n.startswith(f'{scene}/')]
            texts[f'4_setups/22_scenes/{split}_{scene}.csv'] = ''.join(some).encode()
    lengths = rng.integers(16, 41, len(ordered))  # then a tenth is set to less than 16 frames
    lengths = np.where(rng.random(len(ordered)) < 0.1, rng.integers(8, 16, len(ordered)), lengths)
    shows = {name: DFEW_CLASSES[label] for name, label in names.items()}
    return Plan(_assign_drawn_clips(ordered, shows, lengths.tolist()), texts, {}, counts)


def _plan_mafw(clips: int | None, seed: int) -> Plan:
    """Plan a tree of MAFW, with five folds, compound labels and captions.

    By default there are 9,172 clips with a single label, and 43 classes in the compound lists.
    """
    rng = _generator(seed, 2)
    sizes = _scale_sizes(_MAFW, clips, least=5)
    share = sum(sizes) / sum(_MAFW)
    extra = max(15, round(_MAFW_EXTRA * share))  # clips with several labels and no single label
    count = sum(sizes) + extra
    numbers = rng.choice(max(round(_MAFW_IDS * share), 2 * count), count, replace=False)
    names = [f'{19 + number:05d}' for number in np.sort(numbers)]
    drawn = rng.permutation(np.repeat([*range(11), -1], [*sizes, extra])).tolist()
    single = {name: label for name, label in zip(names, drawn, strict=True) if label >= 0}
    compound = _draw_compound(single, [n for n in names if n not in single], share, rng)
    shows = {n: _MAFW_CLASSES[single.get(n, compound.get(n, (0,))[0])] for n in names}
    lengths = _draw_lengths(rng, count, 16, 60, 120)
    for short in rng.choice(count, max(1, round(8 * share)), replace=False):
        lengths[short] = int(rng.integers(9, 16))
    plan = Plan(_assign_drawn_clips(names, shows, lengths), {}, {}, {})
    captions = {clip.name: _write_captions(clip, seed) for clip in plan.clips}
    for kind, labels in (
        ('single', {n: (label,) for n, label in single.items()}),
        ('compound', compound),
    ):
        for split, fold, chosen in _iterate_lists(labels, _assign_folds(labels, rng)):
            for end in ('no_caption', 'with_caption'):
                listed = {n: labels[n] for n in chosen if end[0] == 'n' or labels[n] != (_NEUTRAL,)}
                path = f'Train & Test Set/{kind}/{end}/set_{fold}/{split}.txt'
                plan.texts[path] = _format_mafw_list(listed, captions if end[0] == 'w' else None)
                firsts = [label[0] for label in listed.values()]
                whole = _count_labels(firsts, 11) if kind == 'single' else [len(listed)]
                plan.counts[f'{kind}/{end}/{split}/{fold}'] = whole
    plan.tables.update(_build_mafw_tables(single, compound, captions, rng))
    return plan


def _draw_compound(
    single: dict[str, int], extra: list[str], share: float, rng: np.random.Generator
) -> dict[str, tuple[int, ...]]:
    """Draw the compound labels of MAFW.

    Some clips with a single label keep the label. The others, and the clips of ``extra``, get
    several labels. At full size, the numbers of clips are those of the release in total and in each
    fold. For this, the class sizes are chosen by their remainder modulo five, because the remaining
    clips of a class go to the first folds.

    Args:
        single: The class index of each clip with a single label, by name.
        extra: Names of the clips without a single label.
        share: Size of the tree as a fraction of the release.
        rng: The random generator.

    Returns:
        The class indices of each clip in the compound lists, by name.
    """
    others = [i for i in range(11) if i != _NEUTRAL]
    sizes = [list(single.values()).count(i) for i in others]
    kinds = [*combinations(others, 2)][:29] + [*combinations(others, 3)][:3]
    if share == 1:
        kept = _scale_with_remainders(sizes, _MAFW_KEPT, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
        remainders = [0] * 6 + [1] * 7 + [2] * 9 + [3] * 7 + [4] * 3
        several = _scale_with_remainders(range(60, 28, -1), _MAFW_SEVERAL, remainders)
    else:
        kept = [max(5, n * _MAFW_KEPT // (sum(_MAFW) - _MAFW[_NEUTRAL])) for n in sizes]
        count = min(round(_MAFW_SEVERAL * share), sum(sizes) - sum(kept) + len(extra))
        kinds = kinds[: max(3, min(32, count // 5))]
        several = _scale_sizes([1] * len(kinds), max(15, count), least=5)
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


def _scale_with_remainders(
    weights: Sequence[int], total: int, remainders: Sequence[int]
) -> list[int]:
    """Scale weights to sizes with this total and with these remainders modulo five."""
    fives = _scale_sizes(list(weights), (total - sum(remainders)) // 5, least=1)
    return [5 * five + rest for five, rest in zip(fives, remainders, strict=True)]


def _format_mafw_list(
    listed: dict[str, tuple[int, ...]], captions: dict[str, tuple] | None
) -> bytes:
    """Return the content of a label file of MAFW: a line "NAME.mp4 anger_disgust" for each clip.

    Args:
        listed: The expressions of each clip, as class indices.
        captions: The Chinese and the English caption of each clip, which become two further columns
            separated by tabs. None writes the file without captions.
    """
    rows = []
    for name, label in listed.items():
        word = '_'.join(_MAFW_CLASSES[i] for i in label)
        fields = [f'{name}.mp4', word, *(captions[name] if captions else ())]
        rows.append(('\t' if captions else ' ').join(fields) + '\r\n')
    return ''.join(rows).encode('gb18030' if captions else 'ascii')


def _build_mafw_tables(
    single: dict[str, int],
    compound: dict[str, tuple[int, ...]],
    captions: dict[str, tuple[str, str]],
    rng: np.random.Generator,
) -> dict[str, list[tuple]]:
    """Build MAFW's Excel tables of confidences, single labels, several labels and captions."""
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


def _assign_drawn_clips(
    names: Sequence[str], shows: dict[str, str], lengths: Sequence[int]
) -> list[Clip]:
    """Build the clips, and assign to each in turn one of the drawn clips of its expression."""
    turns: Counter[str] = Counter()
    clips = []
    for name, length in zip(names, lengths, strict=True):
        clips.append(Clip(name, shows[name], turns[shows[name]] % POOL, int(length)))
        turns[shows[name]] += 1
    return clips


def sample_clip(shows: str, take: int, seed: int = 0) -> tuple[ClipSpec, Identity]:
    """Sample the parameters of a drawn clip and a face that only this clip shows.

    Args:
        shows: The expression, a class of MAFW.
        take: Number of the drawn clip of this expression, below ``POOL``.
        seed: Seed of the tree.

    Returns:
        The parameters of the clip, and the face.
    """
    rng = _generator(seed, 3, _MAFW_CLASSES.index(shows), take)
    face = sample_identity(rng)
    kind = {'happiness': 'felt smile', 'neutral': 'rest'}.get(shows, 'plain')
    # The benchmark cannot draw the expressions that only MAFW has. They take their course over time
    # from sadness, and their own action units below.
    stand_in = shows if shows in DFEW_CLASSES else 'sadness'
    where = dict(id=f'{take}', split='train', part='fit', identity=f'{shows}_{take}')
    spec = make_clip(rng, kind=kind, shown=(stand_in,), face=face, **where)
    if shows not in DFEW_CLASSES:
        strength = 0.6 + 0.4 * rng.random()
        aus = {name: round(value * strength, 6) for name, value in _FURTHER_AUS[shows].items()}
        first, *more = spec.expressions
        spec = replace(spec, expressions=(replace(first, name=shows, aus=aus), *more))
    return spec, face


def _write_captions(clip: Clip, seed: int) -> tuple[str, str]:
    """Write the captions of a clip, one sentence in Chinese and one in English."""
    return _CHINESE[clip.shows], describe(sample_clip(clip.shows, clip.take, seed)[0])


def _draw(folder: Path, suffix: str, size: int, seed: int, job: tuple[str, int]) -> None:
    """Draw a clip into ``folder``, as pictures or as a video, unless it exists there.

    Args:
        folder: The folder of drawn clips.
        suffix: '.mp4' for a video, otherwise the suffix of the pictures.
        size: Side of the square frames in pixels.
        seed: Seed of the tree.
        job: The expression and the number of the drawn clip.
    """
    shows, take = job
    target = folder / f'{shows}_{take}{suffix if suffix == ".mp4" else ""}'
    if target.exists():
        return
    spec, face = sample_clip(shows, take, seed)
    drawn = SHADED.frames(spec, face, size)
    aside = target.with_name(f'.{os.getpid()}-{target.name}')
    with explain_write_errors(target):
        try:
            if suffix == '.mp4':
                write_video(aside, drawn, (size, size))
            else:
                aside.mkdir()
                for number, frame in enumerate(drawn):
                    write_picture(aside / f'{number:03d}{suffix}', frame)
            os.replace(aside, target)
        finally:
            _remove(aside)


def _remove(path: Path) -> None:
    """Remove a file or a folder, if it exists."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _draw_all(
    folder: Path, clips: Sequence[Clip], suffix: str, size: int, seed: int, workers: int
) -> None:
    """Draw the drawn clips that the clips of a tree need, in several processes."""
    jobs = sorted({(clip.shows, clip.take) for clip in clips})
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for left_over in folder.glob('.[0-9]*-*'):  # files of a process that was killed
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
            with explain_killed_worker():
                for _ in pool.map(draw, jobs):
                    bar.update()
        finally:
            pool.shutdown(cancel_futures=True)


def _link(source: Path, target: Path) -> None:
    """Link a file, or copy the file if the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _place(folder: Path, pool: list[Path], names: Sequence[str]) -> None:
    """Create a clip's folder of pictures completely or not at all.

    Args:
        folder: The folder to create. If it exists, nothing is done.
        pool: The pictures of the drawn clip, which are spread evenly over the names.
        names: Names of the clip's pictures.
    """
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
    """Create a clip's video from the drawn video, completely or not at all."""
    aside = target.with_name(f'.{target.name}.partial')
    with explain_write_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        aside.unlink(missing_ok=True)
        _link(drawn, aside)
        os.replace(aside, target)


def _frame_names(layout: str, clip: Clip) -> list[str]:
    """Return the names of a clip's pictures as in the release, with gaps in DFEW and MAFW."""
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
    """Return the path of a clip's video below the root, as in the release."""
    if layout == 'dfew':
        return f'Clip/original/part_{(int(clip.name) - 1) // 1600 + 1}/{int(clip.name)}.mp4'
    return f'{dict(ferv39k="0_7_LabelClips", mafw="data/clips")[layout]}/{clip.name}.mp4'


_FRAMES = dict(dfew='Clip/clip_224x224', ferv39k='2_ClipsforFaceCrop', mafw='data/frames')


def _add_media(
    layout: str, root: Path, clips: Sequence[Clip], kind: str, size: int, seed: int, workers: int
) -> None:
    """Add one kind of media to a tree, with a folder of pictures or a video for each clip.

    Args:
        layout: The dataset, one of ``RELEASES``.
        root: The folder of the tree.
        clips: The clips of the tree.
        kind: The kind of media, one of ``MEDIA``.
        size: Side of the square frames in pixels.
        seed: Seed of the tree.
        workers: Number of processes that draw.
    """
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
    """Plan the clips and the label files of a tree.

    Args:
        layout: The dataset, one of ``RELEASES``.
        clips: Number of clips. By default as many as the release has.
        seed: Seed of all random numbers. The same seed gives the same bytes.

    Returns:
        The plan, which contains everything but the pictures and videos.

    Raises:
        DFERError: If there are too few clips for the classes and folds.
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
    """Write a synthetic tree in the layout of a dataset's release, or only what is missing there.

    If the folder already contains the complete tree, nothing is written.

    Args:
        layout: The dataset, one of ``RELEASES``.
        root: The folder of the tree. It is created if it does not exist.
        clips: Number of clips. By default as many as the release has.
        media: The kinds of media to write, from ``MEDIA``. More can be added by a later call. Only
            DFEW has ``frames16``.
        seed: Seed of labels, folds and faces.
        size: Side of the square frames in pixels, a multiple of 16 within 64..512.
        workers: Number of processes that draw the clips. By default one for each usable CPU, at
            most 8.

    Returns:
        ``root`` as a path.

    Raises:
        DFERError: If the size or the media are not allowed for the dataset, if there are too few
            clips, or if the folder contains other files or a tree with other arguments.
    """
    root = Path(root)
    if 'frames16' in media and layout != 'dfew':
        raise DFERError(f'--frames16: {layout} has no folder of 16 frames; only dfew has')
    if size % 16 or not 64 <= size <= 512:
        raise DFERError(f'--size {size}: give a multiple of 16 within 64..512')
    made = dict(layout=layout, clips=clips, seed=seed, size=size)
    have = _read_media(root, made)
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
    """Write rows to an Excel file."""
    content = io.BytesIO()
    with explain_write_errors(tempfile.gettempdir()):  # openpyxl first writes the rows there
        book = Workbook(write_only=True)
        page = book.create_sheet('Sheet1')
        for row in rows:
            page.append(list(row))
        book.save(content)
    with write_aside(path) as aside:
        aside.write_bytes(content.getvalue())


def _read_media(root: Path, made: dict[str, Any]) -> list[str]:
    """Read from ``synthetic.json`` the kinds of media that a tree already has.

    Args:
        root: The folder of the tree.
        made: The arguments of the tree, which must be those in the file.

    Returns:
        Names from ``MEDIA``, or an empty list if there is no complete tree.

    Raises:
        DFERError: If the folder contains a tree with other arguments, or files of another kind.
    """
    path = root / MARKER
    if not path.is_file():
        strangers = [p.name for p in root.iterdir() if p.name not in _OWN] if root.is_dir() else []
        if strangers:
            raise DFERError(
                f'{root}: contains {strangers[0]}, which is not part of a synthetic tree; give an '
                'empty folder'
            )
        return []
    marker = json.loads(path.read_text())
    other = {key: marker.get(key) for key in made}
    if other != made:
        raise DFERError(
            f'{root}: contains a tree with the arguments {other}, not {made}; give another folder'
        )
    return marker['media']
