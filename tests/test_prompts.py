"""Test the text heads against open_clip, the papers' formulas and independent loops."""

from __future__ import annotations

from collections.abc import Sequence

import open_clip
import pytest
import torch
from reference import affine, encode_prompts, unbiased_layer, under, unit
from torch import Tensor, nn

from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample

from mmdfer import DFERError
from mmdfer.datasets.licensed.mafw import CLASSES as MAFW
from mmdfer.models import CLIPRecognizer, FrameFeatures, FrozenCLIP
from mmdfer.models.heads.class_descriptions import DESCRIPTIONS
from mmdfer.synthetic import small_clip

SEVEN = ('happiness', 'sadness', 'neutral', 'anger', 'surprise', 'disgust', 'fear')
HEADS = [
    dict(type='ClassNameHead', templates=['an expression of {}', 'a {} face, seen from near']),
    dict(type='CoOpHead', num_tokens=5),
    dict(type='CoOpHead', num_tokens=5, class_specific=True),
    dict(type='CoCoOpHead', num_tokens=5),
    dict(type='DFERCLIPHead', num_tokens=5),
    dict(type='TwoSidedHead', num_tokens=5, loss='pairs'),
]
WB = ('weight', 'bias')
POOL = 'backbone.clip.visual.attnpool.c_proj'
IDS = ['zero-shot', 'CoOp shared', 'CoOp class-specific', 'CoCoOp', 'DFER-CLIP', 'two-sided']


def recognizer(
    head: dict, classes: Sequence[str] = MAFW, trains: Sequence[str] = (), **parts: object
) -> CLIPRecognizer:
    """Build a recognizer on the small CLIP, with widely drawn weights in head and neck."""
    torch.manual_seed(0)
    backbone = dict(type='FrozenCLIP', arch='synth-clip', trains=trains)
    config = dict(type='CLIPRecognizer', backbone=backbone, cls_head=dict(classes=classes, **head))
    model = MODELS.build({**config, **parts}).eval()
    for part in (model.cls_head, model.neck if model.with_neck else nn.Module()):
        for parameter in part.parameters():
            nn.init.normal_(parameter, std=0.1)
    return model


def vectors(n: int = 3, t: int = 16, d: int = 128) -> Tensor:
    return torch.randn(n, t, d, generator=torch.Generator().manual_seed(7))


