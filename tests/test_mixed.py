"""Test our parts in MMAction2's recognizers, and MMAction2's parts in ours.

Results are compared with numbers by hand, and the models learn 16 clips to 100 %. A model with a
wrong axis may also run. Where numbers are compared, the sizes of the batch, the time, the height,
the width and the channels therefore all differ.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from mixed import Observer, PictureClips, accuracy, batch, digests, make_runner, settle, shipped
from reference import affine, align_dfer, dynamic_encoder, encode_prompts, under, unit
from safetensors.torch import load_file
from torch import Tensor, nn

from mmaction.registry import MODELS

from mmdfer import DFERError
from mmdfer.synthetic import small_clip

CLIP = dict(type='FrozenCLIP', arch='synth-clip')
HEADS = small_clip.config()['text_cfg']['heads']
CLIPS = 5  # in a batch that is compared with numbers by hand
FROZEN = {'backbone.frozen_stages': 4, 'backbone.norm_eval': True}


def stirred(model: nn.Module) -> nn.Module:
    """Draw the weights of neck and head, since initial zeros would hide wrong wiring."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not name.startswith('backbone'):
            nn.init.normal_(parameter, std=0.1, generator=generator)
    return model


def weights(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters by name, with gradients, including those of a frozen CLIP."""
    return dict(module.named_parameters())


def inputs(model: nn.Module, dataset: PictureClips) -> Tensor:
    """Return the model's input, (clips, T, C, H, W) or (clips, views, C, T, H, W)."""
    return model.data_preprocessor(batch(dataset, CLIPS))['inputs']


def probabilities(model: nn.Module, dataset: PictureClips, count: int = CLIPS) -> Tensor:
    """Return the probabilities (clips, classes) by MMAction2's test_step."""
    with torch.no_grad():
        return torch.stack([sample.pred_score for sample in model.test_step(batch(dataset, count))])


def assert_same(model: nn.Module, ours: Tensor, theirs: Tensor) -> None:
    """Check that logits (clips, classes) and the gradients of all trained weights are equal."""
    assert ours.shape == (CLIPS, 4)
    assert theirs.std(0).min() > 1e-2  # the clips differ
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    learned = {n: p for n, p in weights(model).items() if p.requires_grad}
    mine, others = (
        torch.autograd.grad(logits.square().sum(), [*learned.values()], allow_unused=True)
        for logits in (ours, theirs)
    )
    for name, a, b in zip(learned, mine, others, strict=True):
        assert (a is None) == (b is None), name
        if a is not None:
            scale = float(b.abs().max())
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * scale, msg=name)


# ------------------------------------------------------------------ FrozenCLIP in a TSN


def tsn_over_clip() -> nn.Module:
    """Build MMAction2's TSN with our image tower in place of its ResNet."""
    preprocessor = dict(_delete_=True, type='CLIPDataPreprocessor', format_shape='NCHW')
    backbone = dict(_delete_=True, **CLIP)
    return MODELS.build(
        shipped(
            'tsn_r50',
            backbone=backbone,
            data_preprocessor=preprocessor,
            **{'cls_head.in_channels': 128},
        )
    )


