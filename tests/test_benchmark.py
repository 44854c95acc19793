"""The plain implementation has our losses, and the benchmark prints and writes what it measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from mmaction.registry import MODELS

from mmdfer.models import CLIPRecognizer

sys.path.insert(0, str(ROOT))

from benchmarks import parts, plain  # noqa: E402

B = 4


def _models() -> tuple[CLIPRecognizer, plain.PlainAlignDFER, torch.Tensor]:
    """Ours over the small CLIP, the plain one with its weights, and frames (B, T, 3, H, W)."""
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
    frames = torch.randn(B, 16, 3, 64, 64)
    return model, parts.build_plain(parts.Settings(small=True), model, frames.flatten(0, 1)), frames


@pytest.mark.parametrize('stage', plain.STAGES)
def test_the_plain_losses_are_ours(stage: str) -> None:
    model, other, frames = _models()
    with torch.no_grad():
        vectors = model.backbone(frames.transpose(1, 2))
    ours = parts.OurStep(model, stage, vectors, bf16=False)
    ours.wrapper.clip_grad_kwargs = None  # clipping is ours, not the paper's
    sgd, labels = plain.optimizer(other, stage), torch.arange(B) % 3
    losses = []
    for _ in range(3):
        theirs = plain.train_step(other, sgd, frames, labels, stage)
        losses.append((ours()['loss'].item(), float(theirs)))
    print(stage, losses)
    assert losses[0][1] != pytest.approx(losses[2][1], abs=1e-3)  # it has learned something
    for one, another in losses:
        assert one == pytest.approx(another, abs=1e-4)


def test_the_plain_text_tower_reads_all_positions() -> None:
    _, other, _ = _models()
    seen = []
    other.clip.transformer.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    other.encode_sentences()
    assert [tuple(shape[:2]) for shape in seen] == [(3 * 16, other.clip.context_length)]


def test_targets_and_what_they_compare() -> None:
    row = parts.Row('step', 2.0, 's', 24.0, 12.0, at_least=(15, 9))
    assert row.target(onednn=True) == ('>= 15 (9)', False)
    assert row.target(onednn=False) == ('>= 15 (9)', True)
    assert parts.Row('loading', 0.9, 'ms', at_most=1).target(True) == ('<= 1', True)
    assert parts.Row('loading', 1.1, 'ms', at_most=1).target(True) == ('<= 1', False)
    assert parts.Row('size', 1.1, 'MB').target(True) == ('', None)


def test_the_schedule_adds_up() -> None:
    steps = {f'{stage} {who}': 1.0 for stage in plain.STAGES for who in ('fp32', 'bf16')}
    steps |= {f'{stage} plain': 10.0 for stage in plain.STAGES}
    steps |= {'plain image pass': 5.0, 'validation': 0.5}
    figures = dict(steps=steps, extraction={'frames fp32': 10.0, 'frames bf16': 20.0})
    rows = {row.name: row for row in parts.schedule(figures)}
    # 147 batches of 64 in 9,356 clips, 37 in 2,341; 9 views of 11,697 clips; 100 epochs, 5 folds.
    ours = 9 * 11697 / 10 + 5 * 100 * (147 * 1 + 37 * 0.5)
    theirs = 5 * 100 * (147 * 10 + 37 * 5)
    five = rows['DFEW, 5 folds, 100 epochs, fp32']
    assert five.ours == pytest.approx(ours / 3600) and five.other == pytest.approx(theirs / 3600)
    one = rows['DFEW, 1 fold, 100 epochs, bf16']
    ours = (8 * 9356 + 2341) / 20 + 100 * (147 + 37 * 0.5)
    assert one.ours == pytest.approx(ours / 3600)


def test_it_prints_a_table_and_writes_it(tmp_path: Path) -> None:
    out = tmp_path / 'benchmark.json'
    command = [sys.executable, str(ROOT / 'tools' / 'benchmark.py'), '--small', '--device', 'cpu']
    run = subprocess.run(
        [*command, '--rows', 'loading', '--out', str(out)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr
    written = json.loads(out.read_text())
    (row,) = written['rows']
    assert row['unit'] == 'ms' and row['ours'] > 0 and row['met'] == (row['ours'] <= 1)
    (line,) = [line for line in run.stdout.splitlines() if '| a batch of 64' in line]
    assert ('met' if row['met'] else 'short') in line
    assert written['machine']['cpu'] in run.stdout and written['parts']['loading']['peak_gb'] > 0.1
