"""Test the adapters of CLIP's towers against their formulas, and what trains, is saved and refused.

The towers are those of the small ViT CLIP with random weights, on clips of three frames.
"""

from __future__ import annotations

import copy
import hashlib
import json
import socket
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.runner.checkpoint import get_state_dict, load_state_dict
from reference import encode_image, encode_prompts
from references import adapters as reference
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample

import mmdfer  # noqa: F401  registers everything, in the ranks too
from mmdfer.engine import BAPHook
from mmdfer.errors import DFERError
from mmdfer.features.dataset_config import without_features
from mmdfer.features.encoder import FeatureEncoder
from mmdfer.inference import build_clip_model
from mmdfer.models import AIMAdapter, CLIPRecognizer, FrozenCLIP, FRUAdapter, LoRA
from mmdfer.models.backbones.clip_weights import hash_weights
from mmdfer.models.heads.class_descriptions import DESCRIPTIONS
from mmdfer.synthetic import small_clip

ARCH, FRAMES, SIZE = 'synth-clip-vit', 3, 64
CLASSES = tuple(DESCRIPTIONS)[:7]
ADAPTERS = dict(
    AIM=dict(type='AIMAdapter', width=8, num_frames=FRAMES),
    FRU=dict(type='FRUAdapter', width=8, num_frames=FRAMES),
    FRU_mlp=dict(type='FRUAdapter', width=8, num_frames=FRAMES, beside='mlp'),
    LoRA=dict(type='LoRA', rank=2, alpha=3),
)
TEXT = dict(type='LoRA', rank=2)
HEADS = dict(
    coop=dict(cls_head=dict(type='CoOpHead', classes=CLASSES, num_tokens=3)),
    align_dfer=dict(
        neck=dict(type='JAS', num_frames=FRAMES, num_sentences=2),
        cls_head=dict(type='MATHead', num_classes=7, num_sentences=2, num_tokens=3),
    ),
    dfer_clip=dict(
        neck=dict(type='TemporalTransformer', mlp=16, num_frames=FRAMES),
        cls_head=dict(type='DFERCLIPHead', classes=CLASSES, num_tokens=2, temperature=0.01),
        normalize_frames=False,
    ),
)


def backbone(kind: str | None, text: bool = False, **options: Any) -> dict[str, Any]:
    adapter, text_adapter = kind and ADAPTERS[kind], TEXT if text else None
    adapters = dict(adapter=adapter, text_adapter=text_adapter)
    return dict(type='FrozenCLIP', arch=ARCH, weights='random', **adapters, **options)


def build(kind: str | None, text: bool = False, **options: Any) -> FrozenCLIP:
    torch.manual_seed(0)
    return MODELS.build(backbone(kind, text, **options))


def recognizer(head: str, kind: str | None, text: bool = False, **options: Any) -> CLIPRecognizer:
    torch.manual_seed(0)
    config = dict(type='CLIPRecognizer', backbone=backbone(kind, text, **options), **HEADS[head])
    model = MODELS.build(config)
    if head == 'align_dfer':
        model.neck.set_stage('joint')
    return model.train()


def own_parameters(clip: FrozenCLIP) -> dict[str, nn.Parameter]:
    """Return the parameters of both adapters by name."""
    named = clip.named_parameters()
    return {name: p for name, p in named if name.startswith(('adapter.', 'text_adapter.'))}


def stir(clip: FrozenCLIP) -> FrozenCLIP:
    """Draw all parameters of the adapters at random, since initial zeros would hide errors."""
    generator = torch.Generator().manual_seed(3)
    for parameter in own_parameters(clip).values():
        nn.init.normal_(parameter, std=0.2, generator=generator)
    return clip


