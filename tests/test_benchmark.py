"""The baselines of tools/benchmark.py have mmdfer's losses and views, and its tables are right."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from forked import run_forked

from mmaction.registry import MODELS

from benchmarks import clips, mmdfer_runs, naive, parts, schedule, strong, table, timing
from benchmarks.model import STAGES, PlainAlignDFER
from benchmarks.settings import Settings
from mmdfer.models import CLIPRecognizer, FrameFeatures
from mmdfer.synthetic.releases import make_release

B = 4


def _models() -> tuple[CLIPRecognizer, PlainAlignDFER, torch.Tensor]:
    """Return mmdfer's model over the small CLIP, the baselines' model, and frames (B, T, ...)."""
    model = MODELS.build(
        dict(
            type='CLIPRecognizer',
            backbone=dict(type='FrozenCLIP', arch='synth-clip'),
            neck=dict(type='JAS'),
            cls_head=dict(type='MATHead', num_classes=3, num_sentences=16, num_tokens=6),
        )
    )
    torch.nn.init.normal_(model.cls_head.tokens, std=0.5)
    for name, parameter in model.neck.named_parameters():
        if name.endswith(('out_proj.weight', 'linear2.weight')):  # zeros hide a wrong wiring
            torch.nn.init.normal_(parameter, std=0.05)
    return model, mmdfer_runs.build_baseline(model), torch.randn(B, 16, 3, 64, 64)


@pytest.mark.parametrize('bf16, error', [(False, 1e-4), (True, 1e-2)])
@pytest.mark.parametrize('stage', STAGES)
def test_the_losses_of_all_implementations_agree(stage: str, bf16: bool, error: float) -> None:
    model, baseline, frames = _models()
    vectors = model.backbone(frames.transpose(1, 2)).detach()
    labels, start = torch.arange(B) % 3, model.state_dict()
    start = {key: value.clone() for key, value in start.items()}
    runs: dict[str, Callable[[], Any]] = {
        'mmdfer': mmdfer_runs.MmdferStep(model, stage, vectors, bf16),
        'strong': partial(strong.Trainer(baseline, stage, bf16).step, vectors, labels),
        'naive': partial(naive.Trainer(baseline, stage).step, frames, labels),
    }
    losses = {}
    for name, run in runs.items():
        mmdfer_runs.copy_weights(model, baseline)
        losses[name] = [float(run()) for _ in range(3)]
        model.load_state_dict(start)
        model.neck.set_stage(stage)
    print(stage, losses)
    assert losses['naive'][0] != pytest.approx(losses['naive'][2], abs=1e-3)  # it has learned
    for name in ('mmdfer', 'strong'):
        assert losses[name] == pytest.approx(losses['naive'], rel=error)


def test_predictions_agree() -> None:
    model, baseline, frames = _models()
    vectors = model.backbone(frames.transpose(1, 2)).detach()
    expected = mmdfer_runs.classify(model, FrameFeatures(vectors[:, None]))
    encoded = strong.ImageEncoder(baseline.clip, 16)(frames)
    actual = strong.Predictor(baseline)(encoded)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_what_the_text_tower_computes() -> None:
    _, baseline, frames = _models()
    seen: list[tuple[int, ...]] = []
    transformer = baseline.clip.transformer
    transformer.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[:2])))
    vectors, labels = torch.randn(B, 16, baseline.clip.text_projection.shape[1]), torch.zeros(B)
    trainers = {
        (kind.__module__, stage): kind(baseline, stage)
        for kind in (naive.Trainer, strong.Trainer)
        for stage in STAGES
    }
    counts = {}
    for key, trainer in trainers.items():
        seen.clear()
        step = trainer.step_after_images if isinstance(trainer, naive.Trainer) else trainer.step
        for _ in range(2):
            step(vectors, labels.long())
        counts[key] = list(seen)
    context, prompt = baseline.clip.context_length, 6 + 3
    for stage in STAGES:
        assert counts['benchmarks.naive', stage] == 2 * [(3 * 16, context)]
        passes = 1 if stage == 'video' else 2
        assert counts['benchmarks.strong', stage] == passes * [(3 * 16, prompt)]


@pytest.mark.parametrize('module', ['model', 'clips', 'naive', 'strong'])
def test_the_baselines_import_nothing_of_mmdfer(module: str) -> None:
    tree = ast.parse((ROOT / 'benchmarks' / f'{module}.py').read_text())
    imported = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    imported += [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    host = ('mmdfer', 'mmaction', 'mmengine', 'mmcv')
    assert not [name for name in imported if name and name.split('.')[0] in host]
    own = {name.split('.')[1] for name in imported if name and name.startswith('benchmarks.')}
    assert own <= {'model', 'clips'}


@pytest.fixture(scope='module')
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('release')
    return make_release('dfew', folder, 35, ('frames', 'videos'), size=96)


@pytest.mark.parametrize('media', ['frames', 'videos'])
def test_the_baselines_read_the_same_views(release: Path, media: str) -> None:
    from mmengine.config import Config

    from mmaction.registry import DATASETS

    config = Config.fromfile(ROOT / 'configs' / 'align_dfer_dfew.py').val_dataloader
    dataset = DATASETS.build(dict(config.dataset.dataset, data_root=str(release), media=media))
    listed = clips.list_clips(release, media, 'test')
    views = clips.ClipViews(listed, training=False)
    assert len(views) == len(dataset) >= 7
    for index in range(len(views)):
        frames, number = views[index]
        sample = dataset[index]
        assert number == index
        assert listed[index][1] == int(sample['data_samples'].gt_label)
        expected = sample['inputs'][0].transpose(0, 1)  # (T, 3, H, W)
        assert frames.shape == expected.shape == (16, 3, 224, 224)
        # The decoders round differently.
        assert (frames.float() - expected.float()).abs().mean() < 2


def test_training_views_are_random_cuts(release: Path) -> None:
    np.random.seed(0)
    views = clips.ClipViews(clips.list_clips(release), training=True, num_views=2)
    assert len(views) == 2 * len(views.clips)
    (first, one), (second, two) = views[2], views[3]
    assert (one, two) == (2, 3) and first.shape == second.shape == (16, 3, 224, 224)
    assert not torch.equal(first, second)


def test_extraction_writes_each_vector(release: Path, tmp_path: Path) -> None:
    _, baseline, _ = _models()
    views = clips.ClipViews(clips.list_clips(release)[:3], training=False)

    def encode(frames: torch.Tensor) -> torch.Tensor:
        small = torch.nn.functional.interpolate(frames.flatten(0, 1), 64).unflatten(0, (-1, 16))
        return encoder(small)

    encoder = strong.ImageEncoder(baseline.clip, 16)
    encode.clip = baseline.clip  # type: ignore[attr-defined]
    strong.extract(encode, views, tmp_path / 'v.npy', workers=0)  # type: ignore[arg-type]
    written = np.load(tmp_path / 'v.npy')
    expected = torch.stack([encode(clips.normalise(views[i][0])[None])[0] for i in range(3)])
    np.testing.assert_allclose(written, expected.half().numpy(), rtol=1e-2, atol=1e-2)


def test_batches_are_an_epoch_of_random_views() -> None:
    np.random.seed(0)
    vectors = np.arange(10 * 2, dtype=np.float16).reshape(10, 2, 1, 1)
    labels = np.arange(10)
    drawn = list(strong.draw_batches(vectors, labels, 4))
    assert [len(batch) for batch, _ in drawn] == [4, 4]
    seen = torch.cat([targets for _, targets in drawn])
    assert len(set(seen.tolist())) == 8
    for batch, targets in drawn:
        assert batch.dtype == torch.float32
        assert (batch.flatten() // 2).tolist() == targets.tolist()


def test_runs_take_turns() -> None:
    order: list[str] = []
    runs = {name: lambda name=name: order.append(name) for name in 'ab'}
    samples = timing.interleave(runs, 3, 'cpu')
    assert ''.join(order) == 'ab' + 'ab' + 'ba' + 'ab'
    assert {name: len(values) for name, values in samples.items()} == dict(a=3, b=3)
    assert timing.quartiles([4, 1, 3, 2, 5]) == (2, 3, 4) and timing.quartiles([7]) == (7, 7, 7)


def test_ratios_are_of_pairs() -> None:
    step = table.Row('step', 's', [1.0, 2.0, 1.0], [2.0, 8.0, 3.0])
    assert step.ratios('strong') == [2, 4, 3] and step.ratios('naive') == []
    rate = table.Row('rate', 'clips/s', [10.0], [5.0], higher_is_better=True)
    assert rate.ratios('strong') == [2]
    lines = table.result_table([step, rate]).splitlines()
    assert [cell.strip() for cell in lines[2].split('|')[1:-1]] == [
        'step', '1.00 s', '3.00 s', '3.00 (2.50 to 3.50)', '', ''
    ]  # fmt: skip
    assert '2.00' in lines[3].split('|')[4]


def test_the_spread_over_runs() -> None:
    runs = [
        dict(rows=[dict(name='step', unit='s', mmdfer=[1.0], strong=[ratio], naive=[10 * ratio])])
        for ratio in (3.0, 1.0, 2.5)
    ]
    lines = table.spread_table(runs).splitlines()
    cells = [[cell.strip() for cell in line.split('|')[1:-1]] for line in lines]
    title = 'ratio to the {} baseline'
    assert cells[0] == [title.format('strong'), 'run 1', 'run 2', 'run 3', 'min', 'median', 'max']
    assert cells[2][1:] == ['3.00', '1.00', '2.50', '1.00', '2.50', '3.00']
    assert cells[2][0] == 'step' and cells[4][0] == title.format('naive')
    assert cells[6][-1] == '30.0'


def test_the_schedule_adds_up() -> None:
    steps = {
        f'{stage} {name} {precision}': [seconds]
        for stage in STAGES
        for name, seconds in (('mmdfer', 1.0), ('strong', 2.0))
        for precision in ('fp32', 'bf16')
    }
    steps |= {f'{stage} naive': [10.0] for stage in STAGES} | {'joint image pass': [5.0]}
    steps |= {'validation mmdfer': [0.5], 'validation strong': [0.25]}
    extraction = {
        f'{precision} {name}': [rate]
        for precision in ('fp32', 'bf16')
        for name, rate in (('mmdfer', 10.0), ('strong', 20.0))
    }
    found = schedule.compute_schedule(dict(steps=steps, extraction=extraction))
    rows = {row.name: row for row in found}
    # 146 full batches of 64 in 9,356 clips, 37 in 2,341; 9 views of 11,697 clips; 100 epochs.
    five = rows['DFEW, 5 folds, fp32 (computed)']
    hours = [
        (9 * 11697 / 10 + 500 * (146 * 1 + 37 * 0.5)) / 3600,
        (9 * 11697 / 20 + 500 * (146 * 2 + 37 * 0.25)) / 3600,
        500 * (146 * 10 + 37 * 5) / 3600,
    ]
    assert [*five.mmdfer, *five.strong, *five.naive] == pytest.approx(hours)
    one = rows['DFEW, 1 fold, bf16 (computed)']
    assert one.mmdfer == pytest.approx([((8 * 9356 + 2341) / 10 + 100 * (146 + 37 * 0.5)) / 3600])
    assert one.naive == []


def test_the_command_prints_and_writes_a_table(tmp_path: Path) -> None:
    out = tmp_path / 'speed.json'
    command = [ROOT / 'tools' / 'benchmark.py']
    options = ['--small', '--device', 'cpu', '--rows', 'loading', '--out', str(out)]
    run = run_forked([*command, *options], cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    written = json.loads(out.read_text())
    (row,) = written['rows']
    assert row['unit'] == 'ms' and row['mmdfer'][0] > 0 and row['strong'][0] > 0
    assert '| a batch of 64 clips from the feature bank' in run.stdout
    assert written['machine']['CPU'] in run.stdout
    spread = run_forked([*command, '--spread', out, out])
    assert spread.returncode == 0 and 'ratio to the strong baseline' in spread.stdout
    assert Settings().repeats >= 7
    assert set(parts.PARTS) >= {'steps', 'inference', 'extraction', 'decoding', 'memory', 'start'}
