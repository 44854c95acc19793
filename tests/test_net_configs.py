"""Test every shipped config of the nets, shrunk by options: training steps and a test pass."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import trees
from conftest import NUM_TEST, NUM_TRAIN, ROOT, make_benchmark
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner

from mmaction.registry import METRICS, MODELS

from mmdfer.engine.runner.build import build_runner

CONFIGS = ROOT / 'configs'
FOLDERS = dict(dfew='DFEW', ferv39k='FERV39k', mafw='MAFW', synth='synth')
CLASSES = dict(dfew=7, ferv39k=7, mafw=11, synth=7)

# The sizes in the configs, and the smallest sizes in pixels that work with all nets.
PIXELS = {112: 32, 120: 34, 224: 32, 240: 34, 64: 32, 69: 34}
# Options for smaller nets, where building the net takes seconds.
RESNET18 = {'model.backbone.depth': 18, 'model.cls_head.in_channels': 512}
NARROW: dict[str, dict[str, Any]] = {
    'c3d': {'model.backbone.out_dim': 2048},
    'former_dfer': {'model.backbone.input_size': 32},
    'i3d': {**RESNET18, 'model.backbone.inflate': ((1, 1), (1, 0), (1, 0), (0, 1))},
    'slowonly': RESNET18,
    'tsm': RESNET18,
    'tsn': RESNET18,
    'p3d': {'model.backbone.base_width': 8, 'model.cls_head.in_channels': 256},
    'timesformer': {
        'model.backbone.img_size': 32,
        'model.backbone.embed_dims': 96,
        'model.backbone.num_transformer_layers': 2,
        'model.cls_head.in_channels': 96,
    },
    'videomae': {
        'model.backbone.img_size': 32,
        'model.backbone.embed_dims': 96,
        'model.backbone.depth': 2,
        'model.cls_head.in_channels': 96,
    },
}


def nets() -> list[Path]:
    """Return the configs of the methods whose backbone is not a FrozenCLIP."""
    bases = CONFIGS.glob('_base_/models/*.py')
    clip = {path.stem for path in bases if 'FrozenCLIP' in path.read_text()}
    found = []
    for path in CONFIGS.glob('*/*.py'):
        base = re.search(r'_base_/models/(\w+)\.py', path.read_text())
        if base and base[1] not in clip:
            found.append(path)
    return sorted(found)


NETS = nets()

# The number of frames that a sampler returns.
SAMPLERS = {
    **dict.fromkeys(('SampleSegments', 'UniformSample', 'SampleFreqHD'), lambda t: t.clip_len),
    'SampleTSN': lambda t: t.num_segments * t.get('duration', 1),
}


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make small versions of all four datasets."""
    root = tmp_path_factory.mktemp('data')
    for name, maker in trees.MAKERS.items():
        maker(root / FOLDERS[name])
    make_benchmark(root / 'synth', num_train=NUM_TRAIN, num_test=NUM_TEST)
    return root


