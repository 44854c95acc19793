"""Test JAS, MATHead and CLIPRecognizer against an independently written reference."""

from __future__ import annotations

import pytest
import torch
from reference import align_dfer, dynamic_encoder
from torch import Tensor, nn

from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample

from mmdfer import DFERError
from mmdfer.models import JAS, CLIPRecognizer, FrameFeatures
from mmdfer.models.necks.jas import drop_unused_encoders
from mmdfer.synthetic import small_clip


def _stirred(module: nn.Module, seed: int = 0) -> nn.Module:
    """Draw all parameters except CLIP's at random, since initial zeros would hide wrong wiring."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if 'clip.' not in name:
            nn.init.normal_(parameter, std=0.1, generator=generator)
    return module


def _recognizer(**neck: object) -> CLIPRecognizer:
    model = MODELS.build(
        dict(
            type='CLIPRecognizer',
            backbone=dict(type='FrozenCLIP', arch='synth-clip'),
            neck=dict(type='JAS', **neck),
            cls_head=dict(type='MATHead', num_classes=7, num_sentences=5, num_tokens=6),
        )
    )
    return _stirred(model).eval()


def _vectors(n: int = 3, t: int = 16, d: int = 128) -> Tensor:
    return torch.randn(n, t, d, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize(
    ('stage', 'joined', 'layers'),
    [('text', None, 2), ('video', 0, 0), ('video', 3, 3), ('joint', 1, 3), ('joint', 2, 4)],
)
def test_logits_equal_the_reference_in_each_stage(stage, joined, layers) -> None:
    model = _recognizer()
    model.neck.set_stage(stage, joined)
    assert int(model.neck.layers) == layers
    clip = model.backbone
    fixed = clip.embed(torch.tensor([clip.start_id, clip.stop_id, clip.end_id])).detach()
    config = small_clip.config()
    frames = _vectors()
    with torch.no_grad():
        ours = model(FrameFeatures(frames[:, None]), stage='head')
        theirs = align_dfer(
            {k: v.detach() for k, v in clip.clip.state_dict().items()},
            {k: v.detach() for k, v in model.neck.state_dict().items()},
            model.cls_head.tokens.detach(),
            fixed,
            frames,
            stage,
            layers,
            config['text_cfg']['heads'],
            bool(config.get('quick_gelu')),
            clip.logit_scale,
        )
    assert ours.shape == (3, 7)
    assert torch.allclose(ours, theirs, atol=1e-3)  # logits are cosines times 100


@pytest.mark.parametrize('length', [16, 9, 23])
def test_encoder_equals_the_reference_at_any_length(length: int) -> None:
    neck = _stirred(JAS(dims=128)).eval()
    x = _vectors(t=length)
    with torch.no_grad():
        state = {k: v.detach() for k, v in neck.joint_encoder.state_dict().items()}
        assert torch.allclose(neck(x)[0], dynamic_encoder(state, x, 4), atol=1e-5)
        assert torch.allclose(neck.text(x), neck(x)[0], atol=1e-6)  # frames and texts share it


@pytest.mark.parametrize('stage', ['video', 'joint'])
def test_a_layer_joins_as_the_identity(stage: str) -> None:
    neck = JAS(dims=128)
    x = _vectors()
    start = neck._growth(stage)[1]
    with torch.no_grad():
        neck.set_stage(stage, 0)
        before = neck(x)[0]
        for joined in range(1, 5 - start):
            neck.set_stage(stage, joined)
            assert torch.equal(neck(x)[0], before) or torch.allclose(neck(x)[0], before, atol=1e-6)
        if stage == 'video':  # the video stage starts as the plain mean
            assert torch.allclose(before, x.mean(1), atol=1e-6)


def test_a_layer_that_has_learned_changes_the_output() -> None:
    neck = _stirred(JAS(dims=128))
    x = _vectors()
    neck.set_stage('video', 1)
    before = neck(x)[0]
    neck.set_stage('video', 2)
    assert not torch.allclose(neck(x)[0], before, atol=1e-3)


def test_order_of_frames_matters_to_the_encoder_and_not_to_the_mean() -> None:
    neck = _stirred(JAS(dims=128))
    x = _vectors()
    neck.set_stage('joint')
    assert not torch.allclose(neck(x)[0], neck(x.flip(1))[0], atol=1e-3)
    neck.set_stage('text')
    assert torch.allclose(neck(x)[0], neck(x.flip(1))[0], atol=1e-6)


def test_the_joint_stage_takes_over_the_image_encoder() -> None:
    neck = _stirred(JAS(dims=128))
    neck.enter_stage('joint')
    image, joint = neck.image_encoder.state_dict(), neck.joint_encoder.state_dict()
    taken = [k for k in joint if k == 'position' or k.startswith(('layers.0', 'layers.1'))]
    assert all(torch.equal(joint[k], image[k]) for k in taken)
    rest = [k for k in joint if k.startswith(('layers.2', 'layers.3')) and 'weight' in k]
    assert not any(torch.equal(joint[k], image[k]) for k in rest)


def test_prompts_are_start_tokens_stop_end() -> None:
    model = _recognizer()
    clip = model.backbone
    prompts, end = model.cls_head.prompts(clip)
    assert prompts.shape == (7, 5, 6 + 3, clip.text_width) and end == 8
    table = clip.clip.token_embedding.weight
    ids = [clip.tokenizer.encoder[t] for t in ('<start_of_text>', '.</w>', '<end_of_text>')]
    for position, i in zip((0, 7, 8), ids):
        assert torch.equal(prompts[2, 3, position], table[i])
    assert torch.equal(prompts[:, :, 1:7], model.cls_head.tokens)
    assert model.cls_head.tokens.unique(dim=1).shape[1] == 5  # all sentences differ


def test_views_are_averaged_as_probabilities() -> None:
    model = _recognizer()
    views = _vectors(n=4).view(2, 2, 16, 128)  # 2 clips with 2 views each
    samples = model.predict(FrameFeatures(views), [ActionDataSample(), ActionDataSample()])
    logits = model(FrameFeatures(views), stage='head')  # (4, 7)
    expected = logits.softmax(-1).view(2, 2, 7).mean(1)
    assert torch.allclose(torch.stack([s.pred_score for s in samples]), expected, atol=1e-6)


def test_class_vectors_are_encoded_once_until_something_changes() -> None:
    model = _recognizer()
    calls = []
    encode = model.backbone.encode_prompts
    model.backbone.encode_prompts = lambda *a: calls.append(1) or encode(*a)
    frames = FrameFeatures(_vectors()[:, None])
    with torch.no_grad():
        first = model(frames, stage='head')
        assert torch.equal(model(frames, stage='head'), first) and len(calls) == 1
    for change in (_step, _step_fused, _reload, _switch, _stir_tokens):
        with torch.no_grad():
            before = model(frames, stage='head')
        count = len(calls)
        change(model)
        with torch.no_grad():
            assert not torch.equal(model(frames, stage='head'), before), change
        assert len(calls) > count
    model.train().requires_grad_(False)
    model.neck.image_encoder.requires_grad_(True)  # video stage: the text side is frozen
    model.neck.set_stage('video')
    model(frames, stage='head')
    count = len(calls)
    model(frames, stage='head').sum().backward()
    assert len(calls) == count


def _step_fused(model: CLIPRecognizer) -> None:
    _step(model, fused=True)  # a fused step does not change the version of the tokens


def _step(model: CLIPRecognizer, **kind: bool) -> None:
    optimizer = torch.optim.SGD(model.cls_head.parameters(), lr=1.0, **kind or dict(foreach=True))
    model(FrameFeatures(_vectors()[:, None]), stage='head')[:, 0].sum().backward()
    optimizer.step()


def _reload(model: CLIPRecognizer) -> None:
    model.load_state_dict(_stirred(_recognizer(), 5).state_dict())


def _switch(model: CLIPRecognizer) -> None:
    model.neck.set_stage('text')


def _stir_tokens(model: CLIPRecognizer) -> None:
    with torch.no_grad():
        model.cls_head.tokens.mul_(-1.5)


def test_published_is_the_joint_encoder_and_the_tokens() -> None:
    model = _recognizer()
    published = drop_unused_encoders(model.state_dict())
    assert {k.rsplit('.layers', 1)[0].rsplit('.', 1)[0] for k in published} >= {'cls_head'}
    assert not any('image_encoder' in k or 'text_encoder' in k for k in published)
    assert any('joint_encoder' in k for k in published) and 'cls_head.tokens' in published
    model.neck.set_stage('video', 4)
    assert drop_unused_encoders(model.state_dict()).keys() == model.state_dict().keys()


def test_classes_travel_and_others_are_refused() -> None:
    source, same, other = _recognizer(), _recognizer(), _recognizer()
    names = ('happiness', 'sadness', 'neutral', 'anger', 'surprise', 'disgust', 'fear')
    source.cls_head.set_classes(names)
    state = source.state_dict()
    same.load_state_dict(state)
    assert same.cls_head.classes == names
    other.cls_head.set_classes((names[1], names[0], *names[2:]))
    with pytest.raises(DFERError, match='happiness, sadness.*sadness, happiness'):
        other.load_state_dict(state)
    with pytest.raises(DFERError, match='num_classes=7'):
        _recognizer().cls_head.set_classes(names[:3])


@pytest.mark.parametrize('tokens', [75, 200])
def test_more_tokens_than_the_context_holds(tokens: int) -> None:
    head = dict(type='MATHead', num_classes=7, num_tokens=tokens)
    with pytest.raises(DFERError, match='at most 74'):
        MODELS.build(
            dict(
                type='CLIPRecognizer',
                backbone=dict(type='FrozenCLIP', arch='synth-clip'),
                cls_head=head,
            )
        )


def test_stages_that_do_not_fit_are_refused() -> None:
    neck = JAS(dims=128)
    with pytest.raises(DFERError, match='its stages are text, video, joint'):
        neck.check_stage('warmup', None)
    with pytest.raises(DFERError, match='to 4 epochs'):
        neck.check_stage('video', [0, 1, 2])
    with pytest.raises(DFERError, match='shared_layers=3'):
        JAS(dims=128, joint_layers=2, shared_layers=3)


def test_a_loaded_neck_is_in_the_stage_of_the_checkpoint() -> None:
    saved, neck = (JAS(64, image_layers=2, text_layers=1) for _ in range(2))
    saved.set_stage('video', 1)
    neck.load_state_dict(saved.state_dict())
    assert neck.stage_name == 'video'
    frames = torch.randn(2, 16, 64)
    assert torch.equal(neck(frames)[0], saved(frames)[0])
