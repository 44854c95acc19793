"""Recognizers that classify the windows of a film, with each frame encoded once if possible."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate

from mmaction.apis import init_recognizer
from mmaction.models import BaseRecognizer

from mmdfer.errors import DFERError
from mmdfer.features.dataset_config import without_features
from mmdfer.inference import build_clip_model
from mmdfer.inference.clip_model import read_window

FRAMES = 21
ONCE = [
    'align_dfer_synth',
    'dfer_clip/dfer_clip_synth',
    'resnet18_lstm/resnet18_lstm_synth',
    'tsn/tsn_synth',
]
WINDOWS = ['tsm/tsm_synth', 'r3d18/r3d18_synth', 'former_dfer/former_dfer_synth']


def build(name: str) -> tuple[BaseRecognizer, list[dict]]:
    """Build the recognizer of a shipped config with random weights, and return its pipeline."""
    torch.manual_seed(0)
    config = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    config.load_from = None
    model = init_recognizer(config, None, 'cpu')
    if hasattr(model.cls_head, 'set_classes') and getattr(model.cls_head, 'classes', None) is None:
        model.cls_head.set_classes(tuple('abcdefg'))
    return model, list(without_features(config.test_dataloader.dataset).pipeline)


def reference(model: BaseRecognizer, pipeline: list[dict], crops: list[np.ndarray]) -> torch.Tensor:
    """Return the probabilities of one window by MMAction2's own test step."""
    names = [transform['type'] for transform in pipeline]
    sampler = next(t for t in pipeline if 'Sample' in t['type'])
    after = pipeline[max(i for i, name in enumerate(names) if name.endswith('Decode')) + 1 :]
    size = crops[0].shape[:2]
    results = dict(
        imgs=crops,
        clip_len=sampler.get('clip_len', 1),
        num_clips=sampler.get('num_clips', 1),
        img_shape=size,
        original_shape=size,
        label=0,
        modality='RGB',
    )
    (sample,) = model.test_step(pseudo_collate([Compose(after)(results)]))
    return sample.pred_score


@pytest.mark.parametrize('name', ONCE + WINDOWS)
def test_windows_score_as_in_testing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, pipeline = build(name)
    clips = build_clip_model(model, pipeline)
    assert clips.window == 16 and clips.encodes_frames == (name in ONCE)
    seen: list[int] = []
    count_images(model, seen)
    rng = np.random.default_rng(0)
    crops = list(rng.integers(256, size=(FRAMES, 80, 80, 3), dtype=np.uint8))
    encoded = clips.encode(crops[:10]) + clips.encode(crops[10:])
    windows = [list(range(16)), list(range(5, 21)), [i * 8 // 16 for i in range(16)]]
    scores = clips.classify([[encoded[i] for i in window] for window in windows])
    if name in ONCE:
        assert sum(seen) == FRAMES
    for window, score in zip(windows, scores, strict=True):
        expected = reference(model, pipeline, [crops[i] for i in window])
        torch.testing.assert_close(score, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(scores[0], scores[1], atol=1e-6)


@pytest.mark.parametrize(
    ('name', 'window'),
    [
        ('align_dfer_dfew', (1, 16)),
        ('dfer_clip/dfer_clip_mafw', (1, 16)),
        ('former_dfer/former_dfer_dfew', (1, 16)),
        ('ial/ial_ferv39k', (1, 16)),
        ('freq_hd/freq_hd_dfew', (1, 16)),
        ('tsn/tsn_dfew', (1, 16)),
    ],
)
def test_the_window_is_that_of_testing(name: str, window: tuple[int, int]) -> None:
    config = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    pipeline = without_features(config.test_dataloader.dataset)['pipeline']
    (sampler,) = (transform for transform in pipeline if 'Sample' in transform['type'])
    assert read_window(sampler) == window


def test_several_clips_of_a_clip_method_are_views() -> None:
    model, pipeline = build('align_dfer_synth')
    pipeline = [dict(step, num_clips=2) if 'Sample' in step['type'] else step for step in pipeline]
    assert build_clip_model(model, pipeline).window == 16


def count_images(model: BaseRecognizer, seen: list[int]) -> None:
    """Add the number of images of each pass through the backbone to a list."""

    def count(_: torch.nn.Module, inputs: tuple) -> None:
        x = inputs[0]  # (N, 3, T, H, W) or (N, 3, H, W)
        seen.append(len(x) * (x.shape[2] if x.ndim == 5 else 1))

    model.backbone.register_forward_pre_hook(count)


def test_a_pipeline_without_decoding_is_refused() -> None:
    model, _ = build('align_dfer_synth')
    with pytest.raises(DFERError, match='test_pipeline: .* SampleFrames'):
        build_clip_model(model, [dict(type='SampleFrames', clip_len=16)])
