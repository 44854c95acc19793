"""The examples of the documentation run as they are written; CONTRIBUTING.md names what exists."""

from __future__ import annotations

import csv
import json
import os
import re
import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import NUM_TEST, NUM_TRAIN, ROOT
from forked import run_forked
from mmengine.config import Config

from mmaction.registry import DATASETS, MODELS

import mmdfer
from mmdfer.levels import ClipLevels, levels_path, write_captions, write_levels

GUIDE = (ROOT / 'CONTRIBUTING.md').read_text(encoding='utf-8')
METHOD = (ROOT / 'docs' / 'add_method.md').read_text(encoding='utf-8')
DATASET = (ROOT / 'docs' / 'add_dataset.md').read_text(encoding='utf-8')
LEVELS = (ROOT / 'docs' / 'levels.md').read_text(encoding='utf-8')
PACKAGE = Path(mmdfer.__file__).parent

FILE = re.compile(r'as `(\w+\.py)`:\n\n```python\n(.*?)```', re.DOTALL)
COMMAND = re.compile(r'^python -m mmdfer (.+)$', re.MULTILINE)
ONE_EPOCH_A_STAGE = {
    'train_dataloader.batch_size': 4,
    'custom_hooks.0.stages.0.epochs': 1,
    'custom_hooks.0.stages.1.epochs': 1,
    'custom_hooks.0.stages.1.grows_at': '[0,0,0,0]',
    'custom_hooks.0.stages.2.epochs': 1,
    'custom_hooks.0.stages.2.grows_at': '[0,0]',
    'model.cls_head.num_sentences': 2,
    'model.cls_head.num_tokens': 4,
    'model.neck.num_sentences': 2,
}


def write_files(page: str, folder: Path) -> list[str]:
    """Write the files of a page into a folder and return their names."""
    files = FILE.findall(page)
    for name, content in files:
        (folder / name).write_text(content, encoding='utf-8')
    return [name for name, _ in files]


def run_commands(page: str, folder: Path, options: dict[str, object], **variables: str) -> None:
    """Run the training and the test of a page in a folder, with options that make them short."""
    commands = COMMAND.findall(page)
    assert [command.split()[0] for command in commands] == ['train', 'test']
    for command in commands:
        words = re.sub(r'epoch_\d+', 'epoch_*', command).split()
        if words[0] == 'test':  # the checkpoint of the last epoch, of which there are fewer here
            words[2] = str(sorted(folder.glob(words[2]))[-1])
        pairs = [f'{key}={value}' for key, value in options.items()]
        done = run_forked(
            ['-m', 'mmdfer', *words, '--cfg-options', *pairs],
            cwd=folder,
            env={**os.environ, **variables},
        )
        assert done.returncode == 0, done.stderr[-3000:]


def read_metrics(work_dir: Path) -> dict[str, float]:
    """Return the metrics of the one test in a work directory."""
    (path,) = work_dir.glob('*/[0-9]*.json')
    return json.loads(path.read_text())


# ------------------------------------------------------------------ docs/add_method.md


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the two files of the page."""
    folder = tmp_path_factory.mktemp('mine')
    names = write_files(METHOD, folder)
    assert names == ['attention_pooling.py', 'attention_pooling_synth.py']
    return folder


@pytest.fixture(scope='module')
def ran(folder: Path, data_root: Path) -> Path:
    """Return the work directory of the page's two commands: two training steps, and a test."""
    small = {f'{loader}_dataloader.dataset.num_workers': 0 for loader in ('train', 'val', 'test')}
    for loader, clips in dict(train=8, val=6, test=6).items():
        inner = f'{loader}_dataloader.dataset.dataset'
        sizes = dict(num_train=NUM_TRAIN, num_test=NUM_TEST, indices=clips)
        small |= {f'{inner}.{key}': value for key, value in sizes.items()}
    small |= {
        'train_dataloader.batch_size': 4,
        'train_dataloader.dataset.dataset.num_views': 1,
        'train_cfg.max_epochs': 1,
        'default_hooks.logger.interval': 1,
    }
    run_commands(METHOD, folder, small, MMDFER_DATA=str(data_root))
    return folder / 'work_dirs' / 'attention_pooling_synth'


def test_the_new_method_trains_two_steps_and_tests(ran: Path) -> None:
    logs = sorted(ran.glob('*/vis_data/scalars.json'))
    losses = [line for line in map(json.loads, logs[0].read_text().splitlines()) if 'loss' in line]
    assert [line['step'] for line in losses] == [1, 2]
    assert 'WAR' in read_metrics(ran)
    state = mmdfer.compat.load_from_local(ran / 'epoch_1.pth')['state_dict']
    assert state['neck.score.weight'].shape == (1, 128)
    assert 'cls_head.tokens' in state


