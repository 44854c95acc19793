"""Damage trees of the licensed datasets in 200 seeded ways, and test what is read.

Either the samples are exactly right, or the error names the file and the line. A wrong label, or an
error that a worker raises later, fails the test. The summary gives the number of each outcome.
"""

from __future__ import annotations

import logging
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trees
from mmengine.logging import MMLogger

from mmdfer.datasets import DFEW, MAFW, DFERDataset, FERV39k
from mmdfer.errors import DFERError

KINDS: dict[str, type[DFERDataset]] = dict(dfew=DFEW, ferv39k=FERV39k, mafw=MAFW)
MEDIA = dict(dfew='Clip/clip_224x224', ferv39k='2_ClipsforFaceCrop', mafw='data/frames')
PIPELINE = [
    dict(type='ClipInit'),
    dict(type='SampleSegments', clip_len=16, test_mode=True),
    dict(type='ClipDecode'),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]


@dataclass
class Damage:
    """Describe how a tree was damaged, and which outcomes are allowed.

    Attributes:
        blame: Names of the damaged files or folders; an error must contain one of the names.
        line: Whether an error must name a line of a label file.
        lost: The clips that cannot be read any more, which training leaves out.
        warned: The names that warnings must contain; empty for the lost clips themselves.
        decode: Whether the test also decodes the pictures.
        only: The outcomes that are allowed; empty for all outcomes except a wrong label.
        root: The new root of the tree; None if the tree was not moved.
    """

    blame: list[str]
    line: bool = False
    lost: set[str] = field(default_factory=set)
    warned: tuple[str, ...] = ()
    decode: bool = False
    only: tuple[str, ...] = ()
    root: Path | None = None


Mutation = Callable[[str, trees.Tree, random.Random], Damage]
RIGHT, ERROR, LISTED = ('right',), ('error',), ('listed', 'error')


# ------------------------------------------------------------------ label files


def list_path(name: str, tree: trees.Tree, split: str, fold: int) -> Path:
    return (
        tree.root
        / {
            'dfew': f'EmoLabel_DataSplit/{split}(single-labeled)/set_{fold}.csv',
            'ferv39k': f'4_setups/All_scenes/{split}_All.csv',
            'mafw': f'Train & Test Set/single/no_caption/set_{fold}/{split}.txt',
        }[name]
    )


def path_end(path: Path) -> str:
    """Return the last three parts of a path, which identify a label file."""
    return '/'.join(path.parts[-3:])


def some_list(name: str, tree: trees.Tree, rng: random.Random) -> tuple[Path, list[str]]:
    """Choose a label file that the test reads, and return its path and its lines."""
    split, fold = rng.choice([key for key in tree.truth if key[1] in (0, 1)])
    path = list_path(name, tree, split, fold)
    return path, path.read_bytes().decode().split('\n' if name != 'mafw' else '\r\n')[:-1]


def a_row(name: str, lines: list[str], rng: random.Random) -> int:
    return rng.randrange(1 if name == 'dfew' else 0, len(lines))


def delimiter(name: str) -> str:
    return ',' if name == 'dfew' else ' '


def edit(
    change: Callable[[str, list[str], random.Random], list[str]],
    line: bool = False,
    only: tuple[str, ...] = (),
    end: str | None = None,
    encode: Callable[[str], bytes] = str.encode,
) -> Mutation:
    """Make a mutation that changes the lines of a label file."""

    def mutation(name: str, tree: trees.Tree, rng: random.Random) -> Damage:
        path, lines = some_list(name, tree, rng)
        before = path.read_bytes()
        mark = ('\r\n' if name == 'mafw' else '\n') if end is None else end
        path.write_bytes(encode(''.join(row + mark for row in change(name, lines, rng))))
        assert path.read_bytes() != before
        return Damage([path_end(path)], line=line, only=only)

    return mutation


def row(change: Callable[[str, str, str, random.Random], str]) -> Callable:
    """Return a function that changes one row: `change(name, clip, label, rng)` is the new row."""

    def apply(name: str, lines: list[str], rng: random.Random) -> list[str]:
        i = a_row(name, lines, rng)
        clip, label = lines[i].rsplit(delimiter(name), 1)
        return [*lines[:i], change(name, clip, label, rng), *lines[i + 1 :]]

    return apply


