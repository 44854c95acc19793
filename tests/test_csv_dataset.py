"""A dataset of one's own: CSV files of clips and labels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT
from mmengine.config import Config

from mmaction.registry import DATASETS

from mmdfer.engine.runner.build import build_runner
from mmdfer.errors import DFERError
from mmdfer.features import FeatureEncoder

CLASSES = ('joy', 'pain', 'rest')


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a dataset of six folders of frames, in two splits."""
    root = tmp_path / 'faces'
    for clip in range(6):
        folder = root / 'clips' / f'person {clip}'
        folder.mkdir(parents=True)
        for frame in range(18):
            picture = np.full((72, 72, 3), 20 * clip + frame, np.uint8)
            assert cv2.imwrite(str(folder / f'{frame}.png'), picture)
    write(root, 'classes.txt', *CLASSES)
    write(
        root, 'train.csv', 'clip,label', *(f'clips/person {i},{CLASSES[i % 3]}' for i in range(4))
    )
    write(root, 'test.csv', 'label, clip', 'rest, clips/person 5', 'pain, clips/person 4')
    return root


def write(root: Path, name: str, *lines: str) -> None:
    (root / name).write_text('\n'.join(lines) + '\n', encoding='utf-8')


def build(root: Path, split: str = 'train') -> list[tuple[str, int]]:
    """Build the dataset, and return the name and the label of each clip."""
    dataset = DATASETS.build(
        dict(type='CSVDataset', data_root=str(root), split=split, pipeline=[], num_views=2)
    )
    dataset.full_init()
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    assert dataset.metainfo['classes'] == CLASSES
    assert all(Path(info['filename']).exists() for info in infos)
    return [(info['clip'], info['label']) for info in infos]


def test_clips_and_labels_are_read_by_column(root: Path) -> None:
    assert build(root) == [(f'clips/person {i}', i % 3) for i in range(4)]
    assert build(root, 'test') == [('clips/person 5', 2), ('clips/person 4', 1)]


def test_a_file_that_a_spreadsheet_program_wrote(root: Path) -> None:
    text = 'id,clip,label\r\n7,"clips/person 0","joy"\r\n\r\n8,clips/person 1,pain\r\n'
    (root / 'train.csv').write_text(text, encoding='utf-8-sig', newline='')
    write(root, 'classes.txt', '', *CLASSES, '')
    assert build(root) == [('clips/person 0', 0), ('clips/person 1', 1)]


def test_a_slash_after_a_folder_does_not_change_its_name(root: Path) -> None:
    write(root, 'train.csv', 'clip,label', 'clips/person 3/,joy')
    assert build(root) == [('clips/person 3', 0)]


def test_an_absolute_path(root: Path) -> None:
    clip = str(root / 'clips' / 'person 3')
    write(root, 'train.csv', 'clip,label', f'{clip},joy')
    assert build(root) == [(clip, 0)]


@pytest.mark.parametrize(
    ('name', 'lines', 'message'),
    [
        ('classes.txt', None, r'classes\.txt: the file does not exist'),
        ('train.csv', None, r'train\.csv: the file does not exist'),
        ('classes.txt', ['joy'], 'classes.txt: 1 class names'),
        ('classes.txt', ['joy', 'joy'], '2 class names, 1 of them different'),
        ('train.csv', ['path,label', 'a,joy'], r"line 1: the header is 'path,label'"),
        ('train.csv', ['clip,label'], 'lists no clip'),
        (
            'train.csv',
            ['clip,label', 'clips/person 0,'],
            'line 2: the clip or its label is missing',
        ),
        ('train.csv', ['clip,label', 'clips/person 0'], 'line 2: the clip or its label is missing'),
        ('train.csv', ['clip,label', 'clips/person 0,fun'], r"line 2: label 'fun' is not a class"),
        (
            'train.csv',
            ['clip,label', 'clips/person 0,joy', 'clips/person 0,joy'],
            'line 3: .* is listed twice',
        ),
        (
            'train.csv',
            ['clip,label', 'clips/person 0,joy', 'clips/nobody,joy'],
            r'1 of 2 clips do not exist .*: clips/nobody \(line 3\)',
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    root: Path, name: str, lines: list[str] | None, message: str
) -> None:
    if lines is None:
        (root / name).unlink()
    else:
        write(root, name, *lines)
    with pytest.raises(DFERError, match=message) as raised:
        build(root)
    assert '\n' not in str(raised.value) and name in str(raised.value)


def test_a_file_of_another_encoding(root: Path) -> None:
    (root / 'train.csv').write_bytes('clip,label\nclips/é,joy\n'.encode('latin-1'))
    with pytest.raises(DFERError, match='train.csv: cannot be read as UTF-8'):
        build(root)


def test_the_shipped_config_trains_on_it(root: Path, tmp_path: Path) -> None:
    config = small_config(root, tmp_path)
    runner = build_runner(config)
    runner.train()
    assert runner.iter == 6
    assert runner.model.cls_head.classes == CLASSES


def test_another_number_of_classes_is_refused_before_clips_are_encoded(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(root, tmp_path)
    config.model.cls_head.num_classes = 7
    monkeypatch.setattr(FeatureEncoder, 'forward', None)  # encoding would end in a TypeError
    with pytest.raises(DFERError, match=r'3 classes \(joy, pain, rest\), but .* num_classes=7'):
        build_runner(config).train()


def small_config(root: Path, tmp_path: Path) -> Config:
    """Return the shipped config over the small CLIP, with one epoch for each stage."""
    config = Config.fromfile(ROOT / 'configs' / 'align_dfer_custom.py')
    config.merge_from_dict(
        {
            'data_root': str(root),
            'work_dir': str(tmp_path / 'run'),
            'model.backbone.arch': 'synth-clip',
            'model.backbone.weights': None,
            'model.cls_head.num_classes': 3,
            'model.cls_head.num_tokens': 4,
        }
    )
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.update(batch_size=2, num_workers=0)
        loader.dataset.num_workers = 0
        loader.dataset.dataset.pipeline = [
            dict(type='Resize', scale=(64, 64), keep_ratio=False) if 'Crop' in step.type else step
            for step in loader.dataset.dataset.pipeline
            if step.type != 'Resize'
        ]
    text, video, joint = config.custom_hooks[0].stages
    text.epochs = 1
    video.update(epochs=1, grows_at=[0, 0, 0, 0])
    joint.update(epochs=1, grows_at=[0, 0])
    return config