@pytest.fixture(autouse=True)
def _data_root(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MMDFER_DATA', str(data))


def small(path: Path, work_dir: Path) -> Config:
    """Read a shipped config with few clips, small frames and no pretrained weights."""
    config = Config.fromfile(path)
    method, _, dataset = path.stem.rpartition('_')
    options = {
        'work_dir': str(work_dir),
        'load_from': None,
        'train_cfg.max_epochs': 1,
        'train_cfg.val_interval': 1,
        'default_hooks.checkpoint': None,
        **NARROW.get(method, {}),
    }
    for loader, clips in (('train', 4), ('val', 2), ('test', 2)):
        sizes = dict(num_train=NUM_TRAIN, num_test=NUM_TEST) if dataset == 'synth' else {}
        options |= {
            f'{loader}_dataloader.{key}': value
            for key, value in {'batch_size': 2, 'num_workers': 0, 'dataset.indices': clips}.items()
        } | {f'{loader}_dataloader.dataset.{key}': value for key, value in sizes.items()}
        shrink(config[f'{loader}_dataloader'].dataset.pipeline)
    config.merge_from_dict(options)
    if 'pretrained' in config.model.backbone:
        config.model.backbone.pretrained = None
    return config


def shrink(pipeline: list[dict[str, Any]]) -> None:
    """Replace the sizes of pictures in a pipeline by smaller ones."""
    for transform in pipeline:
        for key in ('input_size', 'scale', 'crop_size', 'size'):
            if isinstance(size := transform.get(key), int):
                transform[key] = PIXELS.get(size, size)
            elif size is not None:
                transform[key] = tuple(PIXELS.get(s, s) for s in size)


@pytest.mark.parametrize('path', NETS, ids=[p.stem for p in NETS])
def test_a_config_trains_all_parameters_and_tests(path: Path, tmp_path: Path) -> None:
    """Build the parts as the Runner does, but without its log, which takes seconds."""
    config, dataset = small(path, tmp_path), path.stem.rpartition('_')[2]
    model = MODELS.build(config.model)
    model.init_weights()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = build_optim_wrapper(model, config.optim_wrapper)
    for batch in Runner.build_dataloader(config.train_dataloader, seed=0):
        assert model.train().train_step(batch, optimizer)['loss'].isfinite()
        still = {name for name, p in model.named_parameters() if torch.equal(p, before[name])}
        if not still:
            break  # The first of the two steps leaves what multiplies a layer of zeros.
    assert still == set()

    loader = Runner.build_dataloader(config.test_dataloader, seed=0)
    metric = METRICS.build(config.test_evaluator)
    metric.dataset_meta = loader.dataset.metainfo
    assert model.cls_head.num_classes == len(metric.dataset_meta['classes']) == CLASSES[dataset]
    tested = []
    for batch in loader:
        samples = model.eval().test_step(batch)
        metric.process(batch, [sample.to_dict() for sample in samples])
        tested += samples
    scores = torch.stack([sample.pred_score for sample in tested])  # (2, C)
    assert scores.shape == (2, CLASSES[dataset])
    assert torch.allclose(scores.sum(1), torch.ones(2), atol=1e-3)
    assert [sample.gt_label.item() for sample in tested] == [
        loader.dataset.get_data_info(index)['label'] for index in range(2)
    ]
    right = sum(int(s.argmax()) == t.gt_label.item() for s, t in zip(scores, tested))
    assert metric.evaluate(2)['WAR'] == pytest.approx(50 * right)


@pytest.mark.parametrize('name', ['resnet18_lstm_synth', 'resnet18_lstm_dfew', 'videomae_mafw'])
def test_a_config_of_each_schedule_runs_whole(name: str, tmp_path: Path) -> None:
    (path,) = CONFIGS.glob(f'*/{name}.py')
    config = small(path, tmp_path)
    # Three clips make a batch of two and a batch of one, which a shipped config would drop.
    loader = {'train_dataloader.dataset.indices': 3, 'train_dataloader.drop_last': False}
    config.merge_from_dict({'train_cfg.max_epochs': 2, **loader})
    runner = build_runner(config)
    runner.train()
    assert (runner.epoch, runner.iter) == (2, 4)
    report = json.loads((tmp_path / 'report.json').read_text())
    assert report['last']['epoch'] == 2
    assert runner.test()['WAR'] == pytest.approx(report['last']['WAR'])


@pytest.mark.parametrize('path', NETS, ids=[p.stem for p in NETS])
def test_a_config_keeps_the_protocol(path: Path) -> None:
    """Check 16 frames, a new view of each clip in every epoch, and weights known to MMAction2."""
    config = Config.fromfile(path)
    begins = config.get('load_from') or config.model.backbone.get('pretrained')
    zoos = ('https://download.openmmlab.com/mmaction/', 'torchvision://')
    assert begins is None or (begins.startswith(zoos) and not path.stem.endswith('_synth'))
    train, test = config.train_dataloader, config.test_dataloader
    for loader in (train, test):
        (sampler,) = (t for t in loader.dataset.pipeline if t.type in SAMPLERS)
        assert SAMPLERS[sampler.type](sampler) == 16
        assert loader.num_workers > 0
    assert train.sampler.type == 'DefaultSampler'
    assert train.dataset.num_views is None
    assert (train.dataset.split, test.dataset.split) == ('train', 'test')
    assert test.dataset.test_mode
    assert config.test_pipeline == test.dataset.pipeline  # MMAction2's inference reads it
    assert 'custom_hooks' not in config


# The channels in and out of C3D's layers, 3 x 3 x 3 each (Tran et al., ICCV 2015, Sec. 3.2).
CONVOLUTIONS = [(3, 64), (64, 128), (128, 256), (256, 256), (256, 512), *[(512, 512)] * 3]
LINEAR = [(8192, 4096), (4096, 4096), (4096, 101)]
# Published numbers of parameters in millions, and the number of classes that they include. Tables
# in DFER papers print 78 for C3D. The others are torchvision's counts of its own nets. (The
# R(2+1)D-18 of Tran et al., CVPR 2018, has 33.3 million: torchvision computes the number of middle
# channels differently.)
PUBLISHED = {'c3d': (78, 101), 'r3d18': (33.371472, 400), 'r2plus1d18': (31.505325, 400)}


@pytest.mark.parametrize('name', PUBLISHED)
def test_parameters_are_as_many_as_published(name: str) -> None:
    millions, classes = PUBLISHED[name]
    config = Config.fromfile(CONFIGS / name / f'{name}_dfew.py')
    config.model.cls_head.num_classes = classes
    config.model.backbone.pretrained = None
    with torch.device('meta'):
        model = MODELS.build(config.model)
    count = sum(p.numel() for p in model.parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.03)
    if name == 'c3d':
        kernels = [(27 * a + 1) * b for a, b in CONVOLUTIONS]
        assert count == sum(kernels) + sum((a + 1) * b for a, b in LINEAR)