def every_row(change: Callable[[str, str, str], str], header: str | None = None) -> Callable:
    """Return a function that changes all rows of a label file, and the header if there is one."""

    def apply(name: str, lines: list[str], rng: random.Random) -> list[str]:
        first = 1 if name == 'dfew' else 0
        head = lines[:first] if header is None else [header] * bool(header)
        rows = [line.rsplit(delimiter(name), 1) for line in lines[first:]]
        return [*head, *(change(name, clip, label) for clip, label in rows)]

    return apply


def other_label(name: str, label: str, rng: random.Random) -> str:
    words = dict(dfew=list('1234567'), ferv39k=trees.FERV39K, mafw=trees.MAFW)[name]
    return rng.choice([word for word in words if word != label])


def swap_labels(name: str, lines: list[str], rng: random.Random) -> list[str]:
    mark = delimiter(name)
    rows = [line.rsplit(mark, 1) for line in lines]
    first = 1 if name == 'dfew' else 0
    i = rng.randrange(first, len(rows))
    j = rng.choice([j for j in range(first, len(rows)) if rows[j][1] != rows[i][1]])
    rows[i][1], rows[j][1] = rows[j][1], rows[i][1]
    return [mark.join(cells) for cells in rows]


def double(name: str, lines: list[str], rng: random.Random) -> list[str]:
    i = a_row(name, lines, rng)
    return [*lines[: i + 1], lines[i], *lines[i + 1 :]]


def lose(name: str, lines: list[str], rng: random.Random) -> list[str]:
    i = a_row(name, lines, rng)
    return lines[:i] + lines[i + 1 :]


def one_twice_one_lost(name: str, lines: list[str], rng: random.Random) -> list[str]:
    """Replace a clip by another one but keep its label, so the class counts do not change."""
    rows = [line.rsplit(delimiter(name), 1) for line in lines]
    i = a_row(name, lines, rng)
    j = rng.choice([j for j in range(1, len(rows)) if rows[j][0] != rows[i][0]])
    rows[i][0] = rows[j][0]
    return [delimiter(name).join(cells) for cells in rows]


def blank_lines(name: str, lines: list[str], rng: random.Random) -> list[str]:
    return [part for line in lines for part in ([line, ''] if rng.random() < 0.3 else [line])] + [
        ''
    ]


def to_mark(mark: str) -> Callable:
    """Return a function that changes the delimiter of all rows."""
    return every_row(lambda n, clip, label: f'{clip}{mark}{label}', None)


def cut_bytes(name: str, tree: trees.Tree, rng: random.Random) -> Damage:
    path, _ = some_list(name, tree, rng)
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content) - 3)])
    return Damage([path_end(path)], only=ERROR)


def raw(change: Callable[[bytes], bytes], only: tuple[str, ...], line: bool = False) -> Mutation:
    """Make a mutation that changes the bytes of a label file."""

    def mutation(name: str, tree: trees.Tree, rng: random.Random) -> Damage:
        path, _ = some_list(name, tree, rng)
        before = path.read_bytes()
        path.write_bytes(change(before))
        assert path.read_bytes() != before
        return Damage([path_end(path)], only=only, line=line)

    return mutation


def not_there(name: str, tree: trees.Tree, rng: random.Random) -> Damage:
    """Replace the clip of a row by a name without a folder, so the clip of the row is lost."""
    path, lines = some_list(name, tree, rng)
    i = a_row(name, lines, rng)
    clip, label = lines[i].rsplit(delimiter(name), 1)
    other = 'Action/Sad/9999' if name == 'ferv39k' else '29999'
    lines[i] = f'{other}{delimiter(name)}{label}'
    end = '\r\n' if name == 'mafw' else '\n'
    path.write_bytes(''.join(line + end for line in lines).encode())
    lost = {c for truth in tree.truth.values() for c in truth if c in (clip, Path(clip).stem)}
    assert len(lost) == 1
    return Damage([path_end(path), other], lost=lost, warned=(other,))