def clips(count: int = 2, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draw normalised clips (count, 3, T, H, W)."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, FRAMES, SIZE, SIZE, generator=generator, dtype=dtype)


def items(count: int) -> list[dict[str, Any]]:
    """Draw clips of a dataset, with labels."""
    rng = np.random.default_rng(0)
    frames = rng.integers(256, size=(count, 1, 3, FRAMES, SIZE, SIZE), dtype=np.uint8)
    return [
        dict(inputs=torch.from_numpy(f), data_samples=ActionDataSample().set_gt_label(i % 7))
        for i, f in enumerate(frames)
    ]


def digests(model: nn.Module) -> dict[str, str]:
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    return {n: hashlib.sha256(t.detach().numpy().tobytes()).hexdigest() for n, t in tensors.items()}


def plain_state(clip: FrozenCLIP) -> dict[str, Tensor]:
    """Return the frozen weights under open_clip's names, which LoRA changes."""
    state = clip.clip.state_dict()
    return {
        name.replace('parametrizations.', '').removesuffix('.original'): tensor.detach()
        for name, tensor in state.items()
    }


# ---------------------------------------------------------------- what an adapted tower computes


@pytest.mark.parametrize('kind', ADAPTERS)
def test_the_image_tower_starts_as_clip(kind: str) -> None:
    with torch.no_grad():
        expected, found = build(None)(clips()), build(kind)(clips())
        assert found.shape == (2, FRAMES, 128)
        assert (found - expected).abs().max() <= 1e-5
        assert (stir(build(kind))(clips()) - expected).abs().max() > 1e-2


def test_the_text_tower_starts_as_clip() -> None:
    texts = ['a face with brow lowerer.', 'no']
    with torch.no_grad():
        expected, found = build(None).encode_text(texts), build(None, text=True).encode_text(texts)
        assert (found - expected).abs().max() <= 1e-5
        changed = stir(build(None, text=True)).encode_text(texts)
        assert (changed - expected).abs().max() > 1e-2


def run_block(kind: str, adapter: dict[str, Tensor], heads: int, quick: bool) -> Callable:
    """Return the reference's function for a block of the tower with its adapter."""

    def run(number: int, block: dict[str, Tensor], x: Tensor) -> Tensor:
        own = reference.under(adapter, f'blocks.{number}.')
        if kind == 'AIM':
            return reference.aim_block(x, block, own, heads, quick)
        beside = ADAPTERS[kind].get('beside', 'block')
        return reference.fru_block(x, block, own, heads, quick, beside)

    return run


@pytest.mark.parametrize('kind', ['AIM', 'FRU', 'FRU_mlp'])
def test_frames_and_gradients_equal_the_formulas(kind: str) -> None:
    clip = stir(build(kind)).double()
    images = clips(dtype=torch.float64).requires_grad_()
    weights = torch.randn(2, FRAMES, 128, dtype=torch.float64)
    found = clip(images)
    ours = torch.autograd.grad((found * weights).sum(), [images, *clip.adapter.parameters()])

    state = {name: p.detach().requires_grad_() for name, p in clip.adapter.named_parameters()}
    positions = state.get('position', torch.zeros(FRAMES, 1, dtype=torch.float64))
    config = small_clip.config(ARCH)
    heads = config['vision_cfg']['width'] // config['vision_cfg']['head_width']
    run = run_block(kind, state, heads, bool(config.get('quick_gelu')))
    frames = images.detach().transpose(1, 2).requires_grad_()
    expected = reference.encode_frames(plain_state(clip), frames, positions, run)
    images_grad, *theirs = torch.autograd.grad(
        (expected * weights).sum(), [frames, *state.values()]
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    for name, a, b in zip(
        ['images', *state], ours, [images_grad.transpose(1, 2), *theirs], strict=True
    ):
        assert (a - b).abs().max() <= 1e-9 * max(1, float(b.abs().max())), name
        assert b.abs().max() > 0, name


@pytest.mark.parametrize('tower', ['image', 'text'])
def test_lora_and_its_gradients_equal_the_formula(tower: str) -> None:
    is_image = tower == 'image'
    clip = stir(build('LoRA' if is_image else None, text=not is_image)).double()
    adapter, prefix = (clip.adapter, 'visual.') if is_image else (clip.text_adapter, '')
    alpha = 3 if is_image else 2  # the default is the rank, 2
    images = clips(1, torch.float64)
    prompts = 0.1 * torch.randn(4, 7, clip.text_width, dtype=torch.float64)
    found = clip(images)[0] if is_image else clip.encode_prompts(prompts, 5)
    weights = torch.randn_like(found)
    ours = torch.autograd.grad((found * weights).sum(), list(adapter.parameters()))

    own = {name: p.detach().requires_grad_() for name, p in adapter.named_parameters()}
    state, config = plain_state(clip), small_clip.config(ARCH)
    quick = bool(config.get('quick_gelu'))
    for number in range(len(adapter.blocks)):
        for part, weight in (('in_proj', 'in_proj_weight'), ('out_proj', 'out_proj.weight')):
            name = f'{prefix}transformer.resblocks.{number}.attn.{weight}'
            low = reference.under(own, f'blocks.{number}.{part}.')
            state[name] = reference.lora_weight(state[name], low['down'], low['up'], alpha)
    if is_image:
        heads = config['vision_cfg']['width'] // config['vision_cfg']['head_width']
        expected = encode_image(state, images[0].transpose(0, 1), heads, quick)
    else:
        expected = encode_prompts(state, prompts, 5, config['text_cfg']['heads'], quick)
    theirs = torch.autograd.grad((expected * weights).sum(), list(own.values()))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    for name, a, b in zip(own, ours, theirs, strict=True):
        assert (a - b).abs().max() <= 1e-9 * max(1, float(b.abs().max())), name
        assert b.abs().max() > 0, name


def test_many_clips_pass_in_parts_of_whole_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = stir(build('AIM'))
    with torch.no_grad():
        whole = clip(clips(4))
        for limit in (2, 7):  # below one clip, and between two and three clips
            monkeypatch.setattr('mmdfer.models.backbones.frozen_clip.IMAGES_PER_PASS', limit)
            torch.testing.assert_close(clip(clips(4)), whole, rtol=0, atol=1e-5)


def test_only_lora_leaves_the_frames_apart() -> None:
    swapped = clips()[:, :, [0, 2, 1]]
    for kind in ADAPTERS:
        clip = stir(build(kind))
        assert clip.mixes_frames == (kind != 'LoRA')
        with torch.no_grad():
            first = clip(clips())[:, 0], clip(swapped)[:, 0]
        assert torch.allclose(*first, atol=1e-5) == (kind == 'LoRA')


@pytest.mark.parametrize('kind', ADAPTERS)
def test_checkpointing_changes_no_bit_of_the_gradients(kind: str) -> None:
    found = []
    for checkpointing in (False, True):
        clip = stir(build(kind, text=True, checkpointing=checkpointing, trains=[r'visual\.proj']))
        embeddings = clip.embed(clip.tokenizer(['a face', 'no']))
        (
            clip(clips()).square().sum() + clip.encode_prompts(embeddings, 5).square().sum()
        ).backward()
        found.append({n: p.grad for n, p in clip.named_parameters() if p.requires_grad})
    assert set(own_parameters(clip)) | {'clip.visual.proj'} == set(found[0])
    assert all(torch.equal(gradient, found[1][name]) for name, gradient in found[0].items())


@pytest.mark.parametrize('kind', ADAPTERS)
def test_adapters_run_under_autocast(kind: str) -> None:
    clip = build(kind)
    with torch.no_grad():
        expected = build(None)(clips())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        vectors = clip(clips())
    assert (vectors - expected).abs().max() <= 3e-2 * expected.abs().max()
    vectors.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in clip.adapter.parameters())


def test_checkpointing_keeps_less_for_the_backward_pass() -> None:
    kept = []
    for checkpointing in (False, True):
        clip, sizes = build('AIM', checkpointing=checkpointing), []

        def keep(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            clip(clips())
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 5


def test_the_fast_path_notices_adapters() -> None:
    plain = build(None)
    assert plain._image_tower.applies and plain._text_tower.applies
    for kind in ADAPTERS:
        clip = build(kind)
        assert not clip._image_tower.applies and clip._text_tower.applies
        clip.requires_grad_(False)  # as in a stage that trains another part
        assert not clip._image_tower.applies
    clip = build(None, text=True).requires_grad_(False)
    assert clip._image_tower.applies and not clip._text_tower.applies


def test_a_copy_has_its_own_adapter() -> None:
    clip = build('LoRA', text=True)
    other = stir(copy.deepcopy(clip))
    with torch.no_grad():
        assert torch.equal(clip(clips()), build('LoRA')(clips()))
        assert not torch.allclose(other(clips()), clip(clips()), atol=1e-2)


# ---------------------------------------------------------------- what trains and what is saved


def train(model: CLIPRecognizer, steps: int) -> dict[str, float]:
    """Train a few steps, and return the largest gradient that each parameter has had."""
    wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-2))
    largest: dict[str, float] = {}

    def read(*_: Any) -> None:
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                size = float(parameter.grad.abs().max())
                largest[name] = max(size, largest.get(name, 0.0))

    wrapper.optimizer.register_step_pre_hook(read)
    for _ in range(steps):
        model.train_step(pseudo_collate(items(4)), wrapper)
    names = {p: name for name, p in model.named_parameters()}
    assert {names[p] for p in wrapper.optimizer.state} == set(largest)
    return largest


