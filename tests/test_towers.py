"""Test the fast towers against open_clip's own modules: outputs and gradients.

Where a fast tower does not apply, open_clip's own code must be used.
"""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from open_clip.transformer import QuickGELU, VisionTransformer
from torch import Tensor, nn

from mmdfer.models import FrozenCLIP
from mmdfer.models.backbones import fast_towers as towers
from mmdfer.models.backbones import packed_linear as packed
from mmdfer.models.backbones.fast_towers import ImageTower

ARCHS = ['ViT-B-32-quickgelu', 'ViT-L-14-quickgelu', 'ViT-B-32', 'synth-clip']
BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


@pytest.fixture(scope='module', params=ARCHS)
def clip(request: pytest.FixtureRequest) -> FrozenCLIP:
    clip = FrozenCLIP(request.param, weights=None if request.param == 'synth-clip' else 'random')
    _stir(clip.clip)
    return clip


@pytest.fixture(scope='module')
def small() -> FrozenCLIP:
    return FrozenCLIP('ViT-B-32-quickgelu', weights='random')


def _stir(model: nn.Module) -> None:
    """Draw biases and LayerNorm weights, since initial zeros and ones would hide errors."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.weight.uniform_(0.5, 1.5, generator=generator)
            bias = getattr(module, 'in_proj_bias', getattr(module, 'bias', None))
            if isinstance(module, nn.LayerNorm | nn.Linear | nn.MultiheadAttention):
                bias.normal_(std=0.1, generator=generator)


def _open_clip_text(clip: FrozenCLIP, embeddings: Tensor, ends: Tensor) -> Tensor:
    """Encode prompts (P, L, W) by open_clip's own text modules, read at `ends`: (P, D)."""
    model, length = clip.clip, embeddings.shape[1]
    x = embeddings + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    return x[torch.arange(len(x)), ends] @ model.text_projection