def embedded(clip: FrozenCLIP, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return the token embeddings of texts (C, 77, W), and the positions of the end tokens."""
    ids = small_clip.tokenizer()(list(texts))  # (C, 77)
    table = clip.clip.token_embedding.weight.detach()
    return table[ids], (ids == clip.tokenizer.encoder['<end_of_text>']).int().argmax(1)


def sentences(clip: FrozenCLIP, prompts: Tensor, ends: Tensor) -> Tensor:
    """Encode prompts one by one by the reference, read at their ends: (C, L, W) -> (C, D)."""
    state = {k: v.detach() for k, v in clip.clip.state_dict().items()}
    heads = small_clip.config()['text_cfg']['heads']
    rows = [encode_prompts(state, p[None], int(e), heads, False) for p, e in zip(prompts, ends)]
    return torch.cat(rows)


# ------------------------------------------------------------------------------ parity


def test_zero_shot_equals_plain_open_clip() -> None:
    templates = ['an expression of {}', 'this face, in truth, shows {}']
    model = recognizer(dict(type='ClassNameHead', templates=templates))
    plain = model.backbone.clip  # open_clip's own model, called directly
    tokenizer = small_clip.tokenizer()
    clips = torch.randn(2, 3, 4, 64, 64)
    with torch.no_grad():
        texts = [unit(plain.encode_text(tokenizer([t.format(c) for c in MAFW]))) for t in templates]
        images = plain.encode_image(clips.transpose(1, 2).flatten(0, 1)).view(2, 4, -1)
        video, classes = unit(unit(images).mean(1)), unit(sum(texts) / 2)
        expected = plain.logit_scale.exp() * video @ classes.T
        ours = model(clips[:, None], stage='head')
    assert ours.shape == (2, 11)
    assert torch.allclose(ours, expected, atol=1e-3)  # logits are cosines times 100


def test_the_default_sentence_is_the_papers() -> None:
    head = recognizer(dict(type='ClassNameHead'), ('joy', 'mild_anger')).cls_head
    assert head.texts == ['an expression of joy', 'an expression of mild anger']


@pytest.mark.parametrize('class_specific', [False, True])
def test_coop_assembles_its_papers_prompt(class_specific: bool) -> None:
    """Compare with t = [start] [V]_1 ... [V]_M [class] . [end].

    The text is tokenized with M filler words, which are then replaced by the learned tokens.
    """
    model = recognizer(dict(type='CoOpHead', num_tokens=16, class_specific=class_specific))
    clip, tokens = model.backbone, model.cls_head.tokens.detach()
    expected, ends = embedded(clip, [' '.join(['x'] * 16) + f' {name}.' for name in MAFW])
    expected[:, 1:17] = tokens  # (1, 16, W) for all classes, or (C, 16, W)
    prompts, ours = model.cls_head.prompts(clip)
    assert tokens.shape[0] == (11 if class_specific else 1)
    assert torch.equal(ours[:, 0], ends) and len(set(ends.tolist())) > 1
    for row, reference, end in zip(prompts[:, 0], expected, ends):
        assert torch.equal(row[: end + 1], reference[: end + 1])
    with torch.no_grad():
        video = unit(unit(vectors()).mean(1))
        logits = clip.logit_scale * video @ unit(sentences(clip, expected, ends)).T
        assert torch.allclose(
            model(FrameFeatures(vectors()[:, None]), stage='head'), logits, atol=1e-3
        )


def test_cocoop_equals_a_loop_over_clips() -> None:
    model = recognizer(dict(type='CoCoOpHead', num_tokens=4, clips_per_pass=2))
    clip, state = model.backbone, {k: v.detach() for k, v in model.cls_head.state_dict().items()}
    fixed, ends = embedded(clip, [f'x x x x {name}.' for name in MAFW])
    rows = []
    for frames in vectors(5):
        video = unit(unit(frames).mean(0))
        hidden = affine(video, state, 'meta_net.0').clamp(min=0)
        assert hidden.shape == (128 // 16,)
        prompts = fixed.clone()
        prompts[:, 1:5] = state['tokens'] + affine(hidden, state, 'meta_net.2')
        rows.append(clip.logit_scale * unit(sentences(clip, prompts, ends)) @ video)
    with torch.no_grad():
        ours = model(FrameFeatures(vectors(5)[:, None]), stage='head')
    assert torch.allclose(ours, torch.stack(rows), atol=1e-3)
    assert not torch.allclose(rows[0], rows[1], atol=1)


def test_dfer_clip_equals_its_formula() -> None:
    neck = dict(type='TemporalTransformer', depth=1, heads=8, mlp=1024, num_frames=16)
    head = dict(type='DFERCLIPHead', num_tokens=8, temperature=0.01)
    model = recognizer(head, neck=neck, normalize_frames=False)
    clip, tokens = model.backbone, model.cls_head.tokens.detach()
    texts = [' '.join(['x'] * 8) + f' {DESCRIPTIONS[name]}.' for name in MAFW]
    prompts, ends = embedded(clip, texts)
    prompts[:, 1:9] = tokens
    assert tokens.shape == (11, 8, 128)
    state = {k: v.detach() for k, v in model.neck.state_dict().items()}
    with torch.no_grad():
        video = unit(_temporal_transformer(state, vectors(), heads=8))
        expected = video @ unit(sentences(clip, prompts, ends)).T / 0.01
        ours = model(FrameFeatures(vectors()[:, None]), stage='head')
    assert torch.allclose(ours, expected, atol=1e-3)


def _temporal_transformer(state: dict[str, Tensor], x: Tensor, heads: int) -> Tensor:
    """Compute DFER-CLIP's temporal model (Sec. 3.2): class token, positions, one layer."""
    token = state['class_token'] + state['class_position']
    x = torch.cat([token.expand(len(x), 1, -1), x + state['position']], dim=1)
    assert state['layers.0.mlp.0.weight'].shape[0] == 1024
    return unbiased_layer(x, under(state, 'layers.0.'), heads)[:, 0]


def test_every_class_has_a_description_of_its_own() -> None:
    assert set(DESCRIPTIONS) >= {*MAFW, *SEVEN}
    assert len(set(DESCRIPTIONS.values())) == len(DESCRIPTIONS)
    assert not any(text.endswith('.') for text in DESCRIPTIONS.values())
    tokenizer = open_clip.get_tokenizer('ViT-B-32-quickgelu')
    assert all(len(tokenizer.encode(text)) + 8 + 2 <= 77 for text in DESCRIPTIONS.values())


# ---------------------------------------------------------------------------- training


def test_cocoops_memory_is_bounded_and_its_gradients_are_not_changed_by_it() -> None:
    gradients, sizes = [], []
    for clips_per_pass in (2, 8):
        model = recognizer(dict(type='CoCoOpHead', num_tokens=4, clips_per_pass=clips_per_pass))
        seen, encode = [], model.backbone.encode_prompts
        model.backbone.encode_prompts = lambda *a, s=seen, e=encode: s.append(a[0].shape) or e(*a)
        model(FrameFeatures(vectors(5)[:, None]), stage='head')[:, 0].sum().backward()
        gradients.append({n: p.grad for n, p in model.cls_head.named_parameters()})
        sizes.append(max(shape[:-2].numel() for shape in seen))
    assert sizes == [2 * 11, 5 * 11]
    assert set(gradients[0]) == {'tokens', *(f'meta_net.{i}.{k}' for i in (0, 2) for k in WB)}
    for name, gradient in gradients[0].items():
        assert gradient.abs().max() > 0
        assert torch.allclose(gradient, gradients[1][name], rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize(
    ('trains', 'head', 'learned'),
    [
        ((), HEADS[0], set()),
        ((), HEADS[1], {'cls_head.tokens'}),
        ((), HEADS[4], {'cls_head.tokens'}),
        ([r'^text_projection$'], HEADS[0], {'backbone.clip.text_projection'}),
        ([r'^visual\.attnpool\.c_proj\.'], HEADS[0], {f'{POOL}.{k}' for k in WB}),
        (
            [r'^visual\.conv1\.', r'^transformer\.resblocks\.2\.ln_1\.bias$'],
            HEADS[1],
            {
                'cls_head.tokens',
                'backbone.clip.visual.conv1.weight',
                'backbone.clip.transformer.resblocks.2.ln_1.bias',
            },
        ),
    ],
)
def test_only_trained_weights_change_and_are_saved(trains, head, learned) -> None:
    model = recognizer(head, SEVEN, trains).train()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    frames = torch.randn(2, 1, 3, 2, 64, 64)
    samples = [ActionDataSample().set_gt_label(label) for label in (0, 4)]
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad] or [_idle()], 1)
    loss = model(frames, samples, mode='loss')['loss_cls']
    if learned:
        loss.backward()
        optimizer.step()
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == learned
    state = model.state_dict()
    assert {key for key in state if key.startswith('backbone.clip.')} == {
        name for name in learned if name.startswith('backbone.')
    }
    other = recognizer(head, SEVEN, trains)
    other.load_state_dict(state)
    with torch.no_grad():
        expected = model.eval()(frames, stage='head')
        assert torch.equal(other(frames, stage='head'), expected)