@pytest.mark.parametrize('kind', ADAPTERS)
def test_three_steps_train_every_adapter_parameter_and_nothing_frozen(kind: str) -> None:
    model = recognizer('coop', kind, text=True)
    before, identity = digests(model), model.backbone.identity
    largest = train(model, 3)
    changed = {name for name, digest in digests(model).items() if digest != before[name]}
    own = {f'backbone.{name}' for name in own_parameters(model.backbone)}
    assert changed == own | {'cls_head.tokens'} == set(largest)
    assert min(largest.values()) > 0, min(largest, key=largest.__getitem__)
    assert model.backbone.identity == identity == build(None).identity
    frozen = nn.Module()
    for name, tensor in plain_state(model.backbone).items():
        frozen.register_buffer(name.replace('.', '/'), tensor)
    plain = nn.Module()
    for name, tensor in build(None).clip.state_dict().items():
        plain.register_buffer(name.replace('.', '/'), tensor)
    assert hash_weights(frozen) == hash_weights(plain)
    with torch.no_grad():
        assert not torch.allclose(model.backbone(clips()), build(None)(clips()), atol=1e-3)


@pytest.mark.parametrize('load', [nn.Module.load_state_dict, load_state_dict])
@pytest.mark.parametrize('kind', ADAPTERS)
def test_a_checkpoint_has_the_adapters_and_loads_again(kind: str, load: Callable) -> None:
    model = recognizer('coop', kind, text=True)
    train(model, 2)
    state = model.state_dict()
    own = {f'backbone.{name}' for name in own_parameters(model.backbone)}
    saved = {name for name in state if name.startswith('backbone.')}
    assert saved == own | {'backbone.identity'}
    assert set(get_state_dict(model)) == set(state)  # mmengine's own way of saving
    fresh = recognizer('coop', kind, text=True)
    load(fresh, copy.copy(state), strict=True)
    samples = [ActionDataSample() for _ in range(2)]
    with torch.no_grad():
        scores = [
            m.eval()(clips()[:, None], copy.deepcopy(samples), mode='predict')
            for m in (model, fresh)
        ]
    for a, b in zip(*scores, strict=True):
        assert torch.equal(a.pred_score, b.pred_score)