def exchange(first: tuple[str, int], second: tuple[str, int]) -> Mutation:
    def mutation(name: str, tree: trees.Tree, rng: random.Random) -> Damage:
        keys = [(s, f if name != 'ferv39k' else 0) for s, f in (first, second)]
        paths = [list_path(name, tree, *key) for key in keys]
        contents = [path.read_bytes() for path in paths]
        for path, content in zip(paths, reversed(contents)):
            path.write_bytes(content)
        return Damage([path_end(path) for path in paths], only=ERROR)

    return mutation


def without_list(kind: str) -> Mutation:
    def mutation(name: str, tree: trees.Tree, rng: random.Random) -> Damage:
        path, _ = some_list(name, tree, rng)
        path.unlink()
        if kind == 'empty':
            path.write_bytes(b'')
        elif kind == 'folder':
            path.mkdir()
        # A missing list has no path, so the error names its split and fold.
        missing = 'no label file for' if kind != 'empty' else path_end(path)
        return Damage([missing], only=('right', 'error') if name == 'ferv39k' else ERROR)

    return mutation


def stray(where: Callable[[Path], Path]) -> Mutation:
    """Make a mutation that adds a file of macOS next to a label file."""

    def mutation(name: str, tree: trees.Tree, rng: random.Random) -> Damage:
        path, _ = some_list(name, tree, rng)
        target = tree.root / where(path.relative_to(tree.root))
        trees.write(target, b'\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X')
        return Damage([], only=RIGHT)

    return mutation


def moved(folder: str) -> Mutation:
    """Make a mutation that moves the whole tree to another folder."""

    def mutation(name: str, tree: trees.Tree, rng: random.Random) -> Damage:
        root = tree.root.parent / folder / tree.root.name
        shutil.move(tree.root, root)
        return Damage([], only=RIGHT, root=root)

    return mutation


def bad_label(name: str, clip: str, label: str, rng: random.Random) -> str:
    return (
        f'{clip}{delimiter(name)}{rng.choice(["8", "99", "joy", "-1", "2.0", "nan", "Neutrall"])}'
    )


