"""Test the losses of IAL and EC-STFL by hand, by finite differences, and in recognizers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mixed import PictureClips, accuracy, batch, make_runner, settle, shipped
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample

from mmdfer import DFERError
from mmdfer.models import ExpressionClusteredLoss, ExpressionClusteredNeck, IntensityAwareLoss

CLIPS = 6


def samples(labels: Sequence[Any]) -> list[ActionDataSample]:
    return [ActionDataSample().set_gt_label(label) for label in labels]


def recognizer(kind: str, **options: Any) -> tuple[nn.Module, PictureClips]:
    """Build MMAction2's TSN ('tsn') or SlowOnly ('slowonly') of 18 layers, and clips for it."""
    layout = 'NCHW' if kind == 'tsn' else 'NCTHW'
    dataset = PictureClips(frames=4, layout=layout)
    config = shipped(
        f'{kind}_r50',
        **{'backbone.depth': 18, 'cls_head.in_channels': 512, 'cls_head.dropout_ratio': 0.0},
        **options,
    )
    return settle(MODELS.build(config), dataset), dataset


def compute_losses(
    model: nn.Module, dataset: PictureClips
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the losses of the first clips, and the preprocessed clips."""
    data = model.data_preprocessor(batch(dataset, CLIPS))
    return model(**data, mode='loss'), data


# ------------------------------------------------------------------------ IAL


def test_ial_equals_numbers_worked_out_by_hand() -> None:
    # First row: true class 2 against 1, the largest other logit. Second row: 0 against 3.
    logits = torch.tensor([[2.0, 1.0, -1.0], [0.0, -2.0, 3.0]])
    labels = torch.tensor([0, 0])
    entropy = [
        math.log(math.exp(2) + math.exp(1) + math.exp(-1)) - 2,
        math.log(1 + math.exp(-2) + math.exp(3)),
    ]
    pairs = [math.log(1 + math.exp(1 - 2)), math.log(1 + math.exp(3))]
    expected = sum(entropy) / 2 + 0.1 * sum(pairs) / 2
    assert float(IntensityAwareLoss()(logits, labels)) == pytest.approx(expected, rel=1e-6)
    double = IntensityAwareLoss(intensity_weight=0.4, loss_weight=2.0)
    expected = 2 * (sum(entropy) / 2 + 0.4 * sum(pairs) / 2)
    assert float(double(logits, labels)) == pytest.approx(expected, rel=1e-6)


def test_ial_is_the_cross_entropy_of_two_classes() -> None:
    logits, labels = torch.randn(40, 7), torch.randint(7, (40,))
    rows = []
    for row, label in zip(logits, labels.tolist()):
        others = [value for index, value in enumerate(row) if index != label]
        rows.append(torch.stack([row[label], max(others)]))
    two = F.cross_entropy(torch.stack(rows), torch.zeros(40, dtype=torch.long))
    expected = F.cross_entropy(logits, labels) + 0.1 * two
    torch.testing.assert_close(IntensityAwareLoss()(logits, labels), expected)


def test_ial_weighs_classes_in_the_cross_entropy_alone() -> None:
    logits, labels, weights = torch.randn(9, 3), torch.arange(9) % 3, [0.2, 1.0, 5.0]
    loss = IntensityAwareLoss(class_weight=weights)(logits, labels)
    bare = IntensityAwareLoss()(logits, labels) - F.cross_entropy(logits, labels)
    expected = F.cross_entropy(logits, labels, torch.tensor(weights)) + bare
    torch.testing.assert_close(loss, expected)


def test_ials_gradients_are_those_of_finite_differences() -> None:
    logits = torch.randn(5, 4, dtype=torch.double, requires_grad=True)
    labels = torch.tensor([0, 3, 1, 1, 2])
    assert torch.autograd.gradcheck(lambda x: IntensityAwareLoss()(x, labels), logits)
    # With logits far apart, the loss does not overflow and the gradient is kept.
    far = torch.tensor([[-900.0, 900.0]], requires_grad=True)
    IntensityAwareLoss()(far, torch.tensor([0])).backward()
    torch.testing.assert_close(far.grad, torch.tensor([[-1.1, 1.1]]))


def test_ial_refuses_soft_labels() -> None:
    with pytest.raises(DFERError, match='label_smooth_eps=0') as error:
        IntensityAwareLoss()(torch.randn(2, 3), torch.full((2, 3), 1 / 3))
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('kind', ['tsn', 'slowonly'])
def test_ial_in_a_head_of_mmaction2(kind: str) -> None:
    loss_cls = dict(type='IntensityAwareLoss', intensity_weight=0.3)
    model, dataset = recognizer(kind, **{'cls_head.loss_cls': loss_cls})
    losses, data = compute_losses(model, dataset)
    logits = model(data['inputs'], stage='head')
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    true = logits[torch.arange(CLIPS), labels]
    others = logits.masked_fill(F.one_hot(labels, 4).bool(), -torch.inf).amax(1)
    expected = F.cross_entropy(logits, labels) + 0.3 * (1 + (others - true).exp()).log().mean()
    torch.testing.assert_close(losses['loss_cls'], expected)
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-4))
    model.train_step(batch(dataset, CLIPS), optimizer)
    assert compute_losses(model, dataset)[0]['loss_cls'] < losses['loss_cls']


def test_ial_in_a_text_head() -> None:
    head = dict(type='MATHead', num_classes=4, num_sentences=2, num_tokens=4)
    clip = dict(type='FrozenCLIP', arch='synth-clip')
    dataset = PictureClips(frames=2, size=(64, 64), layout='NCTHW')
    logged = []
    for loss_cls in (dict(type='CrossEntropyLoss'), dict(type='IntensityAwareLoss')):
        torch.manual_seed(0)
        model = MODELS.build(
            dict(type='CLIPRecognizer', backbone=clip, cls_head=dict(head, loss_cls=loss_cls))
        )
        losses, data = compute_losses(model.eval(), dataset)
        logged.append(losses['loss_cls'])
    logits = model(data['inputs'], stage='head')
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    true = logits[torch.arange(CLIPS), labels]
    others = logits.masked_fill(F.one_hot(labels, 4).bool(), -torch.inf).amax(1)
    torch.testing.assert_close(logged[1] - logged[0], 0.1 * F.softplus(others - true).mean())


# --------------------------------------------------------------------- EC-STFL


def test_ec_equals_numbers_worked_out_by_hand() -> None:
    # The sums of the coordinates are 0 and 3 (class 0) and 10 (class 1): L1 distances 3, 10, 7.
    features = torch.tensor([[0.0, 0.0], [1.0, 2.0], [4.0, 6.0]])
    labels = torch.tensor([0, 0, 1])
    near = [(0 + 3) / 2, (0 + 3) / 2, 0 / 1]
    far = [(1 / 10) / 2, (1 / 7) / 2, (1 / 10 + 1 / 7) / 3]
    expected = sum(a * b for a, b in zip(near, far)) / 9
    loss = ExpressionClusteredLoss(loss_weight=1.0)(features, labels)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(ExpressionClusteredLoss()(features, labels)) == pytest.approx(10 * expected, 1e-5)


def test_ec_equals_loops_over_pairs() -> None:
    features, labels = torch.randn(11, 5), torch.randint(3, (11,))
    total = 0.0
    for i in range(11):
        distances = [float((features[i] - features[j]).abs().sum()) for j in range(11)]
        own = [d for j, d in enumerate(distances) if labels[j] == labels[i]]
        others = [1 / d for j, d in enumerate(distances) if labels[j] != labels[i]]
        total += sum(own) / len(own) * sum(others) / (len(others) + 1)
    loss = ExpressionClusteredLoss(loss_weight=1.0)(features, labels)
    assert float(loss) == pytest.approx(total / 11**2, rel=1e-4)


def test_ec_does_not_depend_on_the_features_scale_and_is_zero_without_pairs() -> None:
    features, labels = torch.randn(8, 5), torch.arange(8) % 3
    loss = ExpressionClusteredLoss()
    torch.testing.assert_close(loss(1000 * features, labels), loss(features, labels))
    assert loss(features, torch.arange(8)) == 0  # no two clips of one class
    assert loss(features, torch.zeros(8)) == 0  # no two clips of different classes
    assert loss(features[:1], labels[:1]) == 0


def test_ecs_gradients_are_those_of_finite_differences() -> None:
    features = torch.randn(6, 3, dtype=torch.double, requires_grad=True)
    labels = torch.tensor([0, 1, 0, 2, 1, 0])
    assert torch.autograd.gradcheck(lambda x: ExpressionClusteredLoss()(x, labels), features)


def test_ec_stays_finite_where_clips_of_different_classes_coincide() -> None:
    features = torch.zeros(4, 3, requires_grad=True)
    ExpressionClusteredLoss()(features, torch.tensor([0, 0, 1, 1])).backward()
    assert torch.isfinite(features.grad).all()


def test_ec_gathers_classes_by_gradient_descent() -> None:
    features, labels = torch.randn(12, 4, requires_grad=True), torch.arange(12) % 3
    optimizer = torch.optim.Adam([features], lr=0.02)

    def spread() -> float:
        """Return the mean distance within classes divided by that between classes."""
        distance = torch.cdist(features.detach(), features.detach())
        same = labels[:, None] == labels
        return float(distance[same].mean() / distance[~same].mean())

    before = spread()
    for _ in range(150):
        optimizer.zero_grad()
        ExpressionClusteredLoss()(features, labels).backward()
        optimizer.step()
    assert spread() < 0.3 * before


@pytest.mark.parametrize(
    ('kind', 'levels'), [('slowonly', (3,)), ('slowonly', (2, 3)), ('tsn', (2, 3))]
)
def test_the_neck_clusters_what_the_head_sees(kind: str, levels: Sequence[int]) -> None:
    neck = dict(type='ExpressionClusteredNeck')
    model, dataset = recognizer(kind, neck=neck, **{'backbone.out_indices': levels})
    losses, data = compute_losses(model, dataset)
    maps = model(data['inputs'], stage='backbone')
    maps = maps if isinstance(maps, Tensor) else maps[-1]
    if kind == 'tsn':  # (clips * T, C, h, w)
        vectors = maps.view(CLIPS, 4, *maps.shape[1:]).mean((1, 3, 4))
    else:  # (clips, C, T, h, w)
        vectors = maps.mean((2, 3, 4))
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    expected = ExpressionClusteredLoss()(vectors, labels)
    assert expected > 0
    torch.testing.assert_close(losses['loss_ec'], expected, rtol=1e-4, atol=1e-6)
    logits = model.cls_head.fc_cls(vectors)
    torch.testing.assert_close(model(data['inputs'], stage='head'), logits, rtol=1e-4, atol=1e-5)
    assert torch.isclose(losses['loss_cls'], F.cross_entropy(logits, labels), rtol=1e-4)
    total, logged = model.parse_losses(losses)
    torch.testing.assert_close(total, losses['loss_cls'] + losses['loss_ec'])
    assert 'loss_ec' in logged
    scores = torch.stack([s.pred_score for s in model.test_step(batch(dataset, CLIPS))])
    torch.testing.assert_close(scores, logits.softmax(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('kind', ['tsn', 'slowonly'])
def test_a_neck_inside_the_neck_is_clustered_and_learned(kind: str, tmp_path: Path) -> None:
    inside = dict(type='TemporalTransformer', dims=64, in_channels=512, heads=2, num_frames=4)
    model, dataset = recognizer(
        kind,
        neck=dict(type='ExpressionClusteredNeck', neck=inside),
        **{'backbone.out_indices': (2, 3), 'backbone.frozen_stages': 4, 'backbone.norm_eval': True},
    )
    model.cls_head.fc_cls = nn.Linear(64, 4)
    losses, data = compute_losses(model, dataset)
    vectors = model(data['inputs'], stage='neck').flatten(1)
    assert vectors.shape == (CLIPS, 64)
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    torch.testing.assert_close(losses['loss_ec'], ExpressionClusteredLoss()(vectors, labels))
    optimizer = dict(optimizer=dict(type='AdamW', lr=1e-3))
    clips = dict(frames=4, layout='NCHW' if kind == 'tsn' else 'NCTHW')
    runner = make_runner(model, clips, tmp_path, optimizer, max_iters=10)
    runner.train()
    assert accuracy(runner) == 1
    assert compute_losses(model.eval(), dataset)[0]['loss_ec'] < 0.5 * losses['loss_ec']


def test_the_neck_over_frame_vectors_and_sentences() -> None:
    """Call the neck as CLIPRecognizer does: (clips * views, T, D), and a label for each clip."""
    frames, sentences = torch.randn(8, 3, 16), torch.randn(5, 4, 16)
    inside = dict(type='LSTMNeck')
    for neck in (ExpressionClusteredNeck(), ExpressionClusteredNeck(neck=inside, dims=16)):
        vectors, losses = neck(frames, samples([2, 0, 1, 0]))
        by_hand = frames.mean(1) if neck.neck is None else neck.neck.encode_frames(frames)
        assert torch.equal(vectors, by_hand)
        labels = torch.tensor([2, 2, 0, 0, 1, 1, 0, 0])
        torch.testing.assert_close(losses['loss_ec'], ExpressionClusteredLoss()(by_hand, labels))
        assert neck(frames)[1] == {}  # no loss in testing
        assert torch.equal(neck.text(sentences), sentences.mean(1))
        assert neck.text_side() == []


def test_the_neck_in_a_clip_recognizer() -> None:
    config = dict(
        type='CLIPRecognizer',
        backbone=dict(type='FrozenCLIP', arch='synth-clip'),
        neck=dict(type='ExpressionClusteredNeck'),
        cls_head=dict(type='MATHead', num_classes=4, num_sentences=2, num_tokens=4),
    )
    dataset = PictureClips(frames=2, size=(64, 64), layout='NCTHW')
    model = MODELS.build(config).eval()
    losses, data = compute_losses(model, dataset)
    vectors = F.normalize(model(data['inputs'], stage='backbone'), dim=-1).mean(1)
    expected = ExpressionClusteredLoss()(vectors, torch.tensor([0, 1, 2, 3, 0, 1]))
    torch.testing.assert_close(losses['loss_ec'], expected)


def test_the_neck_refuses_what_it_cannot_cluster() -> None:
    neck = ExpressionClusteredNeck()
    with pytest.raises(DFERError, match='Recognizer2D .* two or more out_indices') as error:
        neck(torch.zeros(2, 3, 4, 5))
    assert '\n' not in str(error.value)
    mixed = samples([torch.tensor([0.3, 0.7]), torch.tensor([1.0, 0.0])])
    with pytest.raises(DFERError, match='one class for each clip'):
        neck(torch.zeros(2, 3), mixed)
