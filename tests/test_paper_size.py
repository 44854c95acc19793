"""Test checkpoints of Align-DFER with ViT-B/32 at the paper's size: file size and results."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import NUM_TRAIN, ROOT, small_options
from forked import run_forked
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, load_checkpoint

from mmaction.registry import MODELS

from mmdfer import DFERError
from mmdfer.engine.runner.build import build_runner
from mmdfer.features import EncodedClips
from mmdfer.features.encoder import shared_encoder
from mmdfer.models import FrameFeatures

MB = 1e6


def _draw_features(dataset: EncodedClips) -> None:
    """Draw random features of the right shape, in place of encoded ones."""
    if dataset._features is None:
        dataset.features = torch.randn(len(dataset), dataset.dataset.num_views or 1, 1, 16, 512)
        dataset._digest = shared_encoder(dataset.encoder).digest


@pytest.fixture(scope='module')
def run(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """Train one step in each stage with S = 16 and T = 64, on random frame vectors."""
    init_default_scope('mmaction')
    config = Config.fromfile(ROOT / 'configs' / 'align_dfer_synth.py')
    options = small_options(data_root)
    for stage in range(3):
        options[f'custom_hooks.0.stages.{stage}.epochs'] = 1
    options |= {
        'custom_hooks.0.stages.1.grows_at': [0, 0, 0, 0],
        'custom_hooks.0.stages.2.grows_at': [0, 0],
        'train_cfg.val_interval': 3,
        'train_dataloader.batch_size': NUM_TRAIN,
        'optim_wrapper.type': 'AutocastOptimWrapper',  # takes half the time; the state is float32
        'model.cls_head.num_sentences': 16,
        'model.cls_head.num_tokens': 64,
        'model.backbone': dict(type='FrozenCLIP', arch='ViT-B-32-quickgelu', weights='random'),
        'default_hooks.checkpoint.max_keep_ckpts': -1,
        'work_dir': str(tmp_path_factory.mktemp('vit')),
    }
    config.merge_from_dict(options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EncodedClips, 'full_init', _draw_features)
        runner = build_runner(config)
        runner.train()
    return runner


def test_a_checkpoint_with_optimizer_is_under_220_mb(run: Runner, record_property) -> None:
    sizes = [(Path(run.work_dir) / f'epoch_{e}.pth').stat().st_size / MB for e in (1, 2, 3)]
    record_property('checkpoint after each stage, MB', [round(size, 1) for size in sizes])
    assert max(sizes) < 220
    assert min(sizes) > 100  # the optimizer's momentum is in it


def test_published_is_under_70_mb_and_predicts_the_same_bits(run: Runner, record_property) -> None:
    trained, out = Path(run.work_dir) / 'epoch_3.pth', Path(run.work_dir) / 'published.pth'
    done = run_forked([ROOT / 'tools' / 'publish_model.py', trained, out])
    assert done.returncode == 0, done.stderr
    (published,) = out.parent.glob('published*.pth')
    record_property('published, MB', round(published.stat().st_size / MB, 1))
    assert published.stat().st_size < 70 * MB
    inputs = FrameFeatures(torch.randn(2, 1, 16, 512))
    init_default_scope('mmaction')
    logits = []
    for path in (trained, published):
        model = MODELS.build(run.cfg.model).eval()
        load_checkpoint(model, str(path), map_location='cpu')
        with torch.no_grad():
            logits.append(model(inputs, stage='head'))
    with torch.no_grad():
        logits.append(run.model.eval()(inputs, stage='head'))
    assert torch.equal(logits[0], logits[1]) and torch.equal(logits[0], logits[2])


def test_a_checkpoint_of_another_clip_is_refused_by_name(run: Runner) -> None:
    config = dict(run.cfg.model, backbone=dict(type='FrozenCLIP', arch='synth-clip'))
    with pytest.raises(DFERError, match="'ViT-B-32-quickgelu'.*'synth-clip'"):
        load_checkpoint(MODELS.build(config), str(Path(run.work_dir) / 'epoch_3.pth'))
