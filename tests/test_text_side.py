"""Test that the text side runs once per optimizer step, shared by the ranks, exactly."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample

import mmdfer  # noqa: F401  registers everything, in the ranks too
from mmdfer.engine import AccumulationHook
from mmdfer.models import CLIPDataPreprocessor, CLIPRecognizer, FrameFeatures
from mmdfer.models.data_preprocessors.clip_preprocessor import encoder_digest
from mmdfer.models.recognizers.sharded_prompts import encode_sharded

CLASSES, SENTENCES, TOKENS = 7, 5, 6  # 35 prompts: 18 for each of two ranks, one prompt twice
Clip = dict[str, Any]


def _recognizer(stage: str = 'joint', dtype: torch.dtype = torch.float64) -> CLIPRecognizer:
    torch.manual_seed(3)
    head = dict(type='MATHead', num_classes=CLASSES, num_sentences=SENTENCES, num_tokens=TOKENS)
    model = MODELS.build(
        dict(
            type='CLIPRecognizer',
            backbone=dict(type='FrozenCLIP', arch='synth-clip'),
            neck=dict(type='JAS', num_sentences=SENTENCES),
            cls_head=dict(head, temperature=0.03),  # so that every class has a gradient
        )
    )
    # Draw classes far apart. The gradients of similar classes cancel and leave rounding errors.
    torch.nn.init.normal_(model.cls_head.tokens)
    for name, parameter in model.neck.named_parameters():
        if name.endswith(('out_proj.weight', 'linear2.weight')):  # zeros hide wrong wiring
            torch.nn.init.normal_(parameter, std=0.05)
    model.neck.set_stage(stage)
    return model.to(dtype).train()


def _clips(count: int, dtype: torch.dtype = torch.float64) -> list[Clip]:
    vectors = torch.randn(count, 1, 16, 128, generator=torch.Generator().manual_seed(1))
    samples = [ActionDataSample().set_gt_label(i % CLASSES) for i in range(count)]
    encoder = encoder_digest(_recognizer().backbone, CLIPDataPreprocessor())
    return [
        dict(features=v.to(dtype), encoder=encoder, data_samples=s)
        for v, s in zip(vectors, samples, strict=True)
    ]


@contextmanager
def _counted(model: CLIPRecognizer) -> Iterator[dict[str, list[int]]]:
    """Count the positions that the text tower encodes in each forward and backward pass."""
    encode, passes = model.backbone.encode_prompts, dict(forward=[], backward=[])

    def counted(prompts: Tensor, end: int | Tensor) -> Tensor:
        positions = prompts.shape[:-1].numel()
        passes['forward'].append(positions)
        out = encode(prompts, end)
        if out.requires_grad:
            out.register_hook(lambda _: passes['backward'].append(positions))
        return out

    model.backbone.encode_prompts = counted
    yield passes
    model.backbone.encode_prompts = encode


# ------------------------------------------------------------------------------- accumulation


class ScaledWrapper(OptimWrapper):
    """Scale losses as AmpOptimWrapper does, which requires a GPU.

    With this initial scale, the gradients of the first step overflow.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scaler = torch.amp.GradScaler('cpu', init_scale=1e38, backoff_factor=1e-36)

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        self.scaler.scale(loss).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs: Any) -> None:
        self.scaler.step(self.optimizer)
        self.scaler.update()


def _train(
    model: CLIPRecognizer,
    work_dir: Path,
    hooks: list,
    clips: list[Clip],
    counts: int = 3,
    wrapper: type[OptimWrapper] = OptimWrapper,
) -> Runner:
    """Train two epochs in batches of two clips, with a step every ``counts`` batches."""
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    runner = Runner(
        model,
        str(work_dir),
        train_dataloader=DataLoader(clips, batch_size=2, collate_fn=pseudo_collate),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=wrapper(optimizer=sgd, accumulative_counts=counts),
        default_hooks=dict(logger=None, checkpoint=None),
        custom_hooks=hooks,
        default_scope='mmaction',
        log_level='ERROR',
        experiment_name=f'{work_dir.name}{len(hooks)}',
    )
    runner.train()
    return runner


@pytest.mark.parametrize('stage', ['text', 'joint'])
def test_a_step_of_several_batches_passes_the_text_once(stage: str, tmp_path: Path) -> None:
    # An epoch has 7 batches, and a step takes 3. The steps of both epochs take 3, 3, 1 + 2 (across
    # the end of the first epoch), 3, and 2 batches (at the end of the run).
    clips, passes, models = _clips(14), {}, {}
    for hooks in ([], [AccumulationHook()]):
        models[len(hooks)] = model = _recognizer(stage)
        with _counted(model) as passes[len(hooks)]:
            _train(model, tmp_path / stage, hooks, clips)
    assert len(passes[0]['forward']) == 14  # once for each batch
    assert len(passes[1]['forward']) == len(passes[1]['backward']) == 6
    _assert_equal(models[1], models[0], 1e-9)
    assert not torch.allclose(models[1].cls_head.tokens, _recognizer(stage).cls_head.tokens)


def test_scaled_losses_and_a_skipped_step(tmp_path: Path) -> None:
    models = []
    for hooks in ([], [AccumulationHook()]):
        model = _recognizer(dtype=torch.float32)
        clips = _clips(12, torch.float32)
        runner = _train(model, tmp_path / 'scaled', hooks, clips, wrapper=ScaledWrapper)
        assert runner.optim_wrapper.scaler.get_scale() == pytest.approx(100, rel=1e-3)
        models.append(model)
    _assert_equal(models[1], models[0], 1e-5)