def test_another_adapter_is_refused_and_none_is_a_start() -> None:
    state = build('AIM').state_dict()
    for other, words in (
        (build('FRU'), 'FRUAdapter'),
        (build(None), 'none'),
        (MODELS.build(backbone(None) | dict(adapter=ADAPTERS['AIM'] | dict(width=4))), 'AIM'),
    ):
        with pytest.raises(DFERError, match=rf'{words}.*model\.backbone\.adapter') as error:
            other.load_state_dict(copy.copy(state))
        assert '\n' not in str(error.value)
    for kind, changed in (('LoRA', dict(alpha=None)), ('FRU', dict(beside='mlp'))):
        other = MODELS.build(backbone(None) | dict(adapter=ADAPTERS[kind] | changed))
        with pytest.raises(DFERError, match=r'model\.backbone\.adapter'):  # the shapes are equal
            other.load_state_dict(build(kind).state_dict())
    with pytest.raises(DFERError, match='text_adapter'):
        build('LoRA').load_state_dict(build('LoRA', text=True).state_dict())
    missing, unexpected = build('AIM').load_state_dict(build(None).state_dict(), strict=False)
    assert set(missing) == set(own_parameters(build('AIM'))) and not unexpected


def test_a_tower_that_was_trained_is_a_start_of_lora() -> None:
    trained, fresh = build(None, trains=['visual']), build('LoRA', trains=['visual'])
    with torch.no_grad():
        for parameter in trained.clip.visual.parameters():
            parameter.add_(0.01)
    missing, unexpected = fresh.load_state_dict(trained.state_dict(), strict=False)
    assert not unexpected and all('adapter' in name for name in missing)
    with torch.no_grad():
        torch.testing.assert_close(fresh(clips()), trained(clips()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('head', HEADS)
@pytest.mark.parametrize('kind', ADAPTERS)
def test_each_head_takes_a_step_with_adapters(head: str, kind: str) -> None:
    model = recognizer(head, kind, text=True)
    before = digests(model)
    largest = train(model, 1)
    changed = {name for name, digest in digests(model).items() if digest != before[name]}
    assert changed <= set(largest)
    for part in ('backbone.adapter.', 'backbone.text_adapter.', 'cls_head.'):
        assert any(name.startswith(part) for name in changed), part


def test_class_vectors_follow_the_text_adapter() -> None:
    model = recognizer('coop', None, text=True).eval().requires_grad_(False)
    with torch.no_grad():
        first = model.class_vectors()
        assert model.class_vectors() is first
        stir(model.backbone)
        assert not torch.allclose(model.class_vectors(), first, atol=1e-3)


class Digests(Hook):
    """Record the digests of all tensors after each epoch."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []

    def before_train(self, runner: Runner) -> None:
        self.seen.append(digests(runner.model))

    def after_train_epoch(self, runner: Runner) -> None:
        self.seen.append(digests(runner.model))


@pytest.mark.parametrize('kind', ['AIM', 'LoRA'])
def test_a_stage_trains_adapters(kind: str, tmp_path: Path) -> None:
    model, hook = recognizer('coop', kind, text=True), Digests()
    adapters = r'backbone\.(text_)?adapter\.'  # the pattern of docs/methods.md
    stages = [
        dict(name='tokens', epochs=1, trains=[r'cls_head\.tokens']),
        dict(name='adapters', epochs=1, trains=[adapters]),
        dict(name='image', epochs=1, trains=[r'backbone\.adapter\.']),
    ]
    Runner(
        model,
        str(tmp_path),
        train_dataloader=DataLoader(items(4), batch_size=2, collate_fn=pseudo_collate),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        optim_wrapper=OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-2)),
        default_hooks=dict(logger=None, checkpoint=None),
        custom_hooks=[BAPHook(stages), hook],
        default_scope='mmaction',
        log_level='ERROR',
        experiment_name=f'adapters_{kind}',
    ).train()
    changed = [
        {name for name, digest in after.items() if digest != before[name]}
        for before, after in zip(hook.seen, hook.seen[1:])
    ]
    names = {f'backbone.{name}' for name in own_parameters(model.backbone)}
    assert changed[0] == {'cls_head.tokens'}
    assert changed[1] == names
    assert changed[2] == {name for name in names if name.startswith('backbone.adapter.')}


# ---------------------------------------------------------------- two ranks

CASES = [('align_dfer', 'AIM'), ('coop', 'FRU'), ('dfer_clip', 'LoRA')]


def gradients(model: CLIPRecognizer, wrapped: nn.Module, mine: slice) -> dict[str, Tensor]:
    """Take a step on some of the clips, and return the gradients that the optimizer gets."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found: dict[str, Tensor] = {}
    optimizer.register_step_pre_hook(
        lambda *_: found.update(
            {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        )
    )
    wrapped.train_step(pseudo_collate(items(4)[mine]), OptimWrapper(optimizer))
    return found


def stirred(head: str, kind: str) -> CLIPRecognizer:
    model = recognizer(head, kind, text=True)
    stir(model.backbone)
    return model


def run_rank(rank: int, port: int, out: str) -> None:
    """Take one step in each case as one of two ranks, and save the gradients."""
    torch.set_num_threads(1)
    init_default_scope('mmaction')
    torch.distributed.init_process_group(
        'gloo',
        init_method=f'tcp://127.0.0.1:{port}',
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=300),
    )
    found = []
    for case in CASES:
        model = stirred(*case)
        wrapped = MMDistributedDataParallel(model, find_unused_parameters=True)
        found.append(gradients(model, wrapped, slice(rank, None, 2)))
    torch.save(found, f'{out}/{rank}.pth')
    torch.distributed.barrier()


def test_two_ranks_have_the_gradients_of_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(run_rank, (port, str(tmp_path)), nprocs=2)
    ranks = [torch.load(tmp_path / f'{rank}.pth', weights_only=True) for rank in range(2)]
    for number, case in enumerate(CASES):
        model = stirred(*case)
        one = gradients(model, model, slice(None))
        assert {f'backbone.{name}' for name in own_parameters(model.backbone)} <= set(one)
        for name, gradient in one.items():
            for rank in ranks:
                error = (rank[number][name] - gradient).norm()
                # JAS adds and subtracts its positions, so their gradient may be zero.
                assert error <= 1e-5 * gradient.norm(), (case, name, float(error))


# ---------------------------------------------------------------- inputs, features and films


@pytest.mark.parametrize('kind', ['AIM', 'FRU'])
def test_images_and_other_lengths_are_refused(kind: str) -> None:
    clip, name = build(kind), ADAPTERS[kind]['type']
    for x, words in (
        (clips()[:, :, 0], f'{name} mixes the frames .* LoRA'),
        (clips()[:, :, :2], f'{name} has num_frames=3, but the clips have 2 frames: .*=2'),
    ):
        with pytest.raises(DFERError, match=words) as error:
            clip(x)
        assert '\n' not in str(error.value)


def test_recognizer2d_trains_lora() -> None:
    model = MODELS.build(
        dict(
            type='Recognizer2D',
            backbone=backbone('LoRA'),
            cls_head=dict(type='TSNHead', num_classes=7, in_channels=128, spatial_type='avg'),
            data_preprocessor=dict(type='CLIPDataPreprocessor', format_shape='NCHW'),
        )
    )
    samples = [ActionDataSample().set_gt_label(label) for label in (1, 4)]
    losses = model(clips().transpose(1, 2).contiguous(), samples, mode='loss')
    losses['loss_cls'].backward()
    ups = {n: p.grad for n, p in model.backbone.adapter.named_parameters() if n.endswith('up')}
    assert len(ups) == 8 and all(gradient.abs().max() > 0 for gradient in ups.values())


@pytest.mark.parametrize('kind', ADAPTERS)
def test_features_of_an_adapted_image_tower_are_refused(kind: str) -> None:
    clip = build(kind)
    assert clip.trains_frames and clip.requires_grad_(False).trains_frames
    with pytest.raises(DFERError, match='EncodedClips: .*adapter') as error:
        FeatureEncoder(backbone(kind))
    assert '\n' not in str(error.value)
    model = recognizer('coop', kind)
    with pytest.raises(DFERError, match=r'backbone\.adapter'):
        model(features=torch.zeros(1, 1, FRAMES, 128), encoder='0')


def test_a_text_adapter_trains_on_features() -> None:
    encoder, model = FeatureEncoder(backbone(None, text=True)), recognizer('coop', None, text=True)
    batch = pseudo_collate(items(4))
    features = encoder(batch['inputs'])
    batch = dict(
        features=list(features),
        encoder=[encoder.digest] * 4,
        data_samples=batch['data_samples'],
    )
    before = digests(model)
    model.train_step(batch, OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)))
    changed = {name for name, digest in digests(model).items() if digest != before[name]}
    ups = {f'backbone.{name}' for name in own_parameters(model.backbone) if name.endswith('up')}
    assert changed == ups | {'cls_head.tokens'}


