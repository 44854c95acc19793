"""Test the shipped configs of the licensed datasets: training, testing, cross-validation."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import trees
from conftest import ROOT
from mmengine.config import Config

from mmaction.apis import init_recognizer
from mmaction.registry import DATASETS

from mmdfer.cli import cross_validate as command_line
from mmdfer.cli.main import main as mmdfer_main
from mmdfer.engine.runner.build import build_runner
from mmdfer.evaluation.report import read_fold
from mmdfer.experiments import cross_validation

FOLDERS = dict(dfew='DFEW', ferv39k='FERV39k', mafw='MAFW')

STAGES = ((1, 'text'), (2, 'video'), (3, 'joint'))

# The options that make a shipped config small: the shipped small CLIP, and one epoch per stage.
SMALL = {
    'model.backbone.arch': 'synth-clip',
    'model.backbone.weights': None,
    'model.cls_head.num_sentences': 3,
    'model.cls_head.num_tokens': 8,
    'train_dataloader.dataset.dataset.pipeline.4.input_size': 64,
    'train_dataloader.dataset.dataset.pipeline.5.scale': (64, 64),
    'train_dataloader.dataset.dataset.num_views': 1,
    'train_dataloader.drop_last': False,  # a fold of the small trees does not fill a batch
    **{
        f'{loader}_dataloader.dataset.dataset.pipeline.{key}': value
        for loader in ('val', 'test')
        for key, value in {'3.scale': (-1, 69), '4.crop_size': 64}.items()
    },
    'custom_hooks.0.stages.0.epochs': 1,
    'custom_hooks.0.stages.1.epochs': 1,
    'custom_hooks.0.stages.1.grows_at': [0, 0, 0, 0],
    'custom_hooks.0.stages.2.epochs': 1,
    'custom_hooks.0.stages.2.grows_at': [0, 0],
    **{f'{loader}_dataloader.dataset.num_workers': 0 for loader in ('train', 'val', 'test')},
}


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('data root')
    for name, folder in FOLDERS.items():
        trees.MAKERS[name](root / folder)
    return root


@pytest.fixture(autouse=True)
def _data_root(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MMDFER_DATA', str(data))


def small(name: str, work_dir: Path, **options: object) -> Config:
    config = Config.fromfile(ROOT / 'configs' / f'align_dfer_{name}.py')
    config.merge_from_dict({**SMALL, 'work_dir': str(work_dir), **options})
    return config


@pytest.mark.parametrize('name', FOLDERS)
def test_a_config_trains_its_three_stages_and_tests(name: str, tmp_path: Path, data: Path) -> None:
    config = small(name, tmp_path)
    runner = build_runner(config)
    runner.train()
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert all(f"Stage {i}/3 '{stage}'" in log for i, stage in STAGES)
    report = json.loads((tmp_path / 'report.json').read_text())
    assert report['dataset'] == f'synthetic tree like {FOLDERS[name]}'
    assert report['last']['epoch'] == 3
    confusion = torch.tensor(report['last']['confusion'])
    test = DATASETS.build(config.test_dataloader.dataset)
    labels = [test.get_data_info(i)['label'] for i in range(len(test))]
    assert confusion.sum(1).tolist() == [labels.count(c) for c in range(len(confusion))]

    tested = small(name, tmp_path / 'test', load_from=str(tmp_path / 'epoch_3.pth'))
    metrics = build_runner(tested).test()
    assert metrics['WAR'] == pytest.approx(report['last']['WAR'])


@pytest.mark.parametrize('name', FOLDERS)
def test_the_large_variant_differs_only_in_its_tower(name: str, tmp_path: Path) -> None:
    base, large = (
        Config.fromfile(ROOT / 'configs' / f'align_dfer_{name}{end}.py').to_dict()
        for end in ('', '_vitl14')
    )
    assert base['model']['backbone'].pop('arch') == 'ViT-B-32-quickgelu'
    assert large['model']['backbone'].pop('arch') == 'ViT-L-14-quickgelu'
    assert base == large
    # Train the config itself for two steps in each stage, and load its checkpoint.
    config = small(f'{name}_vitl14', tmp_path, **{'train_dataloader.batch_size': 8})
    config.train_dataloader.dataset.dataset.indices = 16
    runner = build_runner(config)
    runner.train()
    model = init_recognizer(config, str(tmp_path / 'epoch_3.pth'), device='cpu')
    trained = runner.model.state_dict()
    assert len(trained['cls_head.tokens']) == len(trees.MAFW if name == 'mafw' else trees.DFEW)
    assert model.state_dict().keys() == trained.keys()
    assert all(torch.equal(value, trained[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(('media', 'folder'), [('frames16', 'clip_224x224_16f'), ('videos', None)])
def test_other_media_are_one_option(media: str, folder: str | None, tmp_path: Path) -> None:
    """Read 16-frame folders and videos by the pipeline that reads folders of frames."""
    tree = trees.dfew(tmp_path / 'DFEW', media=False)
    for clip in {clip for clips in tree.truth.values() for clip in clips}:
        if folder:
            names = [f'{i}.jpg' for i in range(1, 17)]
            trees.pictures(tree.root / 'Clip' / folder / clip, names)
            continue
        path = tree.root / f'Clip/original/part_{(int(clip) - 1) // 1600 + 1}/{int(clip)}.mp4'
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 25, (64, 64))
        for i in range(20):
            writer.write(np.full((64, 64, 3), 12 * i, np.uint8))
        writer.release()
    config = small('dfew', tmp_path)
    for loader in (config.train_dataloader, config.test_dataloader):
        options = loader.dataset.dataset
        dataset = DATASETS.build({**options, 'data_root': str(tree.root), 'media': media})
        inputs = dataset[3]['inputs']
        assert inputs.shape == (1, 3, 16, 64, 64)
        if media == 'videos':
            shades = inputs.float().mean((0, 1, 3, 4))
            assert (shades.diff() > 0).all()


def test_all_five_folds_twice_and_one_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    ran = []

    def run_here(command: list[str]) -> int:
        ran.append(int(command[command.index('--work-dir') + 1][-1]))
        assert command[:3] == [sys.executable, '-m', 'mmdfer']
        mmdfer_main(command[3:])
        return 0

    config = ROOT / 'configs' / 'align_dfer_dfew.py'
    words = [f'{key}={str(value).replace(" ", "")}' for key, value in SMALL.items()]
    monkeypatch.setattr(cross_validation, 'run_command', run_here)

    def cross_validate() -> list[int]:
        ran.clear()
        with pytest.raises(SystemExit) as end:
            command_line.main([str(config), '--work-dir', str(tmp_path), '--cfg-options', *words])
        assert end.value.code == 0
        return list(ran)

    assert cross_validate() == [1, 2, 3, 4, 5]
    table = (tmp_path / 'cross_validation.txt').read_text()
    assert 'synthetic data: not results on DFEW' in table
    assert "mean of 5 folds, the protocol's figure" in table
    folds = [read_fold(tmp_path / f'fold_{k}' / 'report.json', k) for k in range(1, 6)]
    mean = sum(fold.last.war for fold in folds) / 5
    (line,) = [line for line in table.splitlines() if line.startswith('mean of 5')]
    assert float(line.split()[-4]) == pytest.approx(mean, abs=0.005)
    pooled = json.loads((tmp_path / 'cross_validation.json').read_text())['pooled']['last']
    assert torch.tensor(pooled['confusion']).sum(1).tolist() == list(trees.SIZES[:7])

    assert cross_validate() == []
    shutil.rmtree(tmp_path / 'fold_3')
    assert cross_validate() == [3]
    assert (tmp_path / 'cross_validation.txt').read_text() == table  # the figures are the same