def _idle() -> nn.Parameter:
    return nn.Parameter(torch.zeros(1))


def test_class_names_are_encoded_once_while_the_image_tower_trains() -> None:
    model = recognizer(HEADS[0], SEVEN, [r'^visual\.conv1\.']).train()
    calls, encode = [], model.backbone.encode_prompts
    model.backbone.encode_prompts = lambda *a: calls.append(1) or encode(*a)
    frames = torch.randn(2, 1, 3, 2, 64, 64)
    for _ in range(2):
        model(frames, stage='head').sum().backward()
        with torch.no_grad():
            model.backbone.clip.visual.conv1.weight.mul_(1.1)
    assert len(calls) == 1
    before = model.class_vectors()
    with torch.no_grad():
        model.backbone.clip.logit_scale.data = model.backbone.clip.logit_scale.data.clone()
    assert len(calls) == 1 and model.class_vectors() is not before  # as if moved to another device


# ---------------------------------------------------------------- names, and other recognizers


@pytest.mark.parametrize('head', HEADS, ids=IDS)
def test_the_names_written_are_the_names_of_the_checkpoint(head: dict) -> None:
    model = recognizer(head, SEVEN)
    model.cls_head.set_classes(SEVEN)
    with pytest.raises(DFERError, match=r'happiness, sadness.*anger, disgust'):
        model.cls_head.set_classes(MAFW[:7])
    with pytest.raises(DFERError, match='num_classes=7'):
        model.cls_head.set_classes(MAFW)
    turned = recognizer(head, SEVEN[::-1])
    with pytest.raises(DFERError, match=r'happiness, sadness.*fear, disgust'):
        turned.load_state_dict(model.state_dict())