def test_frozen_clip_in_a_tsn_equals_open_clip_frame_by_frame() -> None:
    model = stirred(tsn_over_clip()).eval()
    dataset = PictureClips(frames=4, size=(64, 64))
    clip = open_clip.CLIP(**small_clip.config()).eval()
    clip.load_state_dict({k: v.float() for k, v in load_file(small_clip.weights_path()).items()})
    pixels = torch.stack(batch(dataset, CLIPS)['inputs']) / 255  # (5, 4, 3, 64, 64)
    mean, std = (
        torch.tensor(values)[:, None, None]
        for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    with torch.no_grad():
        ours = model(inputs(model, dataset), stage='backbone')
        frames = torch.stack(
            [clip.encode_image((f - mean) / std)[0] for f in pixels.flatten(0, 1)[:, None]]
        )
        assert ours.shape == (CLIPS * 4, 128, 1, 1)
        torch.testing.assert_close(ours[:, :, 0, 0], frames, rtol=1e-4, atol=1e-5)
        logits = affine(frames.view(CLIPS, 4, 128).mean(1), weights(model), 'cls_head.fc_cls')
        torch.testing.assert_close(
            model(inputs(model, dataset), stage='head'), logits, rtol=1e-4, atol=1e-5
        )
    torch.testing.assert_close(probabilities(model, dataset), logits.softmax(1))


def test_frozen_clip_in_a_tsn_learns_16_clips(tmp_path: Path) -> None:
    model = tsn_over_clip()
    clip = digests(model.backbone)
    dataset = dict(frames=2, size=(64, 64))
    optimizer = dict(optimizer=dict(type='AdamW', lr=1e-2))
    runner = make_runner(model, dataset, tmp_path, optimizer, max_iters=10)
    assert accuracy(runner) < 1
    runner.train()
    assert accuracy(runner) == 1
    assert digests(model.backbone) == clip


# ------------------------------------------------- MATHead outside CLIPRecognizer


@pytest.fixture(scope='session')
def narrow_clip(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Configure a CLIP whose text tower is narrower than the joint space: W = 48, D = 80."""
    path = tmp_path_factory.mktemp('clip') / 'narrow-clip.json'
    vision = dict(image_size=32, layers=1, width=64, patch_size=16)
    text = dict(context_length=16, vocab_size=49408, width=48, heads=3, layers=2)
    path.write_text(json.dumps(dict(embed_dim=80, vision_cfg=vision, text_cfg=text)))
    open_clip.add_model_config(path)
    return dict(type='FrozenCLIP', arch='narrow-clip', weights='random')


def mat_head(text: dict[str, Any]) -> dict[str, Any]:
    return dict(
        _delete_=True, type='MATHead', num_classes=4, num_sentences=3, num_tokens=6, text=text
    )


def mat_by_hand(head: nn.Module, pooled: Tensor, text_heads: int) -> Tensor:
    """Compute logits (clips, classes) from pooled features (clips, C)."""
    state = weights(head)
    clip = under(state, 'clip.clip.')
    tokens = state['tokens']
    start, stop, end = clip['token_embedding.weight'][head.clip.tokenizer(['.'])[0, :3]]
    classes = []
    for sentences in tokens:  # (S, T, W)
        prompts = torch.stack(
            [torch.cat([start[None], s, stop[None], end[None]]) for s in sentences]
        )
        vectors = encode_prompts(clip, prompts, tokens.shape[2] + 2, text_heads, quick_gelu=False)
        classes.append(unit(vectors).mean(0))  # a class is the mean of its sentences
    video = affine(pooled, state, 'projection')
    return clip['logit_scale'].exp() * unit(video) @ unit(torch.stack(classes)).T


def test_mat_over_a_resnet50_tsn_equals_numbers_by_hand() -> None:
    dataset = PictureClips(frames=4, size=(32, 64))
    config = shipped('tsn_r50', cls_head=dict(mat_head(CLIP), in_channels=2048))
    model = stirred(settle(MODELS.build(config), dataset))
    x = inputs(model, dataset)
    maps = model(x, stage='backbone')
    assert maps.shape == (CLIPS * 4, 2048, 1, 2)
    pooled = maps.view(CLIPS, 4, 2048, 1, 2).mean((1, 3, 4))
    logits = mat_by_hand(model.cls_head, pooled, HEADS)
    assert_same(model, model(x, stage='head'), logits)
    torch.testing.assert_close(
        probabilities(model, dataset), logits.softmax(1), rtol=1e-3, atol=1e-5
    )


def test_mat_over_slowonly_equals_numbers_by_hand(narrow_clip: dict[str, Any]) -> None:
    dataset = PictureClips(frames=12, size=(32, 64), layout='NCTHW', views=2)
    head = dict(mat_head(narrow_clip), in_channels=512)
    config = shipped('slowonly_r50', cls_head=head, **{'backbone.depth': 18})
    model = stirred(settle(MODELS.build(config), dataset))
    x = inputs(model, dataset)
    maps = model(x, stage='backbone')
    assert maps.shape == (CLIPS * 2, 512, 6, 1, 2)
    logits = mat_by_hand(model.cls_head, maps.mean((2, 3, 4)), text_heads=3)
    assert_same(model, model(x[:, 0, None], stage='head'), logits[::2])
    views = logits.softmax(1).view(CLIPS, 2, 4)
    torch.testing.assert_close(probabilities(model, dataset), views.mean(1), rtol=1e-3, atol=1e-5)


def test_mat_over_c3d_vectors_equals_numbers_by_hand(narrow_clip: dict[str, Any]) -> None:
    dataset = PictureClips(frames=16, layout='NCTHW')
    head = dict(mat_head(narrow_clip), in_channels=4096)
    options = {'backbone.out_dim': 2048, 'backbone.init_std': 0.02, 'cls_head': head}
    model = stirred(settle(MODELS.build(shipped('c3d_sports1m_pretrained', **options)), dataset))
    x = inputs(model, dataset)
    with torch.no_grad():
        vectors = model(x, stage='backbone')
        assert vectors.shape == (CLIPS, 4096)
        logits = mat_by_hand(model.cls_head, vectors, text_heads=3)
        assert logits.std(0).min() > 1e-2
    torch.testing.assert_close(
        probabilities(model, dataset), logits.softmax(1), rtol=1e-3, atol=1e-5
    )


def test_mat_over_a_resnet50_tsn_learns_16_clips(tmp_path: Path) -> None:
    dataset = dict(frames=2)
    config = shipped('tsn_r50', cls_head=dict(mat_head(CLIP), in_channels=2048), **FROZEN)
    model = settle(MODELS.build(config), PictureClips(**dataset))
    before = digests(model)
    optimizer = dict(optimizer=dict(type='AdamW', lr=1e-3))
    runner = make_runner(model, dataset, tmp_path, optimizer, max_iters=25)
    assert accuracy(runner) < 1
    runner.train()
    assert accuracy(runner) == 1
    after = digests(model)
    learned = {'cls_head.tokens', 'cls_head.projection.weight', 'cls_head.projection.bias'}
    assert {name for name in after if after[name] != before[name]} == learned


# -------------------------------------------------------------------------- JAS as a neck


def with_jas(
    kind: str,
    levels: Sequence[int] = (2, 3),
    dataset: PictureClips | None = None,
    neck: dict[str, Any] | None = None,
    **options: Any,
) -> nn.Module:
    """Build MMAction2's TSN ('tsn') or SlowOnly ('slowonly') of 18 layers, with JAS as neck."""
    jas = dict(type='JAS', dims=128, in_channels=512, num_frames=6)
    config = shipped(
        f'{kind}_r50',
        neck={**jas, **(neck or {})},
        **{'backbone.depth': 18, 'backbone.out_indices': levels, 'cls_head.in_channels': 128},
        **options,
    )
    model = MODELS.build(config)
    return model if dataset is None else settle(model, dataset)


def frames_by_hand(model: nn.Module, feature: Tensor, clips: int) -> Tensor:
    """Pool one level of the backbone over space and project it to (clips, T, D)."""
    if feature.ndim == 4:  # Recognizer2D: (clips * T, C, h, w)
        pooled = feature.mean((2, 3)).view(clips, -1, feature.shape[1])
    else:  # Recognizer3D: (clips, C, T, h, w)
        pooled = feature.mean((3, 4)).permute(0, 2, 1)
    return affine(pooled, weights(model.neck), 'projection')


JAS_FORMS = [
    pytest.param(kind, levels, index, channels, learned, id=f'{kind}-{levels}-{index}-{learned}')
    for kind in ('tsn', 'slowonly')
    for levels, index, channels, learned in [((2, 3), -1, 512, 6), ((2, 3), 0, 256, 9)]
] + [pytest.param('slowonly', (3,), -1, 512, 6, id='slowonly-one-map')]


@pytest.mark.parametrize(('kind', 'levels', 'index', 'channels', 'learned'), JAS_FORMS)
def test_jas_as_a_neck_equals_numbers_by_hand(kind, levels, index, channels, learned) -> None:
    layout = 'NCHW' if kind == 'tsn' else 'NCTHW'
    dataset = PictureClips('order', frames=6, size=(32, 64), layout=layout)
    neck = dict(in_channels=channels, in_index=index, num_frames=learned)
    model = stirred(with_jas(kind, levels, dataset, neck))
    x = inputs(model, dataset)
    level = model(x, stage='backbone')
    level = level if isinstance(level, Tensor) else level[index]
    frames = frames_by_hand(model, level, CLIPS)
    assert frames.shape == (CLIPS, 6, 128)
    video = dynamic_encoder(under(weights(model.neck), 'joint_encoder.'), frames, 4)
    logits = affine(video, weights(model), 'cls_head.fc_cls')
    assert_same(model, model(x, stage='head'), logits)
    torch.testing.assert_close(
        probabilities(model, dataset), logits.softmax(1), rtol=1e-3, atol=1e-4
    )
    # The plain mean over time gives other logits, so the encoder has an effect.
    assert (affine(frames.mean(1), weights(model), 'cls_head.fc_cls') - logits).abs().max() > 0.1


@pytest.mark.parametrize('kind', ['tsn', 'slowonly'])
def test_jas_as_a_neck_learns_the_order_of_frames(kind: str, tmp_path: Path) -> None:
    """Learn eight clips and their reverses with a backbone that reads each frame separately."""
    layout = 'NCHW' if kind == 'tsn' else 'NCTHW'
    dataset = dict(kind='order', frames=6, layout=layout)
    options = {**FROZEN, 'cls_head.num_classes': 2, 'cls_head.dropout_ratio': 0.0}
    if kind == 'slowonly':
        options['backbone.inflate'] = (0, 0, 0, 0)
    clips = PictureClips(**dataset)
    model = with_jas(kind, dataset=clips, **options)

    def gap() -> float:
        """Return the largest difference of probabilities between a clip and its reverse."""
        pairs = probabilities(model, clips, 16).view(8, 2, -1)
        return float((pairs[:, 0] - pairs[:, 1]).abs().max())

    # Before training JAS is the plain mean, which cannot tell a clip from its reverse.
    assert gap() < 1e-5
    optimizer = dict(
        optimizer=dict(type='AdamW', lr=1e-3),
        paramwise_cfg=dict(custom_keys=dict(position=dict(lr_mult=20))),
        clip_grad=dict(max_norm=1),
    )
    runner = make_runner(model, dataset, tmp_path, optimizer, max_iters=30)
    runner.train()
    assert accuracy(runner) == 1
    assert gap() > 0.5
    model.neck.set_stage('text')  # the plain mean again, with the trained weights
    model.eval()
    assert gap() < 1e-5


@pytest.mark.parametrize('mode', ['loss', 'predict'])
def test_a_single_map_under_recognizer2d_is_refused_with_the_remedy(mode: str) -> None:
    model = with_jas('tsn', levels=(3,))
    data = model.data_preprocessor(batch(PictureClips(frames=4), CLIPS))
    with pytest.raises(DFERError, match='Recognizer2D .* two or more out_indices') as error:
        model(**data, mode=mode)
    assert '\n' not in str(error.value)


def test_maps_without_in_channels_are_refused_with_the_remedy() -> None:
    model = with_jas('slowonly', neck=dict(in_channels=None))
    data = model.data_preprocessor(batch(PictureClips(frames=4, layout='NCTHW'), CLIPS))
    with pytest.raises(DFERError, match='set in_channels=512'):
        model(**data, mode='loss')


# ------------------------------------------------------------------- BAPHook on a stock TSN

STAGES = [
    dict(name='head', epochs=3, trains=[r'cls_head\.']),
    dict(name='top', epochs=5, trains=[r'backbone\.layer4\.', r'cls_head\.']),
]
SGD = dict(optimizer=dict(type='SGD', lr=0.02, momentum=0.9))


def bap(stages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return dict(type='BAPHook', stages=stages)


def plain_tsn(dataset: PictureClips) -> nn.Module:
    options = {'backbone.depth': 18, 'cls_head.in_channels': 512}
    return settle(MODELS.build(shipped('tsn_r50', **options)), dataset)


def test_bap_trains_a_tsn_in_two_stages_of_its_own(tmp_path: Path) -> None:
    model = plain_tsn(PictureClips())
    observer = Observer()
    hooks = [bap(STAGES), observer]
    runner = make_runner(model, {}, tmp_path, SGD, hooks, batch_size=8, max_epochs=8)
    start = digests(model)
    runner.train()
    names = set(start)
    head = {'cls_head.fc_cls.weight', 'cls_head.fc_cls.bias'}
    top = head | {name for name in names if name.startswith('backbone.layer4.')}
    assert any('running_mean' in name for name in top)  # the buffers of BatchNorm are included
    assert observer.digests[0] == start
    assert observer.changed(0, 3) == head
    assert observer.changed(3, 8) == top
    for epoch in range(8):  # the same holds for each single epoch
        assert observer.changed(epoch, epoch + 1) == (head if epoch < 3 else top)

    learned = {name for name, _ in model.named_parameters()} & top
    for epoch, (before, after) in enumerate(observer.momenta):
        assert after == (head if epoch < 3 else learned)
        assert before == (set() if epoch in (0, 3) else after)

    for epoch, modules in enumerate(observer.in_train):
        assert not {'backbone.conv1.bn', 'backbone.layer3.1.conv2.bn'} & modules
        assert ('backbone.layer4.1.conv2.bn' in modules) == (epoch >= 3)
        assert 'cls_head.dropout' in modules
    assert accuracy(runner) == 1


def test_bap_leaves_frozen_what_was_frozen_when_built(tmp_path: Path) -> None:
    """Match the whole head by a pattern, which also matches the head's frozen CLIP."""
    dataset = dict(frames=2)
    head = dict(mat_head(CLIP), in_channels=512)
    model = settle(
        MODELS.build(shipped('tsn_r50', cls_head=head, **{'backbone.depth': 18})),
        PictureClips(**dataset),
    )
    start = digests(model)
    stages = [dict(name='head', epochs=1, trains=[r'cls_head\.'])]
    runner = make_runner(model, dataset, tmp_path, SGD, [bap(stages)], max_epochs=1)
    runner.train()
    learned = {'cls_head.tokens', 'cls_head.projection.weight', 'cls_head.projection.bias'}
    after = digests(model)
    assert {name for name in after if after[name] != start[name]} == learned


@pytest.mark.parametrize(
    ('stages', 'words'),
    [
        (
            [STAGES[0], dict(STAGES[1], trains=[r'backbone\.layer5\.'])],
            r"'top': trains='backbone\\\\.layer5\\\\.' matches no parameter\. .* cls_head\.fc_cls",
        ),
        (STAGES[:1], r'the stages last 3 = 3 epochs, but train_cfg\.max_epochs is 8'),
        ([STAGES[0], dict(STAGES[1], epochs=6)], r'3 \+ 6 = 9 epochs, .*max_epochs is 8'),
    ],
    ids=['regex', 'too-short', 'too-long'],
)
def test_stages_that_do_not_fit_a_tsn_end_the_run(
    stages: list[dict[str, Any]], words: str, tmp_path: Path
) -> None:
    options = {'backbone.depth': 18, 'cls_head.in_channels': 512}
    config = shipped('tsn_r50', **options)
    runner = make_runner(config, {}, tmp_path, SGD, [bap(stages)], max_epochs=8)
    with pytest.raises(DFERError, match=words) as error:
        runner.train()
    assert '\n' not in str(error.value)


# ------------------------------------------------------- both kinds of recognizer, one process


def clip_recognizer() -> dict[str, Any]:
    head = dict(type='MATHead', num_classes=4, num_sentences=3, num_tokens=6)
    neck = dict(type='JAS', num_frames=5)
    return dict(type='CLIPRecognizer', backbone=CLIP, neck=neck, cls_head=head)


def test_clip_recognizer_from_pixels_equals_numbers_by_hand() -> None:
    model = stirred(MODELS.build(clip_recognizer())).eval()
    dataset = PictureClips('order', frames=10, size=(64, 64), layout='NCTHW', views=2)
    x = inputs(model, dataset)
    assert x.shape == (CLIPS, 2, 3, 5, 64, 64)
    clip = {name: tensor.detach() for name, tensor in weights(model.backbone.clip).items()}
    fixed = clip['token_embedding.weight'][model.backbone.tokenizer(['.'])[0, :3]]
    scale = clip['logit_scale'].exp()
    with torch.no_grad():
        frames = torch.stack(
            [
                torch.cat([model.backbone.clip.encode_image(v[None, :, t]) for t in range(5)])
                for v in x.flatten(0, 1)
            ]
        )  # (clips * views, T, D), encoded image by image
        neck, tokens = weights(model.neck), model.cls_head.tokens
        logits = align_dfer(clip, neck, tokens, fixed, frames, 'joint', 4, HEADS, False, scale)
        assert logits.std(0).min() > 1e-2
        torch.testing.assert_close(
            model(x, stage='head').flatten(0, -2), logits, rtol=1e-4, atol=1e-4
        )
    views = logits.softmax(1).view(CLIPS, 2, 4).mean(1)
    torch.testing.assert_close(probabilities(model, dataset), views, rtol=1e-3, atol=1e-5)


def test_clip_recognizer_and_tsn_train_by_turns(tmp_path: Path) -> None:
    """Train a TSN before and after a CLIPRecognizer, with bit-identical results."""

    def run_tsn(folder: str) -> tuple[dict[str, str], float]:
        torch.manual_seed(0)
        model = plain_tsn(PictureClips(frames=2))
        runner = make_runner(model, dict(frames=2), tmp_path / folder, SGD, max_iters=2)
        runner.train()
        return digests(model), float(probabilities(model.eval(), PictureClips(frames=2)).sum())

    first = run_tsn('tsn_1')
    dataset = dict(frames=2, size=(64, 64), layout='NCTHW')
    optimizer = dict(optimizer=dict(type='AdamW', lr=1e-4), clip_grad=dict(max_norm=1))
    model = MODELS.build(clip_recognizer())
    runner = make_runner(model, dataset, tmp_path / 'clip', optimizer, max_iters=25)
    clip = digests(runner.model.backbone)
    assert accuracy(runner) < 1
    runner.train()
    assert accuracy(runner) == 1
    assert digests(runner.model.backbone) == clip
    assert run_tsn('tsn_2') == first
