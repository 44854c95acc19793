"""CONTRIBUTING.md: its example runs as it is written, and its picture is that of the package."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from conftest import NUM_TEST, NUM_TRAIN, ROOT
from mmengine.config import Config

from mmaction.registry import MODELS

import mmdfer

GUIDE = (ROOT / 'CONTRIBUTING.md').read_text()
PACKAGE = Path(mmdfer.__file__).parent


def section(title: str) -> str:
    """Return a section of the guide."""
    return GUIDE.split(f'## {title}\n')[1].split('\n## ')[0]


def blocks(text: str) -> list[str]:
    """Return the indented blocks of a text, each of which follows a line that ends with a colon."""
    found = re.findall(r':\n\n((?:(?: {4,}.*)?\n)+)', text)
    return [textwrap.dedent(block).strip() + '\n' for block in found]


# ------------------------------------------------------------------ how to add a method


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the guide's two files."""
    folder = tmp_path_factory.mktemp('mine')
    text = section('How to add a method')
    names = re.findall(r'This is\s+`(\w+\.py)`:', text)
    assert len(names) == 2
    for name, content in zip(names, blocks(text), strict=False):
        (folder / name).write_text(content)
    return folder


@pytest.fixture(scope='module')
def ran(folder: Path, data_root: Path) -> Path:
    """The work dir of the guide's two commands: two steps of training, and a test."""
    text = blocks(section('How to add a method'))[2]
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
    options = [f'{key}={value}' for key, value in small.items()]
    environment = dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1', MMDFER_DATA=str(data_root))
    commands = [line.split() for line in text.splitlines()]
    assert [words[:4] for words in commands] == [
        ['python', '-m', 'mmdfer', 'train'],
        ['python', '-m', 'mmdfer', 'test'],
    ]
    for _, *words in commands:
        words = [word.replace('epoch_20', 'epoch_1') for word in words]
        done = subprocess.run(
            [sys.executable, *words, '--cfg-options', *options],
            cwd=folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    return folder / 'work_dirs' / 'attention_pooling_synth'


def test_the_guides_method_trains_two_steps_and_tests(folder: Path, ran: Path) -> None:
    assert sorted(path.name for path in folder.glob('*.py')) == [
        'attention_pooling.py',
        'attention_pooling_synth.py',
    ]
    logs = sorted(ran.glob('*/vis_data/scalars.json'))
    losses = [line for line in map(json.loads, logs[0].read_text().splitlines()) if 'loss' in line]
    assert [line['step'] for line in losses] == [1, 2]
    tested = [json.loads(path.read_text()) for path in ran.glob('*/[0-9]*.json')]
    assert 'WAR' in tested[0]
    state = mmdfer.compat.load_from_local(ran / 'epoch_1.pth')['state_dict']
    assert state['neck.score.weight'].shape == (1, 128)
    assert 'cls_head.tokens' in state


def test_the_guides_neck_is_a_weighted_mean(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    model = MODELS.build(Config.fromfile(folder / 'attention_pooling_synth.py').model)
    frames = torch.randn(2, 5, 128)
    with torch.no_grad():
        scores = [torch.tensor([model.neck.score(f) for f in clip]).exp() for clip in frames]
        by_hand = [s @ clip / s.sum() for s, clip in zip(scores, frames, strict=True)]
        torch.testing.assert_close(model.neck(frames)[0], torch.stack(by_hand))


def test_the_guides_folders_and_classes_are_there() -> None:
    text = section('How to add a method') + section('How to add a dataset')
    for path in re.findall(r'`((?:mmdfer|configs|docs|tools)/[\w/.]*)`', text):
        assert (ROOT / path).exists(), path
    assert list(PACKAGE.glob('models/heads/class_name_head.py'))
    sources = [path.read_text() for path in PACKAGE.rglob('*.py')]
    for name in re.findall(r'`([A-Z]\w*[a-z]\w*)`', text):
        known = f'class {name}(' in ''.join(sources)
        assert known or name == 'Results', name


# ------------------------------------------------------------------ where things are


def test_the_guides_picture_has_every_package_and_its_level() -> None:
    drawn = re.findall(r'^(\d+) +(\w+(?:/|\.py)) +\S', blocks(section('Where things are'))[0], re.M)
    there = {path.name + '/' for path in PACKAGE.iterdir() if (path / '__init__.py').is_file()}
    there |= {path.name for path in PACKAGE.glob('*.py')} - {'__init__.py'}
    assert {name for _, name in drawn} == there
    levels = runpy.run_path(str(ROOT / 'benchmarks' / 'structure.py'))['LEVELS']
    expected = {name: level for level, names in enumerate(levels, 1) for name in names}
    for level, name in drawn:
        assert int(level) == expected[re.sub(r'/|\.py', '', name)], name
