"""Test the temporal necks: parity with torch, numbers by hand, and 16 clips to 100 %."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from mixed import PictureClips, accuracy, batch, make_runner, settle, shipped
from reference import affine, stretch, unbiased_layer, under
from references import dfer_clip as reference
from test_mixed import CLIP, CLIPS, FROZEN, assert_same, inputs, probabilities, weights
from torch import Tensor, nn

from mmaction.registry import MODELS

from mmdfer import DFERError
from mmdfer.models import CLIPRecognizer, GRUNeck, LSTMNeck, TemporalTransformer

NECKS = ['TemporalTransformer', 'LSTMNeck', 'GRUNeck']
FRAMES = torch.randn(3, 7, 24, generator=torch.Generator().manual_seed(5))  # (N, T, D)


def redraw(module: nn.Module) -> nn.Module:
    """Draw all weights widely, so that attention is uneven and the order has an effect."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


# ------------------------------------------------------------------------ parity


def run_cells(cell: type[nn.Module], state: dict[str, Tensor], suffix: str, x: Tensor) -> Tensor:
    """Run one layer in one direction step by step, (N, T, I) -> states (N, T, H)."""
    names = ('weight_ih', 'weight_hh', 'bias_ih', 'bias_hh')
    copied = {name: state[f'{name}_{suffix}'] for name in names}
    step = cell(x.shape[2], copied['weight_hh'].shape[1])
    step.load_state_dict(copied)
    now, states = None, []
    for t in range(x.shape[1]):
        now = step(x[:, t], now)
        states.append(now[0] if isinstance(now, tuple) else now)
    return torch.stack(states, 1)


def recurrent_by_hand(cell: type[nn.Module], state: dict[str, Tensor], x: Tensor) -> Tensor:
    """Run all layers and directions, and return the last states (N, H * directions)."""
    both = any(name.endswith('_reverse') for name in state)
    layers = sum(name.startswith('weight_ih') for name in state) // (1 + both)
    for layer in range(layers):
        forth = run_cells(cell, state, f'l{layer}', x)
        if not both:
            x, last = forth, forth[:, -1]
            continue
        back = run_cells(cell, state, f'l{layer}_reverse', x.flip(1))
        x, last = torch.cat([forth, back.flip(1)], 2), torch.cat([forth[:, -1], back[:, -1]], 1)
    return last


@pytest.mark.parametrize(('neck', 'cell'), [(LSTMNeck, nn.LSTMCell), (GRUNeck, nn.GRUCell)])
@pytest.mark.parametrize(
    'options',
    [{}, dict(layers=2), dict(bidirectional=True), dict(hidden=10, layers=3, bidirectional=True)],
)
def test_recurrent_necks_equal_torch_cell_by_cell(neck, cell, options: dict[str, Any]) -> None:
    model = neck(24, **options)
    expected = recurrent_by_hand(cell, model.recurrent.state_dict(), FRAMES)
    if 'hidden' in options:
        assert expected.shape == (3, 20)
        expected = affine(expected, model.state_dict(), 'out')
    vectors, losses = model(FRAMES)
    assert vectors.shape == (3, 24)
    assert losses == {}
    torch.testing.assert_close(vectors, expected)
    assert (
        model(FRAMES.flip(1))[0] - vectors
    ).abs().max() > 1e-2  # the order of the frames matters


def transformer_by_hand(state: dict[str, Tensor], frames: Tensor, heads: int) -> Tensor:
    """Compute the transformer by the plain algebra of reference.py, (N, T, D) -> (N, D)."""
    token = (state['class_token'] + state['class_position']).expand(len(frames), 1, -1)
    x = torch.cat([token, frames + stretch(state['position'], frames.shape[1])], 1)
    for layer in (
        under(state, f'layers.{i}.') for i in range(3) if f'layers.{i}.norm1.bias' in state
    ):
        x = unbiased_layer(x, layer, heads)
    return x[:, 0]


