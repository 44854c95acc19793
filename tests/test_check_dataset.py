"""Test tools/check_dataset.py: its table, its JSON report and its exit status."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import trees
from conftest import ROOT
from openpyxl import Workbook
from PIL import Image
from test_licensed import _votes as add_votes

from mmdfer.datasets.licensed import dfew, ferv39k, mafw
from mmdfer.synthetic.scene import draw_scene

DEPTHS = dict(dfew='Clip/clip_224x224/*', ferv39k='2_ClipsforFaceCrop/*/*/*', mafw='data/frames/*')


def run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, root: Path, *flags: str
) -> tuple[int, dict]:
    """Run the tool, and return its exit status and its JSON report."""
    out = tmp_path / 'report.json'
    words = ['check_dataset.py', name, str(root), '--out', str(out), '--workers', '1', *flags]
    monkeypatch.setattr(sys, 'argv', words)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / 'tools' / 'check_dataset.py'), run_name='__main__')
    return end.value.code, json.loads(out.read_text()) if out.exists() else {}


def wrong(report: dict) -> set[str]:
    return {line['what'] for line in report['lines'] if line['verdict'] == 'WRONG'}


@pytest.mark.parametrize('name', ['dfew', 'ferv39k', 'mafw'])
@pytest.mark.parametrize('flags', [[], ['--decode']])
def test_a_whole_tree_is_right(
    name: str, flags: list[str], monkeypatch, tmp_path: Path, capsys
) -> None:
    tree = trees.MAKERS[name](tmp_path / 'its tree')
    status, report = run(monkeypatch, tmp_path, name, tree.root, *flags)
    assert status == 0 and report['right'] and not wrong(report) and not report['problems']
    text = capsys.readouterr().out
    assert 'synthetic tree like' in text and 'Verdict: the dataset is as expected' in text
    for (split, fold), clips in tree.truth.items():
        ends = (f'fold {fold}, {split}', f'scenes, {split}')
        lines = [line for line in report['lines'] if line['what'].endswith(ends)]
        assert lines[0]['found'].startswith(f'{len(clips)}: ')


@pytest.mark.parametrize('name', ['dfew', 'ferv39k', 'mafw'])
def test_without_its_own_numbers_a_small_tree_is_no_release(
    name: str, monkeypatch, tmp_path: Path, capsys
) -> None:
    tree = trees.MAKERS[name](tmp_path / 'tree')
    (tree.root / 'synthetic.json').unlink()
    status, report = run(monkeypatch, tmp_path, name, tree.root)
    assert status == 1 and not report['right']
    assert len(wrong(report)) >= len(tree.truth)
    assert 'instead of' in report['problems'][0]
    assert 'synthetic' not in capsys.readouterr().out


@pytest.mark.parametrize('name', ['dfew', 'ferv39k', 'mafw'])
@pytest.mark.parametrize('decode', [False, True])
def test_missing_empty_and_damaged_clips_are_listed(
    name: str, decode: bool, monkeypatch, tmp_path: Path
) -> None:
    tree = trees.MAKERS[name](tmp_path / 'tree')
    clips = sorted(tree.root.glob(DEPTHS[name]))[:5]
    shutil.rmtree(clips[0])
    for picture in clips[1].iterdir():
        picture.write_bytes(b'')
    for clip, content in ((clips[2], b''), (clips[3], trees.PICTURE[:-90])):
        next(clip.iterdir()).write_bytes(content)
    for picture in clips[4].iterdir():
        picture.write_bytes(b'no picture')
    status, report = run(monkeypatch, tmp_path, name, tree.root, *(['--decode'] * decode))
    names = ['/'.join(c.parts[-3:]) if name == 'ferv39k' else c.name for c in clips]
    found = report['clips']['frames']
    assert status == 1 and found['missing'] == [names[0]]
    assert found['unreadable'] == ([names[1], names[4]] if decode else [names[1]])
    assert found['damaged'] == ([names[2], names[3]] if decode else [names[2]])


@pytest.mark.parametrize(('size', 'notes'), [((32, 18), 1), ((18, 32), 0), ((22, 20), 0)])
def test_whole_pictures_are_told_from_faces(
    size: tuple[int, int], notes: int, monkeypatch, tmp_path: Path
) -> None:
    tree = trees.mafw(tmp_path / 'tree')
    for picture in tree.root.glob(f'{DEPTHS["mafw"]}/*'):
        Image.new('RGB', size).save(picture)
    status, report = run(monkeypatch, tmp_path, 'mafw', tree.root)
    lines = [n for n in report['lines'] if 'whole pictures' in n['what']]
    assert status == 0 and len(lines) == notes
    assert all(n['verdict'] == 'note' and 'wider than high' in n['found'] for n in lines)


def test_faces_are_looked_for_in_the_pictures(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr('mmdfer.datasets.licensed.verify._SAMPLE', 25)
    tree = trees.mafw(tmp_path / 'tree')
    pictures = sorted(tree.root.glob(f'{DEPTHS["mafw"]}/*'))
    scene = draw_scene(['happiness'], seconds=0.2)
    _, (x1, y1, x2, y2) = scene.boxes[0]

    def count(picture: Image.Image) -> str:
        picture.save(pictures[0])
        for path in pictures[1:]:
            path.write_bytes(pictures[0].read_bytes())
        status, report = run(monkeypatch, tmp_path, 'mafw', tree.root, '--faces')
        (line,) = (n for n in report['lines'] if 'face crops' in n['what'])
        assert status == 0
        return f'{line["found"]} {line["verdict"]}'

    whole = Image.fromarray(scene.frames[0])
    crops = count(whole.crop((x1, y1, x2, y2)))
    number = int(crops.split()[0])
    assert crops == f'{number} of {number} ok' and number > 0
    assert count(whole.crop((100, 0, 580, 480))) == f'0 of {number} note'


def test_labels_that_the_votes_contradict(monkeypatch, tmp_path: Path) -> None:
    tree = trees.dfew(tmp_path / 'tree')
    add_votes(tree)
    status, report = run(monkeypatch, tmp_path, 'dfew', tree.root)
    (line,) = [n for n in report['lines'] if 'contradicts' in n['what']]
    assert status == 0 and line['found'] == '0 of 56' and line['verdict'] == 'ok'


@pytest.mark.parametrize('shift', [0, 1])
def test_labels_that_mafws_table_contradicts(shift: int, monkeypatch, tmp_path: Path) -> None:
    tree = trees.mafw(tmp_path / 'tree')
    book = Workbook()
    book.active.append(['clip', *trees.MAFW, 'single_label'])
    for clip, label in {c: n for clips in tree.truth.values() for c, n in clips.items()}.items():
        book.active.append([f'{clip}.mp4', *[0.1] * 11, (label + shift) % 11 + 1])
    (tree.root / 'Labels').mkdir()
    book.save(tree.root / 'Labels' / 'single-set.xlsx')
    status, report = run(monkeypatch, tmp_path, 'mafw', tree.root)
    (line,) = [n for n in report['lines'] if 'contradicts' in n['what']]
    assert (status, line['verdict']) == ((0, 'ok') if shift == 0 else (1, 'WRONG'))


def test_sixteen_frames_must_be_sixteen(monkeypatch, tmp_path: Path) -> None:
    tree = trees.dfew(tmp_path / 'tree')
    clips = sorted({clip for clips in tree.truth.values() for clip in clips})
    for clip in clips:
        names = [f'{i}.jpg' for i in range(1, 17 - (clip == clips[3]))]
        trees.pictures(tree.root / 'Clip' / 'clip_224x224_16f' / clip, names)
    status, report = run(monkeypatch, tmp_path, 'dfew', tree.root)
    assert status == 1 and report['clips']['frames16']['not 16'] == [clips[3]]
    status, _ = run(monkeypatch, tmp_path, 'dfew', tree.root, '--media', 'frames')
    assert status == 0


@pytest.mark.parametrize('content', [None, 'empty'])
def test_nothing_there_is_one_line(content, monkeypatch, tmp_path: Path, capsys) -> None:
    root = tmp_path / 'root'
    if content:
        root.mkdir()
    status, report = run(monkeypatch, tmp_path, 'dfew', root)
    if content is None:
        assert 'no such folder' in status and '\n' not in status
    else:
        assert status == 1 and 'no label file' in report['problems'][0]


# The numbers of the published datasets: for each fold from the split lists, and the papers' totals.
def test_published_numbers() -> None:
    totals = (2445, 1894, 2669, 2173, 1469, 145, 902)
    sizes = [(9356, 2341), (9356, 2341), (9357, 2340), (9358, 2339), (9361, 2336)]
    for fold, (train, test) in enumerate(sizes, 1):
        both = dfew.COUNTS[f'train/{fold}'], dfew.COUNTS[f'test/{fold}']
        assert (sum(both[0]), sum(both[1])) == (train, test)
        assert tuple(map(sum, zip(*both))) == totals
    tests = [dfew.COUNTS[f'test/{fold}'] for fold in range(1, 6)]
    assert tuple(map(sum, zip(*tests))) == totals and sum(totals) == 11697

    assert (sum(ferv39k.COUNTS['train']), sum(ferv39k.COUNTS['test'])) == (31088, 7847)
    assert len(ferv39k.SCENES) == 22

    sizes = [(7333, 1839), (7335, 1837), (7339, 1833), (7340, 1832), (7341, 1831)]
    for fold, (train, test) in enumerate(sizes, 1):
        key = f'single/no_caption/{{}}/{fold}'
        both = mafw.COUNTS[key.format('train')], mafw.COUNTS[key.format('test')]
        assert (sum(both[0]), sum(both[1])) == (train, test)
    totals = {'single/with_caption': 8034, 'compound/no_caption': 8996}
    for kind, total in {**totals, 'compound/with_caption': 7858}.items():
        for fold in range(1, 6):
            both = (mafw.COUNTS[f'{kind}/{split}/{fold}'] for split in ('train', 'test'))
            assert sum(map(sum, both)) == total
