"""Test every shipped config of the CLIP methods and ablations in two steps and a test pass."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import trees
from conftest import NUM_TEST, NUM_TRAIN, ROOT
from mixed import Observer
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from mmaction.registry import DATASETS, MODELS

from mmdfer.engine.runner.build import build_runner
from mmdfer.engine.runner.loops import last_epoch
from mmdfer.evaluation import dfer_metric
from mmdfer.features.dataset_config import is_encoded, without_features
from mmdfer.levels import CAPTIONS, ClipLevels, levels_path, write_captions, write_levels

METHODS = ('clip_zero_shot', 'coop', 'cocoop', 'cliper', 'dfer_clip', 'fine_cliper')
DATASET = dict(synth='SynthDFER', dfew='DFEW', ferv39k='FERV39k', mafw='MAFW')
CONFIGS = [f'{method}/{method}_{dataset}' for method in METHODS for dataset in DATASET]
ABLATIONS = sorted(f'ablations/{p.stem}' for p in (ROOT / 'configs' / 'ablations').glob('*.py'))

ADAPTERS = ['backbone.adapter.', 'backbone.text_adapter.']
FINE_CLIPER = [*ADAPTERS, 'neck.', 'level_scalars']
# The tensors that a method trains, by the start of their names. All others must not change.
LEARNED = {
    'clip_zero_shot': [],
    'coop': ['cls_head.tokens'],
    'cocoop': ['cls_head.tokens', 'cls_head.meta_net.'],
    'cliper': ['cls_head.tokens', 'backbone.clip.visual.'],
    'dfer_clip': ['cls_head.tokens', 'neck.', 'backbone.clip.visual.'],
    'align_dfer_class_names': ['neck.'],
    'align_dfer_at_once': ['cls_head.tokens', 'neck.joint_encoder.'],
    'fine_cliper_caption': ['backbone.text_adapter.'],
    'fine_cliper_frames': [*ADAPTERS, 'neck.'],
    'fine_cliper_mat': [*FINE_CLIPER, 'cls_head.tokens'],
    'fine_cliper_mat_jas': [*FINE_CLIPER, 'cls_head.tokens', 'neck.joint_encoder.'],
}
BY_BAP = ['cls_head.tokens', 'neck.']


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    root = tmp_path_factory.mktemp('trees')
    for name, maker in trees.MAKERS.items():
        draw_levels(maker(root / DATASET[name]), captions=name != 'mafw')
    (root / 'synth').symlink_to(data_root / 'synth')
    return root


def draw_levels(tree: trees.Tree, captions: bool) -> None:
    """Write masks of every third clip and, unless the dataset writes them, captions."""
    clips = sorted({clip for split in tree.truth.values() for clip in split})
    for number, clip in enumerate(clips[::3]):
        folder = next(path for path in tree.root.rglob(clip) if path.is_dir())
        shape = len(list(folder.iterdir())), 8, 8
        masks = np.random.default_rng(number).integers(0, 12, shape, dtype=np.uint8)
        write_levels(levels_path(tree.root / 'levels', clip), ClipLevels((8, 8), masks))
    if captions:
        write_captions(tree.root / 'levels' / CAPTIONS, {c: 'a face' for c in clips[::2]})


@pytest.fixture(autouse=True)
def _skip_slow_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the picture of the confusion matrix and the text of the config, which take longest."""
    monkeypatch.setattr(dfer_metric, 'save_confusion', lambda *_: None)
    monkeypatch.setattr(Config, 'pretty_text', property(lambda _: ''))


