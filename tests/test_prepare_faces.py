"""Test that films and labels become a dataset of face crops that training reads."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdfer.cli import prepare_faces
from mmdfer.datasets import CSVDataset
from mmdfer.inference.face_clips import read_films
from mmdfer.synthetic.emotions import FPS
from mmdfer.synthetic.scene import HEIGHT, WIDTH, Scene, draw_scene, write_scene


@pytest.fixture(scope='module')
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write films of a drawn face, one of which shows the face in its second half only."""
    folder = tmp_path_factory.mktemp('films')
    scene = draw_scene(['happiness', 'anger'], seconds=1.0)
    for name, part in (('a', slice(0, FPS)), ('b', slice(FPS, None))):
        write_scene(folder / f'{name}.mp4', Scene(scene.frames[part], [], []))
    empty = np.full((FPS, HEIGHT, WIDTH, 3), 90, np.uint8)
    write_scene(folder / 'empty.mp4', Scene(empty, [], []))
    half = np.concatenate([empty, scene.frames[:FPS]])
    write_scene(folder / 'half.mp4', Scene(half, [], []))
    (folder / 'broken.mp4').write_bytes(b'nothing')
    for path in folder.glob('*.csv'):
        path.unlink()
    rows = ['clip,label', 'a.mp4,happiness', 'empty.mp4,anger', 'broken.mp4,anger']
    (folder / 'train.csv').write_text('\n'.join(rows))
    (folder / 'test.csv').write_text('clip,label\nb.mp4,anger\nhalf.mp4,happiness\n')
    return folder


def test_films_become_a_dataset(films: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / 'out'
    flags = ['--size', '96', '--margin', '0.2', '--workers', '1']
    prepare_faces.main([str(films), str(out), *flags])
    printed = capsys.readouterr().out
    assert 'train.csv: 1 of 3 films (happiness 1)' in printed
    assert 'test.csv: 2 of 2 films (anger 1, happiness 1)' in printed
    assert f'dropped {films / "empty.mp4"}: no face was found' in printed
    assert f'dropped {films / "broken.mp4"}: ' in printed
    rows = {
        Path(row['film']).stem: row for row in csv.DictReader((out / 'report/films.csv').open())
    }
    assert rows['half']['frames'] == str(2 * FPS)
    assert FPS - 5 <= int(rows['half']['crops']) <= FPS + 1
    test = CSVDataset(str(out), 'test', pipeline=[], test_mode=True)
    assert test.metainfo['classes'] == ('anger', 'happiness')
    assert test.metainfo['face_crop'] == dict(margin=0.2, size=96)
    assert [test.get_data_info(i)['label'] for i in range(2)] == [0, 1]
    pictures = sorted((out / 'frames' / 'half').iterdir())
    assert pictures[0].name == '00001.jpg' and len(pictures) == int(rows['half']['crops'])
    assert cv2.imread(str(pictures[-1])).shape == (96, 96, 3)

    # A second run crops nothing; other settings are refused.
    stamp = pictures[0].stat().st_mtime_ns
    prepare_faces.main([str(films), str(out), *flags])
    assert capsys.readouterr().out == printed and pictures[0].stat().st_mtime_ns == stamp
    with pytest.raises(SystemExit, match='other settings'):
        prepare_faces.main([str(films), str(out), *flags, '--fps', '5'])


def test_an_interrupted_run_continues(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    out, read = tmp_path / 'out', cv2.imencode
    calls = []

    def interrupt(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 40:  # in the second film with a face
            raise KeyboardInterrupt
        return read(*arguments)

    monkeypatch.setattr(cv2, 'imencode', interrupt)
    with pytest.raises(SystemExit) as end:
        prepare_faces.main([str(films), str(out), '--workers', '1'])
    assert end.value.code == 130
    done = [json.loads(line)['name'] for line in (out / 'prepared.jsonl').read_text().splitlines()]
    assert 1 <= len(done) < 5
    monkeypatch.undo()
    prepare_faces.main([str(films), str(out), '--workers', '2'])
    assert {path.name for path in (out / 'frames').iterdir()} == {'a', 'b', 'half'}
    lines = (out / 'prepared.jsonl').read_text().splitlines()
    assert sorted(json.loads(line)['name'] for line in lines) == [
        'a', 'b', 'broken', 'empty', 'half'
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('files', 'said'),
    [
        ({}, 'has no CSV file'),
        ({'train.csv': 'film,label\na,b\n'}, 'must have the columns'),
        (
            {'train.csv': 'clip,label\na,b\n', 'classes.txt': 'x\ny\n'},
            "classes.txt: lacks the label 'b'",
        ),
    ],
)
def test_wrong_lists_are_one_line(files: dict[str, str], said: str, tmp_path: Path) -> None:
    source = tmp_path / 'in'
    source.mkdir()
    for name, text in files.items():
        (source / name).write_text(text)
    with pytest.raises(SystemExit, match=said):
        prepare_faces.main([str(source), str(tmp_path / 'out')])
    assert not (tmp_path / 'out').exists()


def test_names_are_different_even_if_a_number_makes_them_alike(tmp_path: Path) -> None:
    rows = ['clip,label', 'a.mp4,x', 'b/A.mp4,x', 'a_2.mp4,y']
    (tmp_path / 'train.csv').write_text('\n'.join(rows))
    films, _ = read_films(tmp_path)
    assert [film.name for film in films] == ['a', 'A_2', 'a_2_2']


def test_a_line_that_was_cut_off_is_made_again(
    films: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / 'out'
    prepare_faces.main([str(films), str(out), '--workers', '1'])
    printed, record = capsys.readouterr().out, out / 'prepared.jsonl'
    whole = record.read_text()
    record.write_text(whole[:-20])
    prepare_faces.main([str(films), str(out), '--workers', '1'])
    assert capsys.readouterr().out == printed and record.read_text() == whole


@pytest.mark.parametrize(('flag', 'value'), [('--fps', '0'), ('--size', '0'), ('--margin', '-1')])
def test_wrong_settings_are_one_line(flag: str, value: str, films: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match='must'):
        prepare_faces.main([str(films), str(tmp_path / 'out'), flag, value])
    assert not (tmp_path / 'out').exists()
