"""Test FrozenCLIP against open_clip's own forward pass, and the errors for bad input."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import open_clip
import pytest
import torch
from mmengine.runner.checkpoint import get_state_dict, load_state_dict
from reference import encode_image, encode_prompts
from safetensors.torch import load_file, save_file
from torch import nn

from mmaction.registry import MODELS

from mmdfer import DFERError
from mmdfer.models import CLIPDataPreprocessor, FrozenCLIP
from mmdfer.models.backbones.clip_weights import read_normalisation
from mmdfer.synthetic import small_clip

TEXTS = ['a face with brow lowerer.', 'an expression of happiness', 'no']


@pytest.fixture(scope='module')
def clip() -> FrozenCLIP:
    return FrozenCLIP('synth-clip')


@pytest.mark.parametrize('arch', ['synth-clip', 'ViT-B-32-quickgelu', 'ViT-L-14-quickgelu'])
def test_prompts_of_real_tokens_equal_encode_text(arch: str) -> None:
    clip = FrozenCLIP(arch, weights=None if arch == 'synth-clip' else 'random')
    tokens = clip.tokenizer(TEXTS)
    ends = (tokens == clip.end_id).int().argmax(-1)
    with torch.no_grad():
        expected = clip.clip.encode_text(tokens)
        cut = clip.encode_prompts(clip.embed(tokens), ends)  # cut after the last end token
        last = clip.context_length - 1
        padded = clip.embed(tokens)
        full = torch.stack(
            [
                clip.encode_prompts(padded[i : i + 1], torch.tensor([e]))[0]
                for i, e in enumerate(ends)
            ]
        )
        # A prompt that fills the context, with the end token at the last position.
        long = torch.full((1, last + 1), clip.stop_id)
        long[0, 0], long[0, last] = clip.start_id, clip.end_id
        filled = clip.encode_prompts(clip.embed(long), last)
        assert torch.allclose(filled, clip.clip.encode_text(long), atol=1e-5)
    assert torch.allclose(cut, expected, atol=1e-5)
    assert torch.allclose(full, expected, atol=1e-5)
    assert torch.allclose(clip.encode_text(TEXTS), expected, atol=1e-5)


@pytest.mark.parametrize('arch', ['ViT-B-32', 'ViT-B-32-quickgelu'])
def test_towers_equal_the_reference(arch: str) -> None:
    clip = FrozenCLIP(arch, weights='random')
    state = {k: v.detach() for k, v in clip.clip.state_dict().items()}
    gelu = arch.endswith('quickgelu')
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    embeddings = torch.randn(4, 11, 512, generator=torch.Generator().manual_seed(1)) * 0.1
    with torch.no_grad():
        ours = clip(images)[:, :, 0, 0]
        assert torch.allclose(ours, encode_image(state, images, 12, gelu), atol=1e-4)
        ours = clip.encode_prompts(embeddings, 8)
        assert torch.allclose(ours, encode_prompts(state, embeddings, 8, 8, gelu), atol=1e-4)


def test_frames_images_and_vectors(clip: FrozenCLIP) -> None:
    frames = torch.randn(2, 3, 5, 64, 64)
    vectors = clip(frames)
    assert vectors.shape == (2, 5, clip.embed_dims)
    image = clip(frames[1, :, 3][None])
    assert image.shape == (1, clip.embed_dims, 1, 1)
    assert torch.allclose(image[0, :, 0, 0], vectors[1, 3], atol=1e-5)
    assert not vectors.requires_grad


@pytest.mark.parametrize('shape', [(2, 4, 5, 64, 64), (2, 3, 64, 72), (2, 5, 7), (3, 3, 32, 32)])
def test_other_shapes_are_refused(clip: FrozenCLIP, shape: tuple[int, ...]) -> None:
    with pytest.raises(DFERError, match='input of shape'):
        clip(torch.zeros(shape))


def test_stays_frozen_and_in_eval(clip: FrozenCLIP) -> None:
    around = nn.Sequential(clip).train()
    assert not any(module.training for module in around[0].modules())
    assert not any(p.requires_grad for p in clip.parameters())
    assert clip.train() is clip


def test_gradients_reach_the_prompts_only(clip: FrozenCLIP) -> None:
    embeddings = torch.randn(2, 6, clip.text_width, requires_grad=True)
    clip.encode_prompts(embeddings, 4).sum().backward()
    assert embeddings.grad[:, :5].abs().sum() > 0
    assert embeddings.grad[:, 5].abs().sum() == 0  # after the end token
    assert all(p.grad is None for p in clip.parameters())


def test_state_dict_holds_what_trains_and_the_identity() -> None:
    clip = FrozenCLIP('synth-clip', trains=[r'visual\.attnpool\.c_proj\.weight$', r'ln_final'])
    expected = {
        'identity',
        'clip.visual.attnpool.c_proj.weight',
        'clip.ln_final.weight',
        'clip.ln_final.bias',
    }
    assert set(clip.state_dict()) == expected
    assert set(get_state_dict(clip)) == expected  # mmengine's own way of saving
    trained = {name for name, p in clip.clip.named_parameters() if p.requires_grad}
    assert {f'clip.{name}' for name in trained} == expected - {'identity'}


@pytest.mark.parametrize('load', [nn.Module.load_state_dict, load_state_dict])
def test_loading_restores_what_trains_and_reports_nothing_missing(load, capsys) -> None:
    source = FrozenCLIP('synth-clip', trains=[r'visual\.attnpool\.c_proj\.weight$'])
    nn.init.ones_(source.clip.visual.attnpool.c_proj.weight)
    target = nn.Sequential(FrozenCLIP('synth-clip', trains=[r'visual\.attnpool\.c_proj\.weight$']))
    before = target[0].clip.token_embedding.weight.clone()
    load(target, nn.Sequential(source).state_dict(), strict=True)
    assert torch.equal(
        target[0].clip.visual.attnpool.c_proj.weight, source.clip.visual.attnpool.c_proj.weight
    )
    assert torch.equal(target[0].clip.token_embedding.weight, before)


def test_another_clip_is_refused_by_name() -> None:
    small = FrozenCLIP('synth-clip')
    state = FrozenCLIP('synth-clip', weights='random').state_dict()
    with pytest.raises(DFERError, match='synth-clip.*synth-clip') as error:
        small.load_state_dict(state)
    assert small.digest[:12] in str(error.value)


def test_only_towers_that_take_tokens_are_accepted() -> None:
    from mmdfer.models.backbones.clip_weights import load_clip_config

    refused = []
    for arch in open_clip.list_models():
        try:
            load_clip_config(arch)
        except DFERError:
            refused.append(arch)
    accepted = set(open_clip.list_models()) - set(refused) - set(small_clip.ARCHS)
    assert {'ViT-B-32-quickgelu', 'ViT-L-14', 'RN50', 'EVA02-B-16'} <= accepted
    assert {'coca_ViT-B-32', 'ViT-B-16-SigLIP', 'roberta-ViT-B-32', 'MobileCLIP-S1'} <= set(refused)


def _weights(tmp_path: Path, name: str = 'weights.safetensors') -> Path:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    open_clip.add_model_config(small_clip.config_path())  # in case no earlier test has done so
    save_file(open_clip.create_model('synth-clip').state_dict(), str(path))
    return path


def test_a_local_file_is_one_line_away(tmp_path: Path) -> None:
    path = _weights(tmp_path)
    state = load_file(str(path))
    clip = FrozenCLIP('synth-clip', weights=str(path))
    assert torch.equal(
        clip.clip.visual.attnpool.c_proj.weight, state['visual.attnpool.c_proj.weight']
    )


def _truncated(tmp_path: Path) -> Path:
    path = _weights(tmp_path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def _truncated_pt(tmp_path: Path) -> Path:
    path = tmp_path / 'weights.pt'
    torch.save(open_clip.create_model('synth-clip').state_dict(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def _text_file(tmp_path: Path) -> Path:
    path = tmp_path / 'weights.pt'
    path.write_text('<html>quota exceeded</html>')
    return path


def _pickle(tmp_path: Path) -> Path:
    import os

    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'harm'),)

    path = tmp_path / 'weights.pt'
    torch.save({'state_dict': Harm()}, path)
    return path


def _other_model(tmp_path: Path) -> Path:
    path = tmp_path / 'weights.safetensors'
    save_file({'visual.attnpool.c_proj.weight': torch.zeros(3, 3)}, str(path))
    return path


@pytest.mark.parametrize('make', [_truncated, _truncated_pt, _text_file, _pickle, _other_model])
def test_bad_weights_are_one_line(make, tmp_path: Path) -> None:
    path = make(tmp_path)
    with pytest.raises(DFERError) as error:
        FrozenCLIP('synth-clip', weights=str(path))
    assert str(path) in str(error.value) and '\n' not in str(error.value)
    assert not (tmp_path / 'harm').exists()


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (dict(arch='ViT-B-99'), 'unknown to open_clip'),
        (dict(arch='coca_ViT-B-32', weights='random'), 'does not support learnable tokens'),
        (dict(arch='ViT-B-32'), 'neither a file nor a tag'),
        (dict(arch='ViT-B-32', weights='nowhere/weights.pt'), 'neither a file nor a tag'),
        (dict(arch='ViT-B-32', weights='openai'), "arch='ViT-B-32-quickgelu'"),
        (dict(arch='synth-clip', weights='openai'), 'leave out model.backbone.weights'),
        (dict(arch='synth-clip', trains=[r'visual\.nothing']), 'matches no parameter'),
    ],
)
def test_bad_arguments_are_one_line(arguments: dict, words: str) -> None:
    with pytest.raises(DFERError, match=words) as error:
        FrozenCLIP(**arguments)
    assert '\n' not in str(error.value)


def test_activation_of_a_file_is_checked(tmp_path: Path) -> None:
    path = _weights(tmp_path, 'openai/open_clip_model.safetensors')
    with pytest.raises(DFERError, match='QuickGELU'):
        FrozenCLIP('synth-clip', weights=str(path))
    (path.parent / 'open_clip_config.json').write_text(json.dumps({'model_cfg': {}}))
    FrozenCLIP('synth-clip', weights=str(path))  # the config next to the file decides


def test_offline_without_the_file_says_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, 'ENDPOINT', 'http://127.0.0.1:9')
    monkeypatch.setattr(
        'mmdfer.models.backbones.clip_weights.try_to_load_from_cache', lambda *_: None
    )
    with pytest.raises(DFERError, match='hf download .*--local-dir') as error:
        FrozenCLIP('ViT-B-32-quickgelu', weights='openai')
    assert 'model.backbone.weights=' in str(error.value)


def test_preprocessor_normalises_frames_and_leaves_vectors() -> None:
    preprocessor = CLIPDataPreprocessor()
    frames = torch.randint(0, 255, (1, 3, 2, 4, 4), dtype=torch.uint8)
    out = preprocessor(dict(inputs=[frames], data_samples=[None]))['inputs']
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN)[:, None, None, None]
    std = torch.tensor(open_clip.OPENAI_DATASET_STD)[:, None, None, None]
    assert torch.allclose(out[0, 0], (frames[0] / 255 - mean) / std, atol=1e-5)
    features = torch.randn(1, 2, 8)
    batch = dict(features=[features.half()], encoder=['a'], data_samples=[None])
    out = preprocessor(batch)
    assert torch.equal(out['features'][0], features.half().float()) and out['encoder'] == ['a']


# ------------------------------------------------------------------ mean and std of the weights

HALF = dict(mean=[0.5, 0.5, 0.5], std=[0.5, 0.25, 0.5])
HEAD = dict(type='ClassNameHead', classes=('a', 'b'), templates=['{}'])
RECOGNIZERS = {
    'CLIPRecognizer': dict(cls_head=HEAD),
    'Recognizer3D': dict(
        cls_head=dict(
            type='ClassNameHead',
            classes=('a', 'b'),
            templates=['{}'],
            in_channels=8,
            text=dict(type='FrozenCLIP', arch='synth-clip'),
        ),
        data_preprocessor=dict(type='CLIPDataPreprocessor'),
    ),
    'Recognizer2D': dict(
        cls_head=dict(type='TSNHead', num_classes=2, in_channels=128),
        data_preprocessor=dict(type='CLIPDataPreprocessor', format_shape='NCHW'),
    ),
}


def _with_config(tmp_path: Path, **config: object) -> str:
    path = _weights(tmp_path)
    config = {'model_cfg': {}, **config}
    (tmp_path / 'open_clip_config.json').write_text(json.dumps(config))
    return str(path)


def _build(kind: str, weights: str | None, **preprocessor: object) -> nn.Module:
    options = dict(RECOGNIZERS[kind])
    if preprocessor:
        options['data_preprocessor'] = dict(type='CLIPDataPreprocessor', **preprocessor)
    backbone = dict(type='FrozenCLIP', arch='synth-clip', weights=weights)
    return MODELS.build(dict(type=kind, backbone=backbone, **options))


@pytest.mark.parametrize('kind', RECOGNIZERS)
def test_frames_are_normalised_as_the_weights_were_trained(kind: str, tmp_path: Path) -> None:
    own = _with_config(tmp_path, preprocess_cfg=HALF)
    for weights, mean, std in (
        (own, HALF['mean'], HALF['std']),
        (None, open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD),
    ):
        part = _build(kind, weights).data_preprocessor
        assert part.mean.flatten() / 255 == pytest.approx(torch.tensor(mean))
        assert part.std.flatten() / 255 == pytest.approx(torch.tensor(std))
    frame = torch.full((1, 3, 64, 64) if kind == 'Recognizer2D' else (1, 3, 1, 64, 64), 255)
    part = _build(kind, own).data_preprocessor
    out = part(dict(inputs=[frame.byte()], data_samples=[None]))['inputs']
    assert out[0, 0, :, ..., 0, 0].flatten().tolist() == pytest.approx([1, 2, 1])


def test_a_mean_of_the_config_wins_over_that_of_the_weights(tmp_path: Path) -> None:
    weights = _with_config(tmp_path, preprocess_cfg=HALF)
    part = _build('CLIPRecognizer', weights, mean=[1, 2, 3]).data_preprocessor
    assert part.mean.flatten().tolist() == [1, 2, 3]
    assert part.std.flatten().tolist() == pytest.approx([127.5, 63.75, 127.5])


def test_a_tag_brings_its_own_mean_and_std() -> None:
    for arch, tag, mean in (
        ('ViT-L-14', 'laion2b_s32b_b82k', 0.5),
        ('ViT-L-14', 'laion2b-s32b-b82k', 0.5),  # open_clip takes either spelling
        ('MobileCLIP-S1', 'datacompdr', 0.0),
        ('ViT-B-32-quickgelu', 'openai', open_clip.OPENAI_DATASET_MEAN[0]),
    ):
        found = read_normalisation(arch, tag)
        assert found.known and found.mean[0] == mean


def test_weights_that_do_not_tell_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    logger = SimpleNamespace(get_current_instance=lambda: SimpleNamespace(warning=said.append))
    monkeypatch.setattr('mmdfer.models.data_preprocessors.clip_preprocessor.MMLogger', logger)
    weights = str(_weights(tmp_path))
    _build('CLIPRecognizer', None)
    _build('CLIPRecognizer', weights, mean=[1, 2, 3], std=[1, 2, 3])
    assert said == []
    _build('CLIPRecognizer', weights)
    (line,) = said
    assert 'copy the open_clip_config.json of the weights' in line


@pytest.mark.parametrize(
    ('config', 'said'),
    [
        (dict(preprocess_cfg=dict(mean=[0.5])), r'mean=\[0\.5\] .* must be three numbers'),
        (dict(preprocess_cfg=dict(std=[0.5, 0, 0.5])), r'std=.* must be positive'),
        (dict(model_cfg=3), 'is not a config of open_clip'),
    ],
)
def test_a_config_without_sense_is_refused(config: dict, said: str, tmp_path: Path) -> None:
    with pytest.raises(DFERError, match=said):
        FrozenCLIP('synth-clip', _with_config(tmp_path, **config))


def test_patterns_are_matched_from_the_start_of_a_name() -> None:
    """Match as BAPHook's stages do: `transformer` is in the text tower, not in the image tower."""
    clip = FrozenCLIP('ViT-B-32-quickgelu', weights='random', trains=[r'transformer\.'])
    trained = {n for n, p in clip.clip.named_parameters() if p.requires_grad}
    assert trained and all(n.startswith('transformer.') for n in trained)
    with pytest.raises(DFERError, match="'resblocks' matches no parameter"):
        FrozenCLIP('synth-clip', trains=['resblocks'])