@pytest.mark.parametrize(('layers', 'learned'), [(1, 7), (2, 7), (3, 16)])
@pytest.mark.parametrize('train', [True, False])
def test_temporal_transformer_equals_plain_algebra(layers: int, learned: int, train: bool) -> None:
    model = TemporalTransformer(24, depth=layers, heads=3, mlp=40, num_frames=learned).train(train)
    redraw(model)
    with torch.set_grad_enabled(
        train
    ):  # torch uses other code in evaluation mode without gradients
        expected = transformer_by_hand(weights(model), FRAMES, heads=3)
        vectors, losses = model(FRAMES)
    assert vectors.shape == (3, 24)
    assert losses == {}
    torch.testing.assert_close(vectors, expected, rtol=1e-4, atol=1e-5)
    assert (model(FRAMES.flip(1))[0] - vectors).abs().max() > 1e-2


def test_temporal_transformer_equals_dfer_clips_code() -> None:
    """Compare on copied weights with a reference written from the authors' code only."""
    state = reference.temporal_state(32, layers=2, heads=4, head=8, mlp=48, frames=7)
    model = TemporalTransformer(32, depth=2, heads=4, mlp=48, num_frames=7)
    assert 0.7 < torch.cat([model.position.flatten(), model.class_token]).std() < 1.3
    ours = dict(
        class_token=state['cls_token'].flatten(),
        class_position=state['pos_embedding'][0, 0],
        position=state['pos_embedding'][0, 1:],
    )
    for name in model.state_dict():
        if name.startswith('layers.'):
            ours[name] = state[reference.authors_name(name)]
    model.load_state_dict(ours)
    frames = 3 * torch.randn(5, 7, 32)  # not normalised
    theirs = reference.temporal(frames, state, heads=4)
    torch.testing.assert_close(model(frames)[0], theirs, rtol=1e-4, atol=1e-4)


def test_the_size_of_dfer_clips_transformer_is_the_default() -> None:
    """Count one layer (width 512, MLP 1024), 16 positions, and a class token with a position."""
    d, mlp = 512, 1024
    layer = 3 * d * d + d * (d + 1) + 2 * d * mlp + mlp + d + 2 * 2 * d
    assert sum(p.numel() for p in TemporalTransformer(d).parameters()) == layer + (17 + 1) * d


def test_vgg13_equals_torchvisions() -> None:
    ours = MODELS.build(dict(type='VGG', depth=13)).eval()
    theirs = torchvision.models.vgg13().eval()
    ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if k.startswith('features')})
    x = torch.randn(2, 3, 32, 64)
    with torch.no_grad():
        fourth, fifth = ours(x)
        torch.testing.assert_close(fourth, theirs.features[:20](x))
        torch.testing.assert_close(fifth, theirs.features(x))
    assert fifth.shape == (2, 512, 1, 2)


# -------------------------------------------------------- under MMAction2's recognizers


def with_neck(kind: str, neck: dict[str, Any], **options: Any) -> nn.Module:
    """Build MMAction2's TSN or SlowOnly of 18 layers, with a neck of width 128."""
    widths = {'cls_head.in_channels': 128, 'cls_head.dropout_ratio': 0.0}
    resnet = {'backbone.depth': 18, 'backbone.out_indices': (2, 3)}
    neck = dict(dims=128, **neck)
    return MODELS.build(shipped(f'{kind}_r50', neck=neck, **widths, **resnet, **options))


def by_hand(neck: nn.Module, frames: Tensor) -> Tensor:
    """Compute a neck with default options by hand, (clips, T, D) -> (clips, D)."""
    if isinstance(neck, TemporalTransformer):
        return transformer_by_hand(weights(neck), frames, heads=8)
    cell = nn.LSTM if isinstance(neck, LSTMNeck) else nn.GRU
    torchs = cell(128, 128, batch_first=True)
    return torch.func.functional_call(torchs, weights(neck.recurrent), frames)[0][:, -1]