@pytest.mark.parametrize('head', HEADS, ids=IDS)
def test_outside_clip_recognizer_a_head_encodes_its_own_prompts(head: dict) -> None:
    """Pool, project and compare as under Recognizer2D; CLIPRecognizer gives the same logits."""
    text = dict(type='FrozenCLIP', arch='synth-clip')
    own = MODELS.build(dict(classes=SEVEN, in_channels=24, text=text, **head)).eval()
    model = recognizer(head, SEVEN)
    same = {k: v for k, v in own.state_dict().items() if not k.startswith(('clip.', 'projection'))}
    model.cls_head.load_state_dict(same)
    maps = torch.randn(2 * 4, 24, 3, 3)  # 2 clips of 4 frames
    with torch.no_grad():
        video = own.projection(maps.mean((2, 3)).view(2, 4, 24).mean(1))  # (2, D)
        expected = model(FrameFeatures(video[:, None, None]), stage='head')  # a clip of one frame
        assert torch.allclose(own(maps, num_segs=4), expected, atol=1e-3)
    own(maps, num_segs=4)[:, 0].sum().backward()
    assert own.projection.weight.grad.abs().max() > 0


@pytest.mark.parametrize(
    ('head', 'message'),
    [
        (dict(type='ClassNameHead', templates=['a face']), r"'a face' has no \{\}"),
        (dict(type='ClassNameHead', templates=['x ' * 80 + '{}']), 'the context of .* has 77'),
        (dict(type='CoOpHead', num_tokens=74), "'happiness.' makes a prompt of .* learnable"),
        (dict(type='CoOpHead', texts=['one', 'two']), '2 texts for the 7 classes'),
        (dict(type='DFERCLIPHead', descriptions=dict(anger='red')), 'classes happiness, sadness'),
    ],
)
def test_what_does_not_fit_is_refused(head: dict, message: str) -> None:
    with pytest.raises(DFERError, match=message):
        recognizer(head, SEVEN)
    text = dict(type='FrozenCLIP', arch='synth-clip')
    with pytest.raises(DFERError, match=message):
        MODELS.build(dict(classes=SEVEN, in_channels=24, text=text, **head))
    head = dict(type='ClassNameHead', classes=SEVEN, in_channels=24)
    with pytest.raises(DFERError, match='ClassNameHead outside CLIPRecognizer needs'):
        MODELS.build(head)