LABEL_FILES: dict[str, Mutation] = {
    'a line cut in its clip': edit(row(lambda n, c, w, r: c[:2]), line=True, only=ERROR),
    'a line cut before its label': edit(row(lambda n, c, w, r: f'{c}{delimiter(n)}'), True, ERROR),
    'a file cut after some bytes': cut_bytes,
    'a line lost': edit(lose, only=ERROR),
    'a line doubled': edit(double, only=ERROR),
    'two labels swapped': edit(swap_labels, line=True, only=ERROR),
    'another label': edit(
        row(lambda n, c, w, r: f'{c}{delimiter(n)}{other_label(n, w, r)}'), only=ERROR
    ),
    'no label at all': edit(row(bad_label), only=ERROR),
    'a clip twice, another lost': edit(one_twice_one_lost, line=True, only=ERROR),
    'a clip that is not there': not_there,
    'a path of another kind': edit(
        row(lambda n, c, w, r: f'nowhere/at/all{delimiter(n)}{w}'), line=True, only=ERROR
    ),
    'the header lost or added': edit(
        lambda n, lines, r: (
            lines[1:] if n == 'dfew' else [f'video_name{delimiter(n)}label', *lines]
        ),
        only=RIGHT,
    ),
    'another header': edit(
        lambda n, lines, r: [f'clip{delimiter(n)}emotion', *lines[n == 'dfew' :]], only=RIGHT
    ),
    'the columns of a line swapped': edit(
        row(lambda n, c, w, r: f'{w}{delimiter(n)}{c}'), only=ERROR
    ),
    'the columns of all lines swapped': edit(
        every_row(lambda n, c, w: f'{w}{delimiter(n)}{c}'), only=ERROR
    ),
    'the columns swapped, the header too': edit(
        lambda n, lines, r: every_row(lambda n, c, w: f'{w},{c}', 'label,video_name')(n, lines, r),
        only=RIGHT,
    ),
    'a byte order mark': raw(lambda b: b'\xef\xbb\xbf' + b, RIGHT),
    'UTF-16': raw(lambda b: b.decode().encode('utf-16'), RIGHT),
    'UTF-16 without its mark': raw(lambda b: b.decode().encode('utf-16-le'), ERROR, line=True),
    'bytes of no encoding': raw(lambda b: b[:60] + b'\xff\xff' + b[60:], ERROR, line=True),
    'bytes of Chinese': raw(lambda b: b[:60] + '愤怒'.encode('gb18030') + b[60:], ERROR),
    'a NUL': raw(lambda b: b[:70] + b'\0' + b[70:], ERROR, line=True),
    'ends of lines of an old Mac': edit(lambda n, lines, r: lines, end='\r', only=RIGHT),
    'the other ends of lines': raw(
        lambda b: b.replace(b'\r\n', b'\n') if b'\r\n' in b else b.replace(b'\n', b'\r\n'), RIGHT
    ),
    'ends of lines of both kinds': raw(
        lambda b: b.replace(b'\r\n', b'\n', 9) if b'\r\n' in b else b.replace(b'\n', b'\r\n', 9),
        RIGHT,
    ),
    'spaces at the ends of lines': edit(lambda n, lines, r: [f'{x}  ' for x in lines], only=RIGHT),
    'blank lines': edit(blank_lines, only=RIGHT),
    'tabs': edit(lambda n, lines, r: [x.replace(delimiter(n), '\t') for x in lines], only=RIGHT),
    'semicolons': edit(
        lambda n, lines, r: [x.replace(delimiter(n), ';') for x in lines], only=RIGHT
    ),
    'quotes': edit(
        lambda n, lines, r: [
            ','.join(f'"{cell}"' for cell in x.rsplit(delimiter(n), 1)) for x in lines
        ],
        only=RIGHT,
    ),
    'ids without their zeros, paths from elsewhere': edit(
        every_row(
            lambda n, c, w: f'D:\\old\\{c}{delimiter(n)}{w}' if n != 'dfew' else f'{int(c)},{w}'
        ),
        only=RIGHT,
    ),
    'training and test list exchanged': exchange(('train', 1), ('test', 1)),
    'training lists of two folds exchanged': exchange(('train', 1), ('train', 2)),
    'test lists of two folds exchanged': exchange(('test', 1), ('test', 2)),
    'a list missing': without_list('missing'),
    'a list empty': without_list('empty'),
    'a folder in place of a list': without_list('folder'),
    'a file of macOS': stray(lambda p: p.with_name(f'._{p.name}')),
    'a folder of macOS': stray(lambda p: Path('__MACOSX') / p),
    'spaces, & and () in the path': moved('my data (a & b)'),
    'letters of another script in the path': moved("数据 d'été"),
}

# ------------------------------------------------------------------ damage of one dataset only


def rebased(name: str, tree: trees.Tree, rng: random.Random) -> Damage:
    path, lines = some_list(name, tree, rng)
    rows = [line.split(',') for line in lines[1:]]
    path.write_text(
        '\n'.join([lines[0], *(f'{clip},{int(label) - 1}' for clip, label in rows), ''])
    )
    return Damage([], only=RIGHT)


def lower_case(name: str, tree: trees.Tree, rng: random.Random) -> Damage:
    path, lines = some_list(name, tree, rng)
    path.write_text('\n'.join(line.lower() for line in lines) + '\n')
    folder = rng.choice(sorted((tree.root / MEDIA[name]).iterdir()))
    folder.rename(folder.with_name(folder.name.lower()))
    return Damage([], only=RIGHT)


def capitals(name: str, tree: trees.Tree, rng: random.Random) -> Damage:
    path, lines = some_list(name, tree, rng)
    path.write_text('\n'.join(line.upper().replace('.MP4', '.mp4') for line in lines) + '\n')
    return Damage([], only=RIGHT)


OWN: dict[str, dict[str, Mutation]] = {
    'dfew': {'labels counted from 0 under the same header': rebased},
    'ferv39k': {'lower case': lower_case},
    'mafw': {'capitals': capitals},
}

# ------------------------------------------------------------------ clips


