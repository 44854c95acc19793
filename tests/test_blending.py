"""Test MixUp and CutMix: text heads train on mixed frames, and encoded vectors are refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from torch import Tensor

from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample

from mmdfer.cli import train
from mmdfer.datasets import DFERDataset
from mmdfer.engine.runner.build import build_runner
from mmdfer.errors import DFERError
from mmdfer.features import EncodedClips
from mmdfer.models import CLIPRecognizer

SEVEN = ('happiness', 'sadness', 'neutral', 'anger', 'surprise', 'disgust', 'fear')
MIXUP = dict(type='MixupBlending', num_classes=7, alpha=1.0)
CUTMIX = dict(type='CutmixBlending', num_classes=7, alpha=1.0)
BLENDINGS = dict(
    mixup=MIXUP,
    cutmix=CUTMIX,
    either=dict(type='RandomBatchAugment', augments=[MIXUP, CUTMIX], probs=[0.4, 0.3]),
)
HEADS = {
    'MATHead': dict(num_sentences=2, num_tokens=4),
    'CoOpHead': dict(num_tokens=4),
    'CoCoOpHead': dict(num_tokens=4),
    'DFERCLIPHead': dict(num_tokens=4),
    'TwoSidedHead': dict(num_tokens=4),
}


class OneClip(DFERDataset):
    """Provide one clip without a file."""

    METAINFO = dict(classes=SEVEN)

    def load_data_list(self) -> list[dict]:
        return [dict(filename='a.mp4', label=0, clip='a')]


def _recognizer(head: str, blending: dict) -> CLIPRecognizer:
    names = dict(num_classes=7) if head == 'MATHead' else dict(classes=SEVEN)
    return MODELS.build(
        dict(
            type='CLIPRecognizer',
            backbone=dict(type='FrozenCLIP', arch='synth-clip'),
            cls_head=dict(type=head, **names, **HEADS[head]),
            data_preprocessor=dict(type='CLIPDataPreprocessor', blending=blending),
        )
    )


def _batch(size: int) -> dict:
    draw = torch.Generator().manual_seed(size)
    frames = [torch.randint(0, 255, (1, 3, 2, 64, 64), generator=draw) for _ in range(size)]
    samples = [ActionDataSample().set_gt_label(label) for label in range(size)]
    return dict(inputs=[clip.byte() for clip in frames], data_samples=samples)


def _seed() -> None:
    torch.manual_seed(3)
    np.random.seed(0)


@pytest.mark.parametrize('size', [4, 1])
@pytest.mark.parametrize('head', HEADS)
@pytest.mark.parametrize('blending', BLENDINGS)
def test_text_heads_train_on_mixed_frames(blending: str, head: str, size: int) -> None:
    model = _recognizer(head, BLENDINGS[blending]).train()
    _seed()
    mixed = model.data_preprocessor(_batch(size), training=True)
    targets = torch.stack([s.gt_label for s in mixed['data_samples']]).float()  # (B, 7)
    assert torch.allclose(targets.sum(1), torch.ones(size))
    with torch.no_grad():
        logits = model(mixed['inputs'], mode='tensor', stage='head')
    expected = -(targets * logits.log_softmax(1)).sum(1).mean()  # the cross-entropy by hand

    _seed()
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    wrapper = build_optim_wrapper(model, dict(optimizer=dict(type='SGD', lr=1.0)))
    loss = model.train_step(_batch(size), wrapper)['loss']
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-4, abs=1e-6)
    assert any(not torch.equal(p, before[n]) for n, p in model.named_parameters() if n in before)


def test_frames_and_labels_are_mixed_by_the_same_share() -> None:
    part = _recognizer('CoOpHead', MIXUP).data_preprocessor
    plain = part(_batch(2))  # nothing is mixed in testing
    assert [int(s.gt_label) for s in plain['data_samples']] == [0, 1]
    for seed in range(20):
        torch.manual_seed(seed)
        mixed = part(_batch(2), training=True)
        share = mixed['data_samples'][0].gt_label[0]
        if share < 1:  # the first clip is mixed with the second
            break
    frames: Tensor = share * plain['inputs'][0] + (1 - share) * plain['inputs'][1]
    assert torch.allclose(mixed['inputs'][0], frames, atol=1e-5)


def test_a_config_is_built_twice() -> None:
    blending = copy.deepcopy(BLENDINGS['either'])
    for _ in range(2):
        _recognizer('CoOpHead', blending)
    assert blending == BLENDINGS['either']


@pytest.mark.parametrize('classes', [6, 11])
def test_another_number_of_classes_is_refused(classes: int) -> None:
    with pytest.raises(DFERError, match=f'blending has num_classes={classes}, but the head has 7'):
        _recognizer('CoOpHead', dict(MIXUP, num_classes=classes))


@pytest.mark.parametrize('blending', BLENDINGS)
def test_encoded_vectors_are_not_mixed(blending: str) -> None:
    model = _recognizer('CoOpHead', BLENDINGS[blending])
    samples = [ActionDataSample().set_gt_label(label) for label in range(2)]
    batch = dict(features=list(torch.randn(2, 1, 4, 128)), data_samples=samples)
    assert model.data_preprocessor(dict(batch))['features'].shape == (2, 1, 4, 128)  # testing
    with pytest.raises(DFERError, match='remove EncodedClips from train_dataloader'):
        model.data_preprocessor(batch, training=True)
    encoder = dict(data_preprocessor=dict(blending=BLENDINGS[blending]))
    pipeline = [dict(type='PackActionInputs')]
    with pytest.raises(DFERError, match='blending mixes frames'):  # before anything is encoded
        EncodedClips(OneClip('', pipeline, num_views=1), encoder)
    EncodedClips(OneClip('', pipeline, test_mode=True), encoder)


def test_train_py_refuses_before_the_data_are_read(
    small_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config()
    config.model.data_preprocessor = dict(type='CLIPDataPreprocessor', blending=MIXUP)
    monkeypatch.setattr(Config, 'pretty_text', property(lambda _: ''))
    monkeypatch.setattr(Runner, 'build_dataloader', lambda *_, **__: pytest.fail('data were read'))
    with pytest.raises(DFERError, match='blending mixes frames'):
        train.check_stages(build_runner(config))
