"""Test that drawn trees have the layout of the published datasets, without our readers."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from openpyxl import load_workbook

from mmdfer.errors import DFERError
from mmdfer.synthetic.releases import Plan, make_release, plan

MAFW = 'anger disgust fear happiness neutral sadness surprise contempt anxiety helplessness'
MAFW = [*MAFW.split(), 'disappointment']


def read_rows(tree: Plan, path: str) -> list[list[str]]:
    """Read the rows of a label file by the csv module."""
    text = tree.texts[path].decode('gb18030')
    mark = '\t' if '\t' in text else ',' if text.startswith('video_name,') else ' '
    return list(csv.reader(text.splitlines(), delimiter=mark))


def tally(words: list[str], order: list[str]) -> list[int]:
    return [Counter(words)[word] for word in order]


# ------------------------------------------------------------------ full size, published numbers


def test_dfew_of_full_size_has_the_published_numbers() -> None:
    tree = plan('dfew')
    order = list('1234567')
    tests = {
        1: [489, 379, 534, 435, 294, 29, 181],
        3: [489, 379, 534, 435, 294, 29, 180],
        4: [489, 379, 534, 434, 294, 29, 180],
        5: [489, 378, 533, 434, 293, 29, 180],
    }
    tested: list[str] = []
    for fold in range(1, 6):
        head, *train = read_rows(tree, f'EmoLabel_DataSplit/train(single-labeled)/set_{fold}.csv')
        _, *test = read_rows(tree, f'EmoLabel_DataSplit/test(single-labeled)/set_{fold}.csv')
        assert head == ['video_name', 'label']
        assert (len(train), len(test)) == (
            [9356, 9356, 9357, 9358, 9361][fold - 1],
            [2341, 2341, 2340, 2339, 2336][fold - 1],
        )
        if fold in tests:
            assert tally([label for _, label in test], order) == tests[fold]
        assert len({name for name, _ in train + test}) == 11697
        tested += [name for name, _ in test]
    assert len(set(tested)) == len(tested) == 11697
    assert [c.length for c in tree.clips if c.length < 16].__len__() == 14
    table = tree.tables['Annotation/annotation.xlsx']
    assert len(table) == 1 + 16372 and all(sum(row[:7]) == 10 for row in table[1:])
    single = [row for row in table[1:] if row[8]]
    assert len(single) == 11697
    assert all(row[row[8] - 1] == max(row[:7]) > 6 for row in single)
    assert all(max(row[:7]) <= 6 for row in table[1:] if not row[8])


def test_ferv39k_of_full_size_has_the_published_numbers() -> None:
    tree = plan('ferv39k')
    words = ['Happy', 'Sad', 'Neutral', 'Angry', 'Surprise', 'Disgust', 'Fear']
    published = dict(
        train=[5854, 5523, 7790, 5906, 2502, 1833, 1680],
        test=[1473, 1393, 1958, 1487, 638, 467, 431],
    )
    names: list[str] = []
    for split, counts in published.items():
        rows = read_rows(tree, f'4_setups/All_scenes/{split}_All.csv')
        assert tally([word for _, word in rows], words) == counts
        assert all(name.split('/')[1] == word for name, word in rows)
        scenes = [path for path in tree.texts if f'22_scenes/{split}_' in path]
        apart = [row for path in scenes for row in read_rows(tree, path)]
        assert len(scenes) == 22 and sorted(apart) == sorted(rows)
        names += [name for name, _ in rows]
    assert len(set(names)) == 38935
    lengths = np.array([clip.length for clip in tree.clips])
    assert lengths.min() == 8 and 0.09 < (lengths < 16).mean() < 0.12
    assert 26 <= np.median(lengths) <= 29


def test_mafw_of_full_size_has_the_published_numbers() -> None:
    tree = plan('mafw')
    sizes = {
        'single/no_caption': [(7333, 1839), (7335, 1837), (7339, 1833), (7340, 1832), (7341, 1831)],
        'single/with_caption': [
            (6423, 1611),
            (6425, 1609),
            (6429, 1605),
            (6429, 1605),
            (6430, 1604),
        ],
        'compound/no_caption': [
            (7178, 1818),
            (7187, 1809),
            (7198, 1798),
            (7208, 1788),
            (7213, 1783),
        ],
    }
    folds = {}
    for kind, published in sizes.items():
        for fold, expected in enumerate(published, 1):
            both = [
                read_rows(tree, f'Train & Test Set/{kind}/set_{fold}/{split}.txt')
                for split in ('train', 'test')
            ]
            assert tuple(map(len, both)) == expected
            folds[kind, fold] = {row[0] for row in both[1]}
            if kind == 'single/no_caption':
                words = [row[1] for row in both[0] + both[1]]
                totals = [1390, 639, 625, 1242, 1138, 1470, 1072, 236, 916, 262, 182]
                assert tally(words, MAFW) == totals
            if kind == 'compound/no_caption':
                assert len({row[1] for row in both[0] + both[1]}) == 43
            if kind == 'single/with_caption':
                assert folds[kind, fold] <= folds['single/no_caption', fold]
                assert all(len(row) == 4 and row[1] != 'neutral' for row in both[0])
    alike = folds['single/no_caption', 1] & folds['compound/no_caption', 1]
    assert 0 < len(alike) < 1839  # compound folds differ from single folds
    raw = tree.texts['Train & Test Set/single/with_caption/set_1/train.txt']
    assert raw.count(b'\r\n') == 6423
    with pytest.raises(UnicodeDecodeError):
        raw.decode('utf-8')
    assert len(tree.clips) == 10045 == len(tree.tables['Labels/annotation.xlsx']) - 1


@pytest.mark.parametrize('layout', ['dfew', 'ferv39k', 'mafw'])
def test_the_same_seed_gives_the_same_bytes(layout: str) -> None:
    one, same, other = (plan(layout, 80, seed) for seed in (0, 0, 1))
    assert one == same and one.texts != other.texts


# ------------------------------------------------------------------ on disk


def test_a_small_dfew(tmp_path: Path) -> None:
    root = tmp_path / 'DFEW'
    make_release('dfew', root, 35, ('frames', 'frames16'), size=64, workers=1)
    marker = json.loads((root / 'synthetic.json').read_text())
    assert marker['media'] == ['frames', 'frames16'] and 'synthetic' in marker['note']
    lists = (root / 'EmoLabel_DataSplit').glob('*/set_1.csv')
    names = {row[0] for path in lists for row in list(csv.reader(path.open()))[1:]}
    assert len(names) == 35 and marker['counts']['test/1'] == [1] * 7
    gaps = short = 0
    for name in names:
        frames = sorted((root / 'Clip' / 'clip_224x224' / name).iterdir())
        numbers = [int(path.stem.removeprefix(f'{name}_')) for path in frames]
        gaps += numbers[-1] - numbers[0] + 1 > len(numbers)
        short += len(frames) < 16
        assert 11 <= len(frames) <= 120
        folder = root / 'Clip' / 'clip_224x224_16f' / name
        assert {p.name for p in folder.iterdir()} == {f'{i}.jpg' for i in range(1, 17)}
    assert gaps == 35 and short == 1
    assert cv2.imread(str(frames[0])).shape == (64, 64, 3)
    book = load_workbook(root / 'Annotation' / 'annotation.xlsx')
    assert book.active['A1'].value == '1happy' and book.active['H1'].value == 'order'
    assert not list(root.rglob('.*'))


def test_the_faces_of_different_classes_differ(tmp_path: Path) -> None:
    root = make_release('ferv39k', tmp_path, 14, size=64, workers=1)

    def face(word: str) -> np.ndarray:
        clips = sorted(root.glob(f'2_ClipsforFaceCrop/*/{word}/*'))
        return np.stack([cv2.imread(str(p)) for clip in clips for p in sorted(clip.iterdir())][:8])

    assert (face('Happy') != face('Sad')).mean() > 0.1


def test_an_interrupted_making_is_completed(tmp_path: Path, monkeypatch) -> None:
    import mmdfer.synthetic.releases as releases

    place, calls = releases._place, []

    def dying(folder: Path, pool: list, names: list) -> None:
        calls.append(folder)
        if len(calls) == 20:
            (folder.with_name(f'.{folder.name}.partial')).mkdir()  # half of the folder is written
            raise KeyboardInterrupt
        place(folder, pool, names)

    monkeypatch.setattr(releases, '_place', dying)
    arguments = dict(clips=35, size=64, workers=1)
    with pytest.raises(KeyboardInterrupt):
        make_release('dfew', tmp_path / 'one', **arguments)
    assert not (tmp_path / 'one' / 'synthetic.json').exists()
    monkeypatch.setattr(releases, '_place', place)
    one, two = (make_release('dfew', tmp_path / name, **arguments) for name in ('one', 'two'))

    def files(root: Path) -> dict[str, bytes]:
        found = (p for p in root.rglob('*') if p.is_file() and p.suffix != '.xlsx')
        return {str(p.relative_to(root)): p.read_bytes() for p in found}

    assert files(one) == files(two) and len(files(one)) > 35 * 11
    times = {p: p.stat().st_mtime_ns for p in one.rglob('*')}
    make_release('dfew', one, **arguments)
    assert {p: p.stat().st_mtime_ns for p in one.rglob('*')} == times  # nothing was done


@pytest.mark.parametrize(
    ('layout', 'options', 'message'),
    [
        (
            'dfew',
            dict(clips=34),
            '--clips 34: each of the 7 classes needs at least 5 clips; give 35 or more',
        ),
        ('mafw', dict(clips=54), 'give 55 or more'),
        ('ferv39k', dict(clips=13), 'give 14 or more'),
        ('mafw', dict(clips=60, media=['frames16']), 'mafw has no folder of 16 frames'),
        ('dfew', dict(clips=60, size=72), '--size 72: give a multiple of 16'),
    ],
)
def test_what_cannot_be_made_is_one_line(layout, options, message, tmp_path: Path) -> None:
    with pytest.raises(DFERError) as error:
        make_release(layout, tmp_path / 'tree', **options)
    assert message in str(error.value) and not (tmp_path / 'tree').exists()


def test_another_tree_or_a_strangers_folder_is_left_alone(tmp_path: Path) -> None:
    root = make_release('dfew', tmp_path / 'tree', 35, size=64, workers=1)
    with pytest.raises(DFERError, match='a tree with the arguments .*35.*, not .*36'):
        make_release('dfew', root, 36, size=64)
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.tex').write_text('x')
    with pytest.raises(DFERError, match='contains thesis.tex'):
        make_release('dfew', tmp_path / 'mine', 35)