def clip_folder(name: str, tree: trees.Tree, rng: random.Random) -> tuple[Path, str]:
    """Choose a test clip, of fold 1 if there are folds, and return its folder and its name."""
    clip = rng.choice(sorted(next(c for (s, f), c in tree.truth.items() if s == 'test' and f < 2)))
    return tree.root / MEDIA[name] / clip, clip


def on_clip(
    change: Callable[[Path], object], lost: bool = False, only: tuple[str, ...] = RIGHT
) -> Mutation:
    def mutation(name: str, tree: trees.Tree, rng: random.Random) -> Damage:
        folder, clip = clip_folder(name, tree, rng)
        change(folder)
        return Damage([clip], lost={clip} if lost else set(), decode=True, only=only)

    return mutation


def pictures(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def damage_all(content: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for picture in pictures(folder):
            picture.write_bytes(content(picture.read_bytes()))

    return change


def damage_one(content: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda folder: pictures(folder)[1].write_bytes(content(pictures(folder)[1].read_bytes()))


def nest(folder: Path) -> None:
    aside = folder.with_name('aside')
    folder.rename(aside)
    folder.mkdir()
    aside.rename(folder / folder.name)


def in_parts(name: str, tree: trees.Tree, rng: random.Random) -> Damage:
    old = tree.root / MEDIA[name]
    for i, folder in enumerate(sorted(old.iterdir())):
        part = old.with_name(f'{old.name}_part_{i % 3 + 1}')
        part.mkdir(exist_ok=True)
        folder.rename(part / folder.name)
    old.rmdir()
    return Damage([], decode=True, only=RIGHT)


def copied(name: str, tree: trees.Tree, rng: random.Random) -> Damage:
    shutil.copytree(tree.root / MEDIA[name], tree.root / 'older frames')
    return Damage([f'{MEDIA[name]}, older frames', f'{MEDIA[name]}', 'older frames'], only=ERROR)


def all_gone(name: str, tree: trees.Tree, rng: random.Random) -> Damage:
    shutil.rmtree(tree.root / MEDIA[name])
    return Damage(['holds no frames of clips'], only=ERROR)


CLIPS: dict[str, Mutation] = {
    'a clip missing': on_clip(shutil.rmtree, lost=True, only=LISTED),
    'a clip renamed': on_clip(lambda f: f.rename(f.with_name(f'x{f.name}')), True, LISTED),
    'a clip without pictures': on_clip(
        lambda f: [p.unlink() for p in pictures(f)], lost=True, only=LISTED
    ),
    'a file in place of a clip': on_clip(
        lambda f: (shutil.rmtree(f), f.write_bytes(b'x')), lost=True, only=LISTED
    ),
    'a clip nested once more': on_clip(nest),
    'a clip nested in a stranger': on_clip(
        lambda f: (nest(f), (f / f.name).rename(f / 'frames')), lost=True, only=LISTED
    ),
    'a picture of no bytes': on_clip(damage_one(lambda b: b'')),
    'pictures of no bytes': on_clip(damage_all(lambda b: b''), lost=True, only=LISTED),
    'a picture cut': on_clip(damage_one(lambda b: b[: len(b) // 2])),
    'pictures cut': on_clip(damage_all(lambda b: b[: len(b) // 2]), lost=True, only=LISTED),
    'a page in place of pictures': on_clip(
        damage_all(lambda b: b'<html>quota exceeded</html>'), lost=True, only=LISTED
    ),
    'pictures of macOS': on_clip(
        lambda f: [(f / f'._{p.name}').write_bytes(b'x') for p in pictures(f)]
    ),
    'Thumbs.db': on_clip(lambda f: (f / 'Thumbs.db').write_bytes(b'x')),
    'pictures in parts': in_parts,
    'a second copy of all pictures': copied,
    'all pictures gone': all_gone,
}

MUTATIONS = {name: {**LABEL_FILES, **OWN[name], **CLIPS} for name in KINDS}
for kind in [kind for kind in LABEL_FILES if 'two folds' in kind]:
    del MUTATIONS['ferv39k'][kind]  # FERV39k has no folds
# Each kind of damage at least once on each dataset, then again on DFEW with other seeds, up to 200.
PLAN = [(name, kind, seed) for name in KINDS for seed, kind in enumerate(MUTATIONS[name])]
PLAN += [('dfew', kind, 1000 + i) for i, kind in enumerate(MUTATIONS['dfew'])][: 200 - len(PLAN)]


# ------------------------------------------------------------------ outcomes


@pytest.fixture(scope='module')
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, trees.Tree]:
    root = tmp_path_factory.mktemp('originals')
    return {name: make(root / name) for name, make in trees.MAKERS.items()}


class Warnings(logging.Handler):
    """Record the texts of warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@pytest.fixture
def warned() -> Iterator[Warnings]:
    handler, logger = Warnings(), MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def read(name: str, root: Path, split: str, fold: int, decode: bool) -> tuple[dict, list[str]]:
    """Return the label of each clip that a loader would return, and the skipped clips."""
    options = dict(fold=fold) if fold else {}
    dataset = KINDS[name](
        str(root),
        split=split,
        pipeline=PIPELINE,
        test_mode=split == 'test',
        serialize_data=False,
        **options,
    )
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    labels = {info['clip']: info['label'] for info in infos}
    assert len(labels) == len(infos)
    if decode:
        given = [int(dataset[i]['data_samples'].gt_label) for i in range(len(dataset))]
        skipped = [i for i in range(len(dataset)) if dataset.unreadable[i] == dataset.LOST]
        assert all(
            g == info['label'] for i, (g, info) in enumerate(zip(given, infos)) if i not in skipped
        )
        return labels, [infos[i]['clip'] for i in skipped]
    return labels, []


def outcome(name: str, tree: trees.Tree, damage: Damage, warned: Warnings) -> str:
    """Return 'right', 'listed' or 'error', and fail for any other outcome."""
    found = {'right'}
    for (split, fold), truth in tree.truth.items():
        if fold > 2:
            continue
        warned.texts.clear()
        try:
            labels, skipped = read(name, damage.root or tree.root, split, fold, damage.decode)
        except DFERError as error:
            text = str(error)
            assert '\n' not in text
            assert any(blame in text for blame in damage.blame), (damage.blame, text)
            assert not damage.line or re.search(r'\.(csv|txt):\d+: ', text), text
            found.add('error')
            continue
        gone = truth.keys() - labels.keys()
        assert labels.items() <= truth.items(), 'a wrong label'
        assert split == 'train' or not (gone or skipped), 'a test clip is gone'
        if gone or skipped:
            assert damage.lost >= gone | set(skipped)
            for word in damage.warned or gone:
                assert any(word in text for text in warned.texts), (word, warned.texts)
            found.add('listed')
    return next(word for word in ('error', 'listed', 'right') if word in found)


@pytest.fixture(scope='module')
def outcomes() -> Counter[str]:
    """Return the counts of the outcomes so far."""
    return Counter()


@pytest.mark.parametrize(('name', 'kind', 'seed'), PLAN, ids=[f'{n}, {k}, {s}' for n, k, s in PLAN])
def test_damage(
    name: str,
    kind: str,
    seed: int,
    originals: dict[str, trees.Tree],
    outcomes: Counter[str],
    tmp_path: Path,
    warned: Warnings,
) -> None:
    root = tmp_path / name
    shutil.copytree(originals[name].root, root)
    tree = trees.Tree(root, originals[name].truth, originals[name].counts)
    damage = MUTATIONS[name][kind](name, tree, random.Random(seed))
    came = outcome(name, tree, damage, warned)
    outcomes[came] += 1
    assert not damage.only or came in damage.only
    shutil.rmtree(tmp_path)


def test_damage_is_read_and_refused(
    outcomes: Counter[str], record_property: Callable[[str, object], None]
) -> None:
    assert len(PLAN) == 200 and len(MUTATIONS['dfew']) >= 50
    if sum(outcomes.values()) < 200:
        pytest.skip('the counts need the outcomes of all 200 cases, and not all were run')
    record_property('200 kinds of damage', dict(sorted(outcomes.items())))
    assert outcomes['right'] > 50 and outcomes['error'] > 50