@pytest.mark.parametrize('kind', ['AIMAdapter', 'LoRA'])
def test_films_are_encoded_in_windows_where_frames_are_mixed(kind: str) -> None:
    from test_clip_model import reference as score_window

    config = Config.fromfile(ROOT / 'configs' / 'align_dfer_synth.py')
    config.model.backbone = backbone(None) | dict(adapter=dict(type=kind))
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    stir(model.backbone)
    model.cls_head.set_classes(CLASSES)
    pipeline = list(without_features(config.test_dataloader.dataset).pipeline)
    films = build_clip_model(model, pipeline)
    assert films.window == 16 and films.encodes_frames == (kind == 'LoRA')
    rng = np.random.default_rng(0)
    crops = list(rng.integers(256, size=(18, 80, 80, 3), dtype=np.uint8))
    encoded = films.encode(crops)
    scores = films.classify([encoded[:16], encoded[2:]])
    for start, score in zip((0, 2), scores, strict=True):
        expected = score_window(model, pipeline, crops[start : start + 16])
        torch.testing.assert_close(score, expected, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- what is refused when it is built


@pytest.fixture
def average_pool(tmp_path: Path) -> str:
    """Register a tiny architecture whose image tower reads the mean of its tokens."""
    vision = dict(image_size=32, patch_size=16, width=64, layers=1, pool_type='avg')
    text = dict(context_length=77, vocab_size=49408, width=16, heads=1, layers=1)
    config = dict(embed_dim=16, vision_cfg=vision, text_cfg=text)
    path = tmp_path / 'average-pool-vit.json'
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    return path.stem


@pytest.mark.parametrize('kind', ADAPTERS)
def test_other_towers_are_refused(kind: str, average_pool: str) -> None:
    for arch, tower in (('synth-clip', 'ModifiedResNet'), (average_pool, 'VisionTransformer')):
        words = rf'{ADAPTERS[kind]["type"]}.* image tower of .{arch}. \({tower}\)'
        with pytest.raises(DFERError, match=words) as error:
            FrozenCLIP(arch, weights='random', adapter=ADAPTERS[kind])
        assert '\n' not in str(error.value)
    FrozenCLIP('synth-clip', weights='random', text_adapter=TEXT)  # its text tower is plain


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (dict(text_adapter=ADAPTERS['AIM']), "text_adapter.type='AIMAdapter' mixes the frames"),
        (dict(adapter=dict(type='JAS')), "adapter.type='JAS' is not an adapter"),
        (dict(adapter=dict(type='Adaptor')), "adapter.type='Adaptor' is not an adapter"),
        (dict(adapter=dict(type='AIMAdapter', width=0)), 'AIMAdapter: width=0'),
        (dict(adapter=dict(type='FRUAdapter', num_frames=2.5)), r'FRUAdapter: num_frames=2\.5'),
        (dict(adapter=dict(type='FRUAdapter', beside='attn')), "beside must be 'block' or 'mlp'"),
        (dict(adapter=dict(type='LoRA', rank=-1)), 'LoRA: rank=-1'),
        (dict(arch='synth-clip', checkpointing=True), 'checkpointing=True.*ModifiedResNet'),
    ],
)
def test_bad_options_are_one_line(options: dict[str, Any], words: str) -> None:
    with pytest.raises(DFERError, match=words) as error:
        FrozenCLIP(**(dict(arch=ARCH, weights='random') | options))
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('make', 'count'),
    [
        (partial(AIMAdapter, width=192), 10_651_392 + 16 * 768),
        (partial(AIMAdapter, width=384), 21_275_136 + 16 * 768),
        (partial(AIMAdapter, width=192, num_frames=8), 10_651_392 + 8 * 768),
        # In a block: both linear layers, two LayerNorms, the map from 16 to 16, and attention.
        (
            FRUAdapter,
            12 * ((2 * 768 * 128 + 128 + 768) + 4 * 128 + (16 * 17) + 4 * (128 * 128 + 128)),
        ),
        (partial(LoRA, rank=8), 12 * 8 * (768 + 3 * 768 + 768 + 768)),
    ],
)
def test_adapters_of_vit_b_16_have_so_many_parameters(make: Callable, count: int) -> None:
    with torch.device('meta'):
        visual = open_clip.CLIP(**open_clip.get_model_config('ViT-B-16')).visual
        adapter = make(visual.transformer.width, len(visual.transformer.resblocks))
    assert sum(p.numel() for p in adapter.parameters()) == count