@pytest.mark.parametrize(
    ('name', 'kind', 'index', 'channels'),
    [*((name, 'tsn', -1, 512) for name in NECKS), ('TemporalTransformer', 'slowonly', 0, 256)],
)
def test_necks_under_recognizers_equal_numbers_by_hand(name, kind, index, channels) -> None:
    layout = 'NCHW' if kind == 'tsn' else 'NCTHW'
    dataset = PictureClips('order', frames=6, size=(32, 64), layout=layout)
    neck = dict(type=name, in_channels=channels, in_index=index)
    model = settle(with_neck(kind, neck), dataset).eval()
    redraw(model.neck)
    x = inputs(model, dataset)
    level = model(x, stage='backbone')[index]
    if kind == 'tsn':
        level = level.view(CLIPS, 6, *level.shape[1:]).transpose(1, 2)
    assert level.shape[:3] == (CLIPS, channels, 6)
    frames = affine(level.mean((3, 4)).permute(0, 2, 1), weights(model.neck), 'projection')
    logits = affine(by_hand(model.neck, frames), weights(model), 'cls_head.fc_cls')
    assert_same(model, model(x, stage='head'), logits)
    torch.testing.assert_close(
        probabilities(model, dataset), logits.softmax(1), rtol=1e-3, atol=1e-4
    )


def test_maps_of_the_necks_own_width_need_no_mapping() -> None:
    neck = LSTMNeck(dims=512)
    maps = torch.randn(2, 512, 4, 2, 3)
    torch.testing.assert_close(neck(maps)[0].flatten(1), neck(maps.mean((3, 4)).mT)[0])
    with pytest.raises(DFERError, match='LSTMNeck: .*set in_channels=256'):
        neck(torch.randn(2, 256, 4, 2, 3))


@pytest.mark.parametrize('name', NECKS)
def test_necks_learn_the_order_of_frames(name: str, tmp_path: Path) -> None:
    """Learn eight clips and their reverses with a frozen ResNet that reads single frames."""
    dataset = dict(kind='order', frames=6)
    options = {**FROZEN, 'cls_head.num_classes': 2}
    model = settle(
        with_neck('tsn', dict(type=name, in_channels=512), **options), PictureClips(**dataset)
    )
    optimizer = dict(
        optimizer=dict(type='AdamW', lr=1e-3),
        paramwise_cfg=dict(custom_keys=dict(position=dict(lr_mult=20))),
        clip_grad=dict(max_norm=1),
    )
    runner = make_runner(model, dataset, tmp_path, optimizer, max_iters=30)
    assert accuracy(runner) < 1
    runner.train()
    assert accuracy(runner) == 1


# ---------------------------------------------------------------- in CLIPRecognizer


@pytest.mark.parametrize('name', NECKS)
def test_necks_take_clips_width_and_average_sentences(name: str) -> None:
    head = dict(type='MATHead', num_classes=4, num_sentences=3, num_tokens=6)
    model = CLIPRecognizer(CLIP, head, neck=dict(type=name)).eval()
    sentences = torch.randn(4, 3, 128)
    torch.testing.assert_close(model.neck.text(sentences), sentences.sum(1) / 3)
    assert model.neck.text_side() == []
    dataset = PictureClips('order', frames=5, size=(64, 64), layout='NCTHW')
    data = model.data_preprocessor(batch(dataset, 2))
    loss = model(**data, mode='loss')['loss_cls']
    loss.backward()
    assert all(p.grad is not None for p in model.neck.parameters() if p.requires_grad)
    apart = probabilities(model, dataset, 2)  # a clip and its reverse
    assert (apart[0] - apart[1]).abs().max() > 1e-6


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(DFERError, match='heads=8 does not divide dims=100'):
        TemporalTransformer(100)


@pytest.mark.parametrize('name', NECKS)
def test_a_single_map_under_recognizer2d_is_refused(name: str) -> None:
    model = with_neck('tsn', dict(type=name, in_channels=512), **{'backbone.num_stages': 4})
    with pytest.raises(DFERError, match=f'{name}: .* two or more out_indices'):
        model.neck([torch.randn(4, 512, 1, 1)])