def small(name: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Shrink a shipped config: a small CLIP, few clips, and one epoch of two steps per stage."""
    monkeypatch.setenv('MMDFER_DATA', str(data))
    config = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    # MMAction2's inference reads test_pipeline.
    assert config.test_pipeline == without_features(config.test_dataloader.dataset).pipeline
    config.model.backbone.update(arch='synth-clip', weights=None)
    if config.model.type == 'FineCLIPER':  # AIM needs a ViT
        config.model.backbone.update(arch='synth-clip-vit', weights='random')
    clips = 4 if config.model.type == 'FineCLIPER' else 8  # its backward pass takes long
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        _shrink_loader(loader, clips)
    config.train_dataloader.batch_size = clips // 2
    _shrink_schedule(config)
    if config.model.cls_head.type == 'MATHead':
        config.model.cls_head.num_tokens = min(8, config.model.cls_head.num_tokens)
    return config


def _shrink_loader(loader: Config, count: int) -> None:
    loader.num_workers = 0
    if is_encoded(loader.dataset):
        loader.dataset.num_workers = 0
    clips = without_features(loader.dataset)
    clips.update(indices=count, serialize_data=False)
    if clips.type == 'SynthDFER':
        clips.update(num_train=NUM_TRAIN, num_test=NUM_TEST)
    if clips.get('num_views'):
        clips.num_views = 1
    for transform in clips.pipeline:
        match transform.type:
            case 'MultiScaleCrop':
                transform.input_size = 64
            case 'CenterCrop':
                transform.crop_size = 64
            case 'PillowResize' | 'PillowRandomSizedCrop':
                transform.size = 64
            case 'Resize':
                transform.scale = (-1, 69) if transform.scale[0] == -1 else (64, 64)


def _shrink_schedule(config: Config) -> None:
    for hook in config.get('custom_hooks', []):
        if hook.type == 'BAPHook':
            for stage in hook.stages:
                stage.update(epochs=1)
                if stage.get('grows_at'):
                    stage.grows_at = [0] * len(stage.grows_at)
        else:
            hook.num_workers = 0
    if config.train_cfg.type == 'EpochBasedTrainLoop':
        config.train_cfg.max_epochs = min(1, config.train_cfg.max_epochs)
    config.train_cfg.val_interval = max(1, last_epoch(config))
    for scheduler in config.get('param_scheduler', []):
        if 'T_max' in scheduler:
            scheduler.T_max = 1
    config.default_hooks.report.baselines = False


@pytest.mark.parametrize('name', [*CONFIGS, *ABLATIONS])
def test_a_config_trains_what_it_says_and_tests(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(name, data, monkeypatch)
    config.work_dir = str(tmp_path)
    runner = build_runner(config)
    runner.register_hook(observer := Observer())
    warnings: list[str] = []
    monkeypatch.setattr(runner.logger, 'warning', warnings.append)
    runner.train()
    # Each parameter belongs to a stage, and each level is loaded.
    assert not [line for line in warnings if 'no stage trains' in line or 'is not trained' in line]
    epochs = last_epoch(config)
    assert runner.iter == 2 * epochs
    method, dataset = re.fullmatch(r'.*/(.*)_(synth|dfew|ferv39k|mafw)', name).groups()
    changed = observer.changed(0, epochs) if epochs else set()
    parameters = {n for n, _ in runner.model.named_parameters()}
    learned = LEARNED.get(method, FINE_CLIPER if method.startswith('fine_cliper') else BY_BAP)
    assert all(any(n.startswith(part) for part in learned) for n in changed & parameters)
    assert all(any(n.startswith(part) for n in changed) for part in learned)

    report = json.loads((tmp_path / 'report.json').read_text())
    assert report['last']['epoch'] == epochs
    tree = 'synth' if dataset == 'synth' else f'synthetic tree like {DATASET[dataset]}'
    assert report['dataset'] == tree
    assert runner.test()['WAR'] == pytest.approx(report['last']['WAR'])
    names = DATASETS.build(config.test_dataloader.dataset).metainfo['classes']
    assert runner.model.cls_head.classes == tuple(names)
    assert tuple(config.classes) == tuple(names) and config.num_classes == len(names)
    if method == 'clip_zero_shot':
        (checkpoint,) = tmp_path.glob('*.pth')  # the file that tools/test.py reads
        assert checkpoint.name == 'best_WAR_epoch_0.pth'


def test_mat_and_jas_train_on_one_level(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small('ablations/fine_cliper_mat_jas_synth', data, monkeypatch)
    config.work_dir, config.model.levels = str(tmp_path), ['frames']
    runner = build_runner(config)
    runner.train()
    assert runner.iter == 2


def test_each_step_of_cliper_trains_its_tower_or_its_texts(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small('cliper/cliper_synth', data, monkeypatch)
    config.work_dir = str(tmp_path)
    runner = build_runner(config)
    runner.register_hook(observer := Observer())
    runner.train()
    assert observer.changed(0, 1) == {'cls_head.tokens'}
    images = observer.changed(1, 2)
    assert images and all(n.startswith('backbone.clip.visual.') for n in images)


@pytest.mark.parametrize('dataset', ['dfew', 'ferv39k', 'mafw'])
def test_dfer_clips_rates_are_the_papers(
    dataset: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(f'dfer_clip/dfer_clip_{dataset}', data, monkeypatch)
    model = MODELS.build(config.model)
    optimizer = build_optim_wrapper(model, config.optim_wrapper).optimizer
    names = {id(p): n for n, p in model.named_parameters()}
    rates = {names[id(p)]: group['lr'] for group in optimizer.param_groups for p in group['params']}
    papers = {'backbone.clip.visual.': 1e-5, 'neck.': 1e-2, 'cls_head.': 1e-3}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (rate,) = [rate for part, rate in papers.items() if name.startswith(part)]
            assert math.isclose(rates[name], rate), name
    shipped = Config.fromfile(ROOT / 'configs' / 'dfer_clip' / f'dfer_clip_{dataset}.py')
    assert shipped.train_dataloader.batch_size == 48 and shipped.train_cfg.max_epochs == 50
    assert shipped.param_scheduler[0].milestones == [30, 40]
    assert shipped.optim_wrapper.optimizer == dict(
        type='SGD', lr=1e-2, momentum=0.9, weight_decay=1e-4
    )


@pytest.mark.parametrize('name', ABLATIONS)
def test_an_ablation_differs_from_its_method(name: str) -> None:
    is_fine_cliper, dataset = 'fine_cliper' in name, name.rpartition('_')[2]
    base = f'fine_cliper/fine_cliper_{dataset}' if is_fine_cliper else 'align_dfer_synth'
    whole, ablated = (Config.fromfile(ROOT / 'configs' / f'{n}.py').to_dict() for n in (base, name))
    keys = {'model', 'custom_hooks', 'param_scheduler'}
    if 'captions' in name:  # the only ablation of the test
        keys = {'test_pipeline', 'val_dataloader', 'test_dataloader'}
    if 'mat_jas' in name:  # JAS has a rate of its own
        del ablated['optim_wrapper']['paramwise_cfg']['custom_keys']['neck.joint_encoder.']
    assert any(whole[key] != ablated[key] for key in keys & whole.keys())
    assert all(whole[k] == ablated[k] for k in whole if k not in (*keys, 'stages', 'epochs'))


def test_adapters_are_compared_at_equal_parameters() -> None:
    counts = {}
    for name in (
        'fine_cliper/fine_cliper',
        'ablations/fine_cliper_lora',
        'ablations/fine_cliper_fru',
    ):
        model = Config.fromfile(ROOT / 'configs' / f'{name}_synth.py').model
        model.backbone.weights = 'random'
        adapter = MODELS.build(model).backbone.adapter
        counts[type(adapter).__name__] = sum(p.numel() for p in adapter.parameters())
    assert len(counts) == 3
    for count in counts.values():
        assert count == pytest.approx(counts['AIMAdapter'], rel=0.01)