def test_without_accumulation_every_step_passes_the_text_once(tmp_path: Path) -> None:
    model = _recognizer()
    with _counted(model) as passes:
        _train(model, tmp_path / 'plain', [AccumulationHook()], _clips(6), counts=1)
    assert len(passes['forward']) == len(passes['backward']) == 6
    assert model.last_of_step


def test_a_frozen_text_side_is_encoded_once_whatever_the_accumulation(tmp_path: Path) -> None:
    model = _recognizer('video')
    model.requires_grad_(False).neck.image_encoder.requires_grad_(True)
    with _counted(model) as passes:
        _train(model, tmp_path / 'frozen', [AccumulationHook()], _clips(6), counts=2)
    assert len(passes['forward']) == 1 and not passes['backward']


def _assert_equal(ours: CLIPRecognizer, theirs: CLIPRecognizer, tolerance: float) -> None:
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert (a - b).abs().max() <= tolerance * b.abs().max(), name


# -------------------------------------------------------------------------------------- ranks

CASES = [
    (stage, dtype, counts)
    for stage in ('text', 'joint')
    for dtype in (torch.float32, torch.float64)
    for counts in (1, 2)
]
STEPS, BATCH = 2, 8  # steps, and clips of a step in all ranks and batches


def _steps(
    model: CLIPRecognizer, wrapped: torch.nn.Module, clips: list[Clip], counts: int
) -> list[dict[str, Tensor]]:
    """Train on all clips, and return the gradients that the optimizer gets in each step."""
    optimizer, gradients = torch.optim.SGD(model.parameters(), lr=0.1), []
    optimizer.register_step_pre_hook(
        lambda *_: gradients.append(
            {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        )
    )
    wrapper = OptimWrapper(optimizer, accumulative_counts=counts)
    size = len(clips) // (STEPS * counts)
    for batch in DataLoader(clips, batch_size=size, collate_fn=pseudo_collate):
        model.last_of_step = wrapper.should_sync()
        wrapped.train_step(batch, wrapper)
    return gradients


def _rank(rank: int, port: int, out: str) -> None:
    """Run all cases as one of two ranks, and save the gradients and passes to ``out``."""
    torch.set_num_threads(1)
    init_default_scope('mmaction')
    torch.distributed.init_process_group(
        'gloo',
        init_method=f'tcp://127.0.0.1:{port}',
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=600),
    )
    ends = torch.arange(15).view(3, 5) % 4
    prompts = torch.randn(3, 5, 4, 2, generator=torch.Generator().manual_seed(0))
    picked = encode_sharded(lambda p, e: p[torch.arange(len(p)), e], prompts, ends)
    found = dict(picked=torch.equal(picked, prompts.gather(2, _index(ends))[:, :, 0]))
    for number, (stage, dtype, counts) in enumerate(CASES):
        model = _recognizer(stage, dtype)
        wrapped = MMDistributedDataParallel(model, find_unused_parameters=True)
        if rank == 0:  # a pass of one rank, as in a report, must not wait for the other
            with torch.no_grad():
                model(FrameFeatures(_clips(1, dtype)[0]['features'][None]), stage='head')
        with _counted(model) as passes:
            clips = _clips(STEPS * BATCH, dtype)[rank::2]
            found[number] = _steps(model, wrapped, clips, counts), passes
    torch.save(found, f'{out}/{rank}.pth')
    torch.distributed.barrier()


def _index(ends: Tensor) -> Tensor:
    return ends[:, :, None, None].expand(-1, -1, 1, 2)


@pytest.fixture(scope='module')
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """Run two ranks and return their results."""
    out = tmp_path_factory.mktemp('ranks')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_rank, (port, str(out)), nprocs=2)
    return [torch.load(out / f'{rank}.pth', weights_only=True) for rank in range(2)]


@pytest.mark.parametrize('number', range(len(CASES)), ids=[str(case) for case in CASES])
def test_two_ranks_have_the_gradients_of_one(ranks: list[dict], number: int) -> None:
    stage, dtype, _ = CASES[number]
    model = _recognizer(stage, dtype)
    one = _steps(model, model, _clips(STEPS * BATCH, dtype), counts=1)
    bound = 1e-5 if dtype == torch.float32 else 1e-6
    worst = 0.0
    for rank in ranks:
        for ours, theirs in zip(rank[number][0], one, strict=True):
            for name, gradient in theirs.items():
                assert gradient.abs().max() > 0, name
                error = (ours[name] - gradient).norm() / gradient.norm()
                worst = max(worst, float(error))
    print(f'{CASES[number]}: gradients of two ranks within {worst:.1e} of those of one')
    assert worst < bound


def test_each_rank_encodes_its_share(ranks: list[dict]) -> None:
    share = -(-CLASSES * SENTENCES // 2) * (TOKENS + 3)  # the positions of 18 of 35 prompts
    for rank in ranks:
        for number in range(len(CASES)):
            _, passes = rank[number]
            assert passes == dict(forward=[share] * STEPS, backward=[share] * STEPS)


def test_prompts_of_different_lengths_keep_their_ends(ranks: list[dict]) -> None:
    assert all(rank['picked'] for rank in ranks)
