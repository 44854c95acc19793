"""Test the head of FineCLIPER against its formulas, plain open_clip and heads of one side."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference import unit
from references import two_sided as reference
from torch import Tensor

from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample

from mmdfer.errors import DFERError
from mmdfer.models import CLIPRecognizer, FrameFeatures, TwoSidedHead

NAMES = ('happiness', 'mild_anger', 'neutral', 'fear')
TEXTS = dict(
    positive=['A person with an expression of {}.', 'this face shows {}'],
    negative=['A person with an expression of no {}.', 'this face does not show {}'],
)
FORMS = [(s, loss) for s in ('difference', 'positive') for loss in ('softmax', 'pairs')]


def build(neck: dict | None = None, **head: Any) -> CLIPRecognizer:
    torch.manual_seed(0)
    head = dict(dict(type='TwoSidedHead', classes=NAMES), **head)
    backbone = dict(type='FrozenCLIP', arch='synth-clip')
    return MODELS.build(dict(type='CLIPRecognizer', backbone=backbone, cls_head=head, neck=neck))


def samples(labels: Tensor) -> list[ActionDataSample]:
    return [ActionDataSample().set_gt_label(label) for label in labels]


def features(n: int = 3, t: int = 4) -> FrameFeatures:
    draw = torch.Generator().manual_seed(7)
    return FrameFeatures(torch.randn(n, 1, t, 128, generator=draw))


def words(name: str) -> str:
    return name.replace('_', ' ')


# ------------------------------------------------------------------------------ parity


@pytest.mark.parametrize(('score', 'loss'), FORMS)
def test_score_and_loss_equal_their_formulas_forward_and_backward(score: str, loss: str) -> None:
    head = build(score=score, loss=loss, temperature=0.05).cls_head
    video = torch.randn(6, 128, dtype=torch.float64)
    sides = torch.randn(2, 4, 128, dtype=torch.float64)
    labels = torch.tensor([0, 3, 1, 1, 2, 3])
    used = 1 if (score, loss) == ('positive', 'softmax') else 2
    ours = [video.clone().requires_grad_(), sides[:used].clone().requires_grad_()]
    theirs = [video.clone().requires_grad_(), sides.clone().requires_grad_()]
    given = dict(classes=ours[1].flatten(0, 1), logit_scale=9.0)  # the head's temperature wins
    losses = head.loss(ours[0], samples(labels), **given)
    found = sum(value for key, value in losses.items() if 'loss' in key)
    expected = reference.loss(theirs[0], *theirs[1], labels.tolist(), 0.05, score, loss)
    torch.testing.assert_close(found, expected)
    scores = head(ours[0], **given)
    torch.testing.assert_close(scores, reference.scores(theirs[0], *theirs[1], 0.05, score))
    accuracy = (scores.argmax(1) == labels).double().mean()
    assert float(losses['top1_acc']) == pytest.approx(float(accuracy))
    found.backward()
    expected.backward()
    torch.testing.assert_close(ours[0].grad, theirs[0].grad)
    torch.testing.assert_close(ours[1].grad, theirs[1].grad[:used])
    assert ours[1].grad.abs().sum((1, 2)).min() > 0


def test_class_vectors_are_means_of_plain_open_clips_sentences() -> None:
    model = build(**TEXTS).eval()
    clip, video = model.backbone, unit(unit(features().vectors[:, 0]).mean(1))
    sides = []
    with torch.no_grad():
        for side in ('positive', 'negative'):
            texts = [[text.format(words(name)) for text in TEXTS[side]] for name in NAMES]
            rows = [unit(clip.clip.encode_text(clip.tokenizer(row))).mean(0) for row in texts]
            sides.append(unit(torch.stack(rows)))
        expected = clip.logit_scale * (video @ sides[0].T - video @ sides[1].T)
        logits = model(features(), stage='head')
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-3)
    assert model.class_vectors() is model.class_vectors()  # frozen texts are encoded once


def test_one_side_equals_the_head_of_class_names() -> None:
    plain = dict(type='ClassNameHead', templates=TEXTS['positive'])
    expected = build(**plain)(features(), stage='head')
    model = build(**TEXTS, score='positive')
    assert torch.equal(model(features(), stage='head'), expected)
    assert model.class_vectors().shape == (4, 128)  # no negative sentence is encoded
    both = build(**TEXTS, score='positive', loss='pairs')
    torch.testing.assert_close(both(features(), stage='head'), expected)
    assert both.class_vectors().shape == (8, 128)


@pytest.mark.parametrize('class_specific', [False, True])
def test_a_context_is_put_before_each_sentence(class_specific: bool) -> None:
    """Compare with sentences of filler words, which are then replaced by the learned tokens."""
    model = build(**TEXTS, num_tokens=3, class_specific=class_specific)
    clip, head = model.backbone, model.cls_head
    torch.nn.init.normal_(head.tokens)
    assert head.class_parameters() == (('tokens',) if class_specific else ())
    prompts, ends = head.prompts(clip)
    assert prompts.shape[:2] == ends.shape == (8, 2)
    for row in range(8):
        side, name = ('positive', 'negative')[row // 4], NAMES[row % 4]
        context = head.tokens[row % 4 if class_specific else 0]
        for column, text in enumerate(TEXTS[side]):
            ids = clip.tokenizer([f'x x x {text.format(words(name))}'])[0]
            end = int((ids == clip.end_id).int().argmax())
            expected = clip.embed(ids).clone()
            expected[1:4] = context
            assert ends[row, column] == end
            assert torch.equal(prompts[row, column, : end + 1], expected[: end + 1])


def test_without_a_context_the_head_has_no_parameters() -> None:
    head = build(class_specific=True).cls_head
    assert not list(head.parameters()) and head.class_parameters() == ()
    assert [row[0] for row in head.texts[::4]] == [
        'A person with an expression of happiness.',
        'A person with an expression of no happiness.',
    ]


# ---------------------------------------------------------------------------- training


@pytest.mark.parametrize(('score', 'loss'), FORMS)
def test_mixed_labels_weigh_the_losses_of_their_classes(score: str, loss: str) -> None:
    head = build(score=score, loss=loss).cls_head
    video, sides = torch.randn(2, 128), torch.randn(8, 128)
    classes = sides[: 4 * (1 if (score, loss) == ('positive', 'softmax') else 2)]

    def total(labels: Tensor) -> Tensor:
        found = head.loss(video, samples(labels), classes=classes, logit_scale=20.0)
        return sum(value for key, value in found.items() if 'loss' in key)

    mixed = torch.tensor([[0.7, 0.0, 0.3, 0.0], [0.7, 0.0, 0.3, 0.0]])
    by_hand = 0.7 * total(torch.tensor([0, 0])) + 0.3 * total(torch.tensor([2, 2]))
    torch.testing.assert_close(total(mixed), by_hand)


@pytest.mark.parametrize(('score', 'loss'), FORMS)
def test_a_context_learns_through_the_text_side_of_the_neck(score: str, loss: str) -> None:
    neck = dict(type='JAS', num_frames=4, num_sentences=2, text_layers=1)
    model = build(neck, **TEXTS, num_tokens=3, score=score, loss=loss).train()
    model.neck.set_stage('text')
    losses = model(features(), samples(torch.tensor([0, 1, 3])), mode='loss')
    assert set(losses) - {'top1_acc', 'top5_acc'} == (
        {'loss_cls', 'loss_pairs'} if loss == 'pairs' else {'loss_cls'}
    )
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    assert model.cls_head.tokens.grad.abs().min() > 0
    assert model.neck.text_encoder.layers[0].linear2.weight.grad.abs().max() > 0


# ------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ('head', 'message'),
    [
        (dict(score='ratio'), "cls_head.score must be 'difference' or 'positive', got 'ratio'"),
        (dict(loss='hinge'), "cls_head.loss must be 'softmax' or 'pairs', got 'hinge'"),
        (dict(positive=['{}', 'a {}']), '2 positive and 1 negative templates'),
        (dict(positive=[], negative=[]), '0 positive and 0 negative templates'),
        (dict(negative=['no face']), r"'no face' has no \{\}"),
        (dict(num_tokens=74), 'makes a prompt of .* learnable tokens'),
    ],
)
def test_what_does_not_fit_is_one_line(head: dict, message: str) -> None:
    with pytest.raises(DFERError, match=message) as error:
        build(**head)
    assert '\n' not in str(error.value)


def test_it_works_in_other_recognizers() -> None:
    text = dict(type='FrozenCLIP', arch='synth-clip')
    config = dict(type='TwoSidedHead', classes=NAMES, in_channels=6, text=text, loss='pairs')
    head = MODELS.build(config)
    maps = torch.randn(2, 6, 4, 3, 3)
    assert isinstance(head, TwoSidedHead) and head(maps).shape == (2, 4)
    losses = head.loss(maps, samples(torch.tensor([0, 2])))
    assert all(value.isfinite() for value in losses.values())
