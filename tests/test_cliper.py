"""Test CLIPER's head against a reference that was written from the authors' code only."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from references import cliper as reference

from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample

from mmdfer.errors import DFERError
from mmdfer.models import CLIPERHead, CLIPRecognizer, FrameFeatures
from mmdfer.models.heads.cliper_head import weigh

BASE = Path(__file__).resolve().parents[1] / 'configs' / '_base_' / 'models' / 'cliper.py'


def build(classes: int = 7, **head: object) -> CLIPRecognizer:
    """Build the shipped model with the small CLIP as its backbone."""
    config = Config.fromfile(BASE).model
    config.backbone.update(arch='synth-clip', weights=None)
    config.cls_head.update(num_classes=classes, **head)
    return MODELS.build(config)


def samples(labels: torch.Tensor) -> list[ActionDataSample]:
    return [ActionDataSample().set_gt_label(int(label)) for label in labels]


def test_score_and_both_losses_are_the_authors() -> None:
    model = build()
    image = torch.randn(40, model.backbone.embed_dims, requires_grad=True)
    labels = torch.randint(7, (40,))
    theirs_image = image.detach().clone().requires_grad_()
    with torch.no_grad():
        model.cls_head.tokens.normal_()  # descriptors that differ
    sentences = model.class_vectors()
    theirs_text = sentences.detach().clone().requires_grad_()
    ours = model.cls_head.loss(image, samples(labels), classes=sentences, logit_scale=100)
    theirs = reference.losses(theirs_image, theirs_text, labels)
    torch.testing.assert_close(ours['loss_margin'], theirs['margin'], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours['loss_fine'], theirs['fine'], rtol=1e-5, atol=1e-5)
    scores = model.cls_head(image, classes=sentences, logit_scale=100)
    torch.testing.assert_close(
        scores, reference.class_scores(image, theirs_text), rtol=1e-5, atol=1e-4
    )
    assert ours['top1_acc'] == (scores.argmax(1) == labels).float().mean()
    grads = torch.autograd.grad(ours['loss_margin'] + ours['loss_fine'], [image, sentences])
    theirs['total'].backward()
    for found, expected in zip(grads, (theirs_image.grad, theirs_text.grad)):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_clips_of_a_rare_descriptor_weigh_more() -> None:
    logits, labels = torch.zeros(4, 2, 5), torch.zeros(4, dtype=torch.long)
    logits[:3, 0, 1], logits[3, 0, 4] = 1, 1  # three clips share descriptor 1
    weights = weigh(logits, labels)
    assert weights[3] > 2 * weights[0] and torch.equal(weights[:3], weights[0].expand(3))
    torch.testing.assert_close(weights, reference.sample_weights(logits, labels))


def test_a_prompt_is_the_prefix_the_tokens_and_a_full_stop() -> None:
    model = build()
    clip, head = model.backbone, model.cls_head
    prompts, end = head.prompts(clip)
    words = clip.tokenizer.encode('an ID photo of')
    fixed = clip.embed(torch.tensor([clip.start_id, *words, clip.stop_id, clip.end_id]))
    assert prompts.shape == (7, 5, len(fixed) + 4, clip.text_width) and end == len(fixed) + 3
    before = len(words) + 1
    for own in prompts.flatten(0, 1):
        assert torch.equal(own[:before], fixed[:before])
        assert torch.equal(own[-2:], fixed[-2:])
    assert torch.equal(prompts[:, :, before:-2], head.tokens)
    assert 0.0005 < head.tokens.std() < 0.0015  # randn / 1000


def test_a_prompt_with_x_in_place_of_tokens_is_openclips() -> None:
    """Compare with the literal sentence, whose X positions the authors' code overwrites."""
    model = build()
    clip, head = model.backbone, model.cls_head
    x = clip.embed(torch.tensor(clip.tokenizer.encode('X X X X')))
    assert len(x) == 4  # a token for each X
    with torch.no_grad():
        head.tokens.copy_(x.expand_as(head.tokens))
        ours = clip.encode_prompts(*head.prompts(clip))[0, 0]
        theirs = clip.clip.encode_text(clip.tokenizer(['an ID photo of X X X X.']))[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_clip_scores_the_mean_of_the_cosines() -> None:
    model = build(classes=3).eval()
    vectors = F.normalize(torch.randn(2, 16, model.backbone.embed_dims), dim=-1)
    logits, _ = model.extract_feat(FrameFeatures(vectors[:, None]), stage='head')
    video = F.normalize(vectors.mean(1), dim=-1)
    sentences = F.normalize(
        model.backbone.encode_prompts(*model.cls_head.prompts(model.backbone)), dim=-1
    )
    by_hand = torch.einsum('nd,ckd->nck', video, sentences).mean(-1) * 100
    torch.testing.assert_close(logits, by_hand, rtol=1e-4, atol=1e-4)


def test_under_another_recognizer_it_reads_maps() -> None:
    head = MODELS.build(
        dict(
            type='CLIPERHead',
            num_classes=3,
            in_channels=6,
            text=dict(type='FrozenCLIP', arch='synth-clip'),
        )
    )
    maps = torch.randn(2, 6, 4, 3, 3)
    assert isinstance(head, CLIPERHead) and head(maps).shape == (2, 3)
    losses = head.loss(maps, samples(torch.tensor([0, 2])))
    assert all(value.isfinite() for value in losses.values())


def test_soft_labels_are_refused() -> None:
    model = build(classes=3)
    soft = [ActionDataSample().set_gt_label(torch.tensor([0.5, 0.5, 0.0]))]
    feats = torch.randn(1, model.backbone.embed_dims)
    with pytest.raises(DFERError, match='CLIPERHead: labels of shape .*one class'):
        model.cls_head.loss(feats, soft, classes=model.class_vectors(), logit_scale=100)
