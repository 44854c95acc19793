"""Test the fusion of levels against its formulas, and that a missing level leaves no trace."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from mmengine.dataset import pseudo_collate
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from reference import unit
from references import level_fusion as reference
from torch import Tensor, nn

from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample

import mmdfer  # noqa: F401  registers everything, in the ranks too
from mmdfer.errors import DFERError
from mmdfer.models import CLIPRecognizer, FineCLIPER, FrameFeatures

NAMES = ('happiness', 'anger', 'neutral', 'fear')
LEVELS = ('frames', 'parts', 'caption')
FUSIONS = ('learned', 'margin', 'mean')
CAPTIONS = (
    'the jaw drops',
    'inner brows raised, then lip corners pulled',
    'no change',
    'eyes shut',
)
# Parts of both towers that train, in place of adapters.
IMAGE, TEXT = r'visual\.attnpool\.c_proj\.', r'text_projection$'
HEAD = dict(type='TwoSidedHead', classes=NAMES, num_tokens=3, temperature=0.03)
Clip = dict[str, Any]


def build(
    levels: Sequence[str] = LEVELS,
    trains: Sequence[str] = (IMAGE, TEXT),
    head: dict | None = None,
    kind: str = 'FineCLIPER',
    backbone: dict | None = None,
    **options: Any,
) -> CLIPRecognizer:
    torch.manual_seed(3)
    if kind == 'FineCLIPER':
        options['levels'] = levels
    backbone = dict(type='FrozenCLIP', **(backbone or dict(arch='synth-clip', trains=trains)))
    model = MODELS.build(dict(type=kind, backbone=backbone, cls_head=head or HEAD, **options))
    return model.double()


def clips(count: int = 4, lacks: dict[str, Sequence[int]] | None = None, views: int = 1) -> list:
    """Draw clips of two frames; ``lacks`` lists the clips without parts and without a caption."""
    lacks, found = lacks or {}, []
    for i in range(count):
        pictures = pixels(views + 1, seed=i)
        sample = ActionDataSample().set_gt_label(i % 4)
        sample.parts = None if i in lacks.get('parts', ()) else pictures[0]
        sample.caption = None if i in lacks.get('caption', ()) else CAPTIONS[i % 4]
        found.append(dict(inputs=pictures[1:], data_samples=sample))
    return found


def pixels(*shape: int, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (*shape, 3, 2, 64, 64), generator=draw, dtype=torch.uint8)


def run(model: CLIPRecognizer, batch: Sequence[Clip], mode: str = 'tensor') -> Any:
    """Pass clips through the preprocessor and the model, up to the logits by default."""
    data = model.data_preprocessor(pseudo_collate(list(batch)))
    return model(**data, mode=mode, **(dict(stage='head') if mode == 'tensor' else {}))


def total(losses: dict[str, Tensor]) -> Tensor:
    return sum(value for key, value in losses.items() if 'loss' in key)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


# ------------------------------------------------------------------------------ levels


def test_each_level_equals_plain_open_clip() -> None:
    head = dict(type='TwoSidedHead', classes=NAMES)
    batch = clips()
    mean, std = (torch.tensor(v).double().view(3, 1, 1, 1) for v in _openai())
    for level in LEVELS:
        model = build((level,), (), head)
        clip, tokens = model.backbone.clip, model.backbone.tokenizer
        if level == 'caption':
            vectors = clip.encode_text(tokens(list(CAPTIONS)))
        else:
            given = [
                c['inputs'][0] if level == 'frames' else c['data_samples'].parts for c in batch
            ]
            images = (torch.stack(given) / 255 - mean) / std  # (4, 3, 2, 64, 64)
            vectors = clip.encode_image(images.transpose(1, 2).flatten(0, 1)).unflatten(0, (4, 2))
            vectors = unit(vectors).mean(1)
        texts = ['A person with an expression of ' + no for no in ('', 'no ')]
        sides = [unit(clip.encode_text(tokens([f'{text}{c}.' for c in NAMES]))) for text in texts]
        expected = clip.logit_scale.exp() * unit(vectors) @ (sides[0] - sides[1]).T
        torch.testing.assert_close(run(model, batch), expected, rtol=1e-6, atol=1e-6)


def _openai() -> tuple:
    return open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD


def test_a_checkpoint_fits_all_levels_and_forms_of_the_weights() -> None:
    trained = build()
    nn.init.normal_(trained.level_scalars)
    state, batch = trained.state_dict(), clips()
    for fusion in FUSIONS:
        for levels in (LEVELS, ('frames',)):
            model = build(levels, fusion=fusion)
            model.load_state_dict(state)
            assert torch.equal(model.level_scalars, trained.level_scalars)
            learns = fusion == 'learned' and levels == LEVELS
            assert ('level_scalars' in dict(model.named_parameters())) == learns
            model.load_state_dict(build(levels, fusion='mean').state_dict())
            assert torch.isfinite(run(model, batch)).all()


def test_parts_are_treated_as_frames_are() -> None:
    neck = dict(type='JAS', num_frames=2)
    frames, parts = (build((level,), neck=neck) for level in ('frames', 'parts'))
    for name, parameter in frames.neck.named_parameters():
        if name.endswith(('out_proj.weight', 'linear2.weight')):  # they start at zero
            nn.init.normal_(parameter, std=0.05)
    parts.load_state_dict(frames.state_dict())
    batch = clips()
    expected = run(frames, batch)
    for clip in batch:
        clip['data_samples'].parts = clip['inputs'][0]
        clip['inputs'] = torch.zeros_like(clip['inputs'])
    assert torch.equal(run(parts, batch), expected)


def test_a_long_caption_is_cut_before_its_end_token() -> None:
    model = build(('caption',))
    clip = model.backbone
    batch = clips(1)
    batch[0]['data_samples'].caption = long = 'the jaw drops and the brows go up ' * 20
    words = clip.tokenizer.encode(long)
    assert len(words) > 2 * clip.context_length
    ids = torch.tensor([clip.start_id, *words[: clip.context_length - 2], clip.end_id])
    vector = clip.encode_prompts(clip.embed(ids)[None], clip.context_length - 1)
    expected = model.cls_head(vector, classes=model.class_vectors(), logit_scale=1.0)
    torch.testing.assert_close(run(model, batch), expected)


def test_views_share_parts_or_have_their_own() -> None:
    model = build(('parts',))
    (clip,) = clips(1, views=2)
    own = pixels(2, seed=9)
    logits = {}
    for name, parts in (('shared', own[0]), ('repeated', own[[0, 0]]), ('own', own)):
        clip['data_samples'].parts = parts
        logits[name] = run(model, [clip])
    assert logits['shared'].shape == (2, 4)
    torch.testing.assert_close(logits['shared'], logits['repeated'])
    torch.testing.assert_close(logits['own'][0], logits['shared'][0])
    assert not torch.allclose(logits['own'][1], logits['shared'][1])
    (sample,) = run(build(), clips(1, views=2), 'predict')
    assert sample.pred_score.shape == (4,)
    assert float(sample.pred_score.detach().sum()) == pytest.approx(1)


def test_several_views_in_training_are_refused_before_they_are_encoded() -> None:
    model = build()
    model.backbone.register_forward_pre_hook(lambda *_: pytest.fail('the views were encoded'))
    with pytest.raises(DFERError, match='2 views of each clip in training.*set num_clips=1'):
        run(model, clips(2, views=2), 'loss')


# ------------------------------------------------------------------------------ fusion


@pytest.mark.parametrize('fusion', FUSIONS)
def test_fusion_and_loss_equal_their_formulas(fusion: str) -> None:
    batch = clips(6, dict(parts=(1, 4), caption=(2, 4)))
    model = build(fusion=fusion).train()
    numbers = torch.tensor([0.3, -0.5, 0.9], dtype=torch.float64, requires_grad=True)
    singles = [build((level,), fusion=fusion).train() for level in LEVELS]
    for single in singles:
        single.load_state_dict(model.state_dict())
    if fusion == 'learned':
        model.level_scalars.data.copy_(numbers.detach())
    of_levels = [run(single, batch) for single in singles]
    rows = [list(of_clip) for of_clip in zip(*of_levels)]
    for i, clip in enumerate(batch):
        for place, name in ((1, 'parts'), (2, 'caption')):
            if getattr(clip['data_samples'], name) is None:
                rows[i][place] = None
    labels = [int(clip['data_samples'].gt_label) for clip in batch]
    fused = torch.stack([reference.fuse(row, fusion, numbers) for row in rows])
    torch.testing.assert_close(run(model, batch), fused)

    losses = run(model, batch, 'loss')
    expected = reference.loss(rows, labels, fusion, numbers)
    torch.testing.assert_close(total(losses), expected)
    total(losses).backward()
    expected.backward()
    found = gradients(model)
    if fusion == 'learned':
        torch.testing.assert_close(found.pop('level_scalars'), numbers.grad)
    assert len(found) == 4  # the tokens, the weight and bias of the image side, the text side
    for name, gradient in found.items():
        theirs = sum(gradients(single).get(name, 0) for single in singles)
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(gradient, theirs)


@pytest.mark.parametrize('fusion', FUSIONS)
@pytest.mark.parametrize('head', [dict(HEAD, score='positive'), dict(HEAD, loss='pairs'), 'CLIPER'])
def test_frames_alone_are_a_clip_recognizer(fusion: str, head: dict | str) -> None:
    if head == 'CLIPER':
        head = dict(type='CLIPERHead', num_classes=4)
    batch = clips()
    plain = build(head=head, kind='CLIPRecognizer').float()
    expected, losses = run(plain, batch), run(plain, batch, 'loss')
    for levels in (('frames',), LEVELS):
        model = build(levels, head=head, fusion=fusion).float()
        model.load_state_dict(plain.state_dict(), strict=False)
        missing = dict.fromkeys(('parts', 'caption'), range(4))
        found, own = run(model, clips(4, missing)), run(model, clips(4, missing), 'loss')
        torch.testing.assert_close(found, expected)
        if levels == ('frames',):
            assert torch.equal(found, expected)
        torch.testing.assert_close(own['loss_frames'], total(losses))
        for key, value in losses.items():
            if 'loss' not in key or (fusion == 'learned' and levels == LEVELS):
                torch.testing.assert_close(own[key], value)


# ---------------------------------------------------------------------- missing levels


@pytest.mark.parametrize('fusion', FUSIONS)
@pytest.mark.parametrize('missing', [('parts',), ('caption',), ('parts', 'caption')])
def test_a_missing_level_is_as_if_switched_off(fusion: str, missing: tuple[str, ...]) -> None:
    rest = tuple(level for level in LEVELS if level not in missing)
    model, without = build(fusion=fusion), build(rest, fusion=fusion)
    if fusion == 'learned':
        model.level_scalars.data.copy_(torch.tensor([0.3, -0.5, 0.9]))
    without.load_state_dict(model.state_dict())
    expected = run(without, clips())
    torch.testing.assert_close(run(model, clips(4, dict.fromkeys(missing, range(4)))), expected)
    # The clips beside it do not matter, and neither do its class and an empty caption.
    mixed = clips(4, dict.fromkeys(missing, [2]))
    mixed[2]['data_samples'].set_gt_label(0)
    if 'caption' in missing:
        mixed[2]['data_samples'].caption = ' \n'
    torch.testing.assert_close(run(model, mixed)[2], expected[2])
    assert not torch.allclose(run(model, mixed)[1], expected[1])


@pytest.mark.parametrize('fusion', FUSIONS)
def test_a_clip_without_any_level_says_nothing(fusion: str) -> None:
    model = build(('parts', 'caption'), fusion=fusion).train()
    batch = clips(4, dict(parts=[0, 1], caption=[0]))
    assert torch.equal(run(model, batch)[0], torch.zeros(4, dtype=torch.float64))
    total(run(model, batch[:1], 'loss')).backward()
    assert all(not gradient.any() for gradient in gradients(model).values())
    assert {'cls_head.tokens', 'backbone.clip.text_projection'} < set(gradients(model))


def share_of_neutral(fused_alone: bool) -> float:
    """Train on equal frames with a caption for all but neutral clips, and test without captions.

    Args:
        fused_alone: Whether the cross-entropy of the fused logits is the loss, in place of the
            model's own losses.

    Returns:
        The probability of the class neutral, whose share in training is a quarter.
    """
    model = build(('frames', 'caption'), (TEXT,))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.02)
    vector = torch.randn(model.backbone.embed_dims, dtype=torch.float64)
    frames = FrameFeatures(vector.expand(len(NAMES), 1, 2, -1))
    samples = [clip['data_samples'] for clip in clips()]
    for name, sample in zip(NAMES, samples, strict=True):
        sample.caption = None if name == 'neutral' else 'the jaw drops'
    for _ in range(40):
        optimizer.zero_grad()
        if fused_alone:
            logits, _ = model.extract_feat(frames, 'head', samples)
            loss = F.cross_entropy(logits, torch.arange(len(NAMES)))
        else:
            loss = total(model.loss(frames, samples))
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        logits, _ = model.extract_feat(frames, 'head')
    assert torch.equal(logits, logits[:1].expand_as(logits))
    return float(logits[0].softmax(-1)[NAMES.index('neutral')])


def test_captions_that_one_class_lacks_do_not_give_it_away() -> None:
    """In MAFW, only neutral clips have no caption."""
    assert share_of_neutral(fused_alone=True) > 0.8  # the frames learn what no caption means
    assert share_of_neutral(fused_alone=False) == pytest.approx(0.25, abs=0.05)


def test_the_log_counts_the_clips_that_have_a_level() -> None:
    model = build().train()
    losses = run(model, clips(4, dict(parts=[0], caption=range(4))), 'loss')
    assert losses['with_parts'] == 0.75 and losses['with_caption'] == 0
    assert losses['loss_caption'] == 0 and losses['loss_parts'] > 0
    assert set(losses) == set(run(model, clips(), 'loss'))  # every rank logs the same keys


def test_frames_alone_are_enough_to_predict() -> None:
    model = build().eval()
    vectors = torch.randn(2, 1, 2, 128, dtype=torch.float64)
    samples = model.predict(FrameFeatures(vectors), [ActionDataSample() for _ in range(2)])
    logits = model(FrameFeatures(vectors), stage='head')
    expected = build(kind='CLIPRecognizer')(FrameFeatures(vectors), stage='head')
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(samples[1].pred_score, expected.softmax(1)[1])


# ------------------------------------------------------------------------------ errors


MIXUP = dict(type='CLIPDataPreprocessor', blending=dict(type='MixupBlending', num_classes=4))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(levels=()), 'must name at least one level'),
        (dict(levels=('frames', 'frames')), 'no level twice'),
        (dict(levels=('frames', 'sound')), "levels has 'sound', but the levels are frames, parts"),
        (dict(fusion='product'), "fusion must be learned, margin or mean, got 'product'"),
        (dict(head=dict(type='CoCoOpHead', classes=NAMES)), 'the prompts of CoCoOpHead depend'),
        (dict(data_preprocessor=MIXUP), 'blending mixes the frames of two clips'),
    ],
)
def test_bad_options_are_one_line(options: dict, message: str) -> None:
    with pytest.raises(DFERError, match=message) as error:
        build(**options)
    assert '\n' not in str(error.value)


def test_blending_is_allowed_on_frames() -> None:
    assert isinstance(build(('frames',), data_preprocessor=MIXUP), FineCLIPER)


@pytest.mark.parametrize(
    ('field', 'value', 'message'),
    [
        ('parts', torch.zeros(3, 2, 32, 64), r'clip 1 .* parts have the shape \(1, 3, 2, 32, 64\)'),
        ('parts', torch.zeros(3, 3, 2, 64, 64), r'its frames have the shape \(1, 3, 2, 64, 64\)'),
        ('parts', torch.zeros(64, 64), r'clip 1 .* parts must be a tensor .* got \(64, 64\)'),
        ('parts', 'mask.png', 'parts must be a tensor .* got str'),
        ('caption', ['the jaw drops'], 'clip 1 .* caption must be a string or None, got list'),
    ],
)
def test_bad_levels_are_one_line(field: str, value: Any, message: str) -> None:
    batch = clips()
    setattr(batch[1]['data_samples'], field, value)
    with pytest.raises(DFERError, match=message) as error:
        run(build(), batch)
    assert '\n' not in str(error.value)


# ------------------------------------------------------------------------------- ranks


class Case:
    """Describe a training on two ranks, of which the second lacks some levels in every batch."""

    def __init__(
        self, lacks: Sequence[str], unused: bool = False, accumulate: int = 1, **model: Any
    ) -> None:
        self.lacks, self.unused, self.accumulate, self.model = lacks, unused, accumulate, model


# The adapters of the shipped configs, but smaller.
ADAPTED = dict(
    arch='synth-clip-vit',
    adapter=dict(type='AIMAdapter', width=4, num_frames=2),
    text_adapter=dict(type='LoRA', rank=2),
    checkpointing=True,
)
CASES = {
    'adapters': Case(
        ['parts', 'caption'],
        unused=True,
        accumulate=2,
        backbone=ADAPTED,
        neck=dict(type='TemporalTransformer', num_frames=2, std=0.02),
    ),
    'adapters, frames off': Case(['parts'], levels=('parts', 'caption'), backbone=ADAPTED),
    'no caption': Case(['caption']),
    'no parts': Case(['parts'], fusion='learned'),
    'neither, frames off': Case(['parts', 'caption'], levels=('parts', 'caption')),
    'parts alone': Case(['parts'], levels=('parts',), fusion='mean'),
    'captions alone': Case(['caption'], levels=('caption',), trains=(TEXT,)),
    'a level switched off': Case(['caption'], levels=('frames', 'caption'), fusion='mean'),
    # As in the shipped configs, DistributedDataParallel looks for unused parameters here.
    'joint encoder': Case(['parts', 'caption'], unused=True, neck=dict(type='JAS', num_frames=2)),
}
STEPS, BATCH = 2, 4


def _clips_of_case(case: Case) -> list[Clip]:
    return clips(STEPS * BATCH, dict.fromkeys(case.lacks, range(1, STEPS * BATCH, 2)))


def _steps(
    model: nn.Module, wrapped: nn.Module, batch: list[Clip], accumulate: int
) -> list[dict[str, Tensor]]:
    """Train on all clips, and return the gradients that the optimizer gets in each step."""
    optimizer, found = torch.optim.SGD(model.parameters(), lr=0.01), []
    optimizer.register_step_pre_hook(lambda *_: found.append(gradients(model)))
    wrapper, size = OptimWrapper(optimizer, accumulative_counts=accumulate), len(batch) // STEPS
    wrapper.initialize_count_status(model, 0, STEPS)
    for start in range(0, len(batch), size):
        model.last_of_step = wrapper.should_sync()  # as AccumulationHook does
        wrapped.train_step(pseudo_collate(batch[start : start + size]), wrapper)
    return found


def _rank(rank: int, port: int, out: str) -> None:
    """Run all cases as one of two ranks, and save the gradients to ``out``."""
    torch.set_num_threads(1)
    init_default_scope('mmaction')
    torch.distributed.init_process_group(
        'gloo',
        init_method=f'tcp://127.0.0.1:{port}',
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    found = {}
    for name, case in CASES.items():
        model = build(**case.model).train()
        wrapped = MMDistributedDataParallel(model, find_unused_parameters=case.unused)
        own = _clips_of_case(case)[rank::2]
        found[name] = _steps(model, wrapped, own, case.accumulate)
    torch.save(found, f'{out}/{rank}.pth')
    torch.distributed.barrier()


@pytest.fixture(scope='module')
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """Run two ranks and return their gradients."""
    out = tmp_path_factory.mktemp('ranks')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_rank, (port, str(out)), nprocs=2)
    return [torch.load(out / f'{rank}.pth', weights_only=True) for rank in range(2)]


@pytest.mark.parametrize('name', CASES)
def test_two_ranks_have_the_gradients_of_one(ranks: list[dict], name: str) -> None:
    case = CASES[name]
    model = build(**case.model).train()
    one = _steps(model, model, _clips_of_case(case), case.accumulate)
    assert len(one) == STEPS // case.accumulate
    for rank in ranks:
        for ours, theirs in zip(rank[name], one, strict=True):
            assert set(ours) == set(theirs)
            for key, gradient in theirs.items():
                torch.testing.assert_close(ours[key], gradient, rtol=1e-7, atol=1e-9)
    assert one[0]['cls_head.tokens'].abs().max() > 0