def test_the_new_neck_is_a_weighted_mean(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    model = MODELS.build(Config.fromfile(folder / 'attention_pooling_synth.py').model)
    frames = torch.randn(2, 5, 128)
    with torch.no_grad():
        scores = [torch.tensor([model.neck.score(f) for f in clip]).exp() for clip in frames]
        by_hand = [s @ clip / s.sum() for s, clip in zip(scores, frames, strict=True)]
        torch.testing.assert_close(model.neck(frames)[0], torch.stack(by_hand))


# ------------------------------------------------------------------ docs/add_dataset.md


@pytest.fixture(scope='module')
def faces(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """Return a folder with the files of the page, and clips in both of its layouts."""
    folder = tmp_path_factory.mktemp('faces')
    names = write_files(DATASET, folder)
    assert names == ['coop_my_faces.py', 'my_faces.py', 'align_dfer_my_faces.py']
    root = folder / 'data' / 'my_faces'
    labels = {'0': 'smiling', '2': 'calm'}  # happiness and neutral
    for split in ('train', 'test'):
        lines = (data_root / 'synth' / f'{split}.txt').read_text().splitlines()
        clips = [line.rsplit(' ', 1) for line in lines if line[-1] in labels]
        rows = [(data_root / 'synth' / name, labels[label]) for name, label in clips]
        for clip, name in rows:
            (root / split / name).mkdir(parents=True, exist_ok=True)
            (root / split / name / clip.name).symlink_to(clip)
        with open(root / f'{split}.csv', 'w', newline='') as file:
            named = [(f'{split}/{name}/{clip.name}', name) for clip, name in rows]
            csv.writer(file).writerows([('clip', 'label'), *named])
    (root / 'classes.txt').write_text('calm\nsmiling\n')
    return folder


def test_the_new_dataset_trains_and_tests(faces: Path) -> None:
    assert '`mmdfer::align_dfer_synth.py`' in DATASET  # the base for a run without a download
    config = faces / 'align_dfer_my_faces.py'
    config.write_text(config.read_text().replace('align_dfer_custom.py', 'align_dfer_synth.py'))
    options = ONE_EPOCH_A_STAGE | {'default_hooks.report.baselines': False}
    run_commands(DATASET, faces, options)
    work_dir = faces / 'work_dirs' / 'align_dfer_my_faces'
    assert {'recall/calm', 'recall/smiling'} <= read_metrics(work_dir).keys()
    report = json.loads((work_dir / 'report.json').read_text())
    assert report['dataset'] == 'my_faces' and report['classes'] == ['calm', 'smiling']
    tested = sum(map(sum, report['last']['confusion']))
    assert tested == len(list((faces / 'data/my_faces/test').glob('*/*.mp4'))) > 2


def test_the_config_of_another_method_reads_the_csv_files(
    faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(faces)
    config = Config.fromfile('coop_my_faces.py')
    for loader in (config.train_dataloader, config.test_dataloader):
        dataset = DATASETS.build(loader.dataset.dataset)
        assert dataset.metainfo['classes'] == tuple(config.model.cls_head.classes)
        assert len(dataset) > 2
    config.model.backbone.update(arch='synth-clip', weights=None)
    assert MODELS.build(config.model).cls_head.num_classes == 2


def test_the_config_of_the_levels_page_reads_levels(
    faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(faces)
    assert write_files(LEVELS, faces) == ['fine_cliper_my_faces.py']
    config = Config.fromfile('fine_cliper_my_faces.py')
    config.model.backbone.update(arch='synth-clip-vit', weights='random')
    config.model.backbone.adapter.width = 4
    assert MODELS.build(config.model).cls_head.num_classes == 2
    for loader in (config.train_dataloader, config.test_dataloader):
        dataset = DATASETS.build(loader.dataset)
        info = dataset.get_data_info(0)
        clip, video = info['clip'], cv2.VideoCapture(info['filename'])
        masks = np.ones((int(video.get(cv2.CAP_PROP_FRAME_COUNT)), 112, 112), np.uint8)
        write_levels(levels_path('data/my_faces/levels', clip), ClipLevels((112, 112), masks))
        write_captions('data/my_faces/levels/captions.jsonl', {clip: 'a face'})
        item = dataset[0]
        assert item['data_samples'].parts.shape == item['inputs'].shape
    assert item['data_samples'].caption == 'a face'  # of the test loader, which drops none


# ------------------------------------------------------------------ CONTRIBUTING.md


def test_the_folders_files_and_classes_that_are_named_exist() -> None:
    text = GUIDE + METHOD + DATASET
    for path in re.findall(r'`((?:mmdfer|configs|docs|tools|tests|benchmarks)/[\w/.]*)`', text):
        assert 'NAME' in path or (ROOT / path).exists(), path
    sources = ''.join(path.read_text() for path in PACKAGE.rglob('*.py'))
    for name in re.findall(r'`([A-Z]\w*[a-z]\w*)`', text):
        assert f'class {name}(' in sources or name == 'Results', name


def test_the_list_of_packages_has_every_package_and_its_level() -> None:
    section = GUIDE.split('\n## Where things are\n')[1].split('\n## ')[0]
    listed = re.findall(r'^ {4}(\d+) +(\w+(?:/|\.py)) +\S', section, re.MULTILINE)
    there = {path.name + '/' for path in PACKAGE.iterdir() if (path / '__init__.py').is_file()}
    there |= {path.name for path in PACKAGE.glob('*.py')} - {'__init__.py'}
    assert {name for _, name in listed} == there
    levels = runpy.run_path(str(ROOT / 'benchmarks' / 'structure.py'))['LEVELS']
    expected = {name: level for level, names in enumerate(levels, 1) for name in names}
    for level, name in listed:
        assert int(level) == expected[re.sub(r'/|\.py', '', name)], name