def _error(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference divided by the largest value."""
    return float((ours.float() - theirs).abs().max() / theirs.abs().max())


def _in(dtype: torch.dtype) -> torch.autocast:
    return torch.autocast('cpu', dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


def test_images_equal_open_clip(clip: FrozenCLIP) -> None:
    images = torch.randn(2, 3, clip.image_size, clip.image_size)
    with torch.no_grad():
        expected = clip.clip.encode_image(images)
    for dtype, bound in BOUNDS.items():
        with torch.no_grad(), _in(dtype):
            ours = clip.encode_images(images)
        assert ours.dtype == dtype
        assert _error(ours, expected) < bound
    assert clip._image_tower.applies == (clip.arch != 'synth-clip')


@pytest.mark.parametrize('dtype', BOUNDS)
def test_prompts_and_their_gradients_equal_open_clip(clip: FrozenCLIP, dtype: torch.dtype) -> None:
    embeddings = torch.randn(4, 12, clip.text_width) * 0.1
    ends, weights = torch.tensor([11, 7, 11, 4]), torch.randn(4, clip.embed_dims)
    results = []
    for encode in (partial(_open_clip_text, clip), clip.encode_prompts):
        leaf = embeddings.clone().requires_grad_()
        with _in(dtype if results else torch.float32):
            out = encode(leaf, ends)
        (out.float() * weights).sum().backward()
        results.append((out.detach(), leaf.grad))
    assert results[1][0].dtype == dtype
    for theirs, ours in zip(*results):
        assert _error(ours, theirs) < BOUNDS[dtype]
    assert clip._text_tower.applies
    with torch.no_grad(), _in(dtype):
        assert _error(clip.encode_prompts(embeddings, ends), results[0][0]) < BOUNDS[dtype]


@pytest.mark.parametrize('dtype', BOUNDS)
def test_passes_and_what_they_keep_change_no_result(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    clip, encode, calls = FrozenCLIP('synth-clip'), towers._encode_text, []
    monkeypatch.setattr(towers, '_encode_text', lambda *a: calls.append(len(a[1])) or encode(*a))
    embeddings, results = torch.randn(2, 3, 9, clip.text_width) * 0.1, []
    three = 3 * 1e-9 * clip._text_tower._activations(9, dtype)
    for rows, kept in ((1900, 1), (20, 1), (20, 0), (20, three)):
        monkeypatch.setitem(towers.ROWS_PER_PASS, 'cpu', rows)
        clip.activations_gb = kept
        leaf = embeddings.clone().requires_grad_()
        with _in(dtype):
            out = clip.encode_prompts(leaf, 8)
        out.float().square().sum().backward()
        results.append((out.detach().float(), leaf.grad))
    # Six sentences in one pass; in passes of two; in passes of two, all computed again for the
    # gradient; in passes of two, the first two passes computed again.
    assert calls == [6, *[2] * 3, *[2] * 6, *[2] * 5]
    for whole, *passes in zip(*results):
        assert all(torch.equal(passes[0], other) for other in passes)
        assert _error(passes[0], whole) < BOUNDS[dtype]


def test_packed_products_equal_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, bias = torch.randn(48, 32), torch.randn(48)
    results = []
    for amd in (False, True):
        monkeypatch.setattr(packed, '_is_amd', lambda amd=amd: amd)
        assert packed.should_pack(weight) == amd
        x = torch.randn(5, 7, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
        out = packed.frozen_linear(weight, bias, gradient=True)(x)
        out.square().sum().backward()
        with torch.no_grad():
            one_way = packed.frozen_linear(weight, bias, gradient=False)(x)
        results.append((out.detach(), x.grad, one_way))
    for plain, ours in zip(*results):
        assert _error(ours, plain) < 1e-6


def test_a_changed_weight_is_seen(small: FrozenCLIP) -> None:
    images = torch.randn(2, 3, 224, 224)
    embeddings = torch.randn(2, 5, small.text_width) * 0.1
    clip = copy.deepcopy(small)
    before = clip.encode_images(images), clip.encode_prompts(embeddings, 4)
    assert torch.equal(clip.encode_images(images), before[0])
    with torch.no_grad():
        clip.clip.visual.transformer.resblocks[11].ln_1.weight.mul_(2)
        clip.clip.text_projection.mul_(2)
        assert _error(clip.encode_images(images), clip.clip.encode_image(images)) < 1e-5
        assert _error(clip.encode_prompts(embeddings, 4), 2 * before[1]) < 1e-5
    assert _error(clip.encode_images(images), before[0]) > 1e-3
    assert torch.equal(
        small.encode_images(images), before[0]
    )  # the copy shares no weights with the original


def test_trained_or_hooked_modules_use_open_clips_code(small: FrozenCLIP) -> None:
    clip = copy.deepcopy(small)
    images = torch.randn(1, 3, 224, 224)
    seen: list[str] = []
    block = clip.clip.visual.transformer.resblocks[0]
    hook = block.register_forward_hook(lambda *_: seen.append('block'))
    clip.encode_images(images)
    assert seen == ['block']
    hook.remove()
    block.ln_1.weight.requires_grad_()
    clip.encode_images(images).sum().backward()
    assert block.ln_1.weight.grad.abs().sum() > 0
    assert clip._text_tower.applies
    text = clip.clip.transformer.resblocks[3].mlp.c_fc.weight.requires_grad_()
    clip.encode_prompts(torch.randn(1, 5, clip.text_width), 4).sum().backward()
    assert text.grad.abs().sum() > 0


def test_derived_weights_are_neither_saved_nor_copied(small: FrozenCLIP) -> None:
    small.encode_images(torch.randn(1, 3, 224, 224))
    assert set(small.state_dict()) == {'identity'}
    assert small._image_tower._derived and not copy.deepcopy(small)._image_tower._derived


def test_inference_mode_leaves_weights_that_training_can_use() -> None:
    clip = FrozenCLIP('synth-clip')
    embeddings = torch.randn(2, 5, clip.text_width, requires_grad=True)
    with torch.inference_mode():
        clip.encode_prompts(embeddings, 4)
    clip.encode_prompts(embeddings, 4).sum().backward()
    assert embeddings.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ('options', 'fast'),
    [
        (dict(), True),
        (dict(act_layer=QuickGELU), True),
        (dict(final_ln_after_pool=True), True),
        (dict(patch_dropout=0.5), True),  # has no effect in evaluation mode
        (dict(pool_type='avg'), False),
        (dict(attentional_pool=True), False),
        (dict(ls_init_value=0.1), False),
        (dict(no_ln_pre=True), False),
        (dict(qk_norm=True), False),
    ],
)
def test_the_fast_image_tower_applies_to_supported_options(options: dict, fast: bool) -> None:
    sizes = dict(image_size=32, patch_size=8, width=64, layers=2, heads=2, mlp_ratio=2)
    visual = VisionTransformer(**sizes, output_dim=16, **options).eval().requires_grad_(False)
    _stir(visual)
    tower = ImageTower(visual)
    assert tower.applies == fast
    if fast:
        images = torch.randn(3, 3, 32, 32)
        assert _error(tower(images), visual(images)) < 1e-5


def test_adapters_use_open_clips_code() -> None:
    sizes = dict(image_size=32, patch_size=8, width=64, layers=2, heads=2, mlp_ratio=2)
    visual = VisionTransformer(**sizes, output_dim=16).eval().requires_grad_(False)
    tower, mlp = ImageTower(visual), visual.transformer.resblocks[1].mlp
    mlp.c_proj = nn.Sequential(mlp.c_proj, nn.Tanh())
    assert not tower.applies
    mlp.c_proj = mlp.c_proj[0]
    assert tower.applies
    visual.class_embedding.requires_grad_()
    assert not tower.applies
