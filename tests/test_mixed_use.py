"""Test MMAction2's recognizers with our necks and losses, and its analysis tools on our configs.

Our datasets with MMAction2's recognizers are tested in test_net_configs.py, by the configs of the
nets. If a tool has a fault upstream, a test shows that it fails on MMAction2's own configs too.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from forked import run_forked
from mixed import SHIPPED_MODELS, PictureClips, batch, make_runner, shipped
from mmengine import load
from mmengine.config import Config
from test_net_configs import small
from torch.utils.flop_counter import FlopCounterMode

from mmaction.registry import MODELS

from mmdfer.engine.runner.build import build_runner

TOOLS = SHIPPED_MODELS.parents[2] / 'tools' / 'analysis_tools'

# ------------------------------------------------------ their recognizers, our necks and losses

LEVELS = {'backbone.depth': 18, 'backbone.out_indices': (2, 3)}
IAL = dict(type='IntensityAwareLoss', intensity_weight=0.5)
MIXTURES: dict[str, tuple[str, dict[str, Any]]] = {
    'tsn, LSTM': ('tsn_r50', dict(neck=dict(type='LSTMNeck', dims=512), **LEVELS)),
    'tsm, transformer': (
        'tsm_r50',
        {
            'neck': dict(type='TemporalTransformer', dims=512),
            'backbone.pretrained2d': False,
            'backbone.num_segments': 4,
            'cls_head.num_segments': 1,  # the neck has already reduced time
            'cls_head.is_shift': False,
            **LEVELS,
        },
    ),
    'slowonly, GRU': ('slowonly_r50', dict(neck=dict(type='GRUNeck', dims=512), **LEVELS)),
    'i3d, JAS': (
        'i3d_r50',
        {
            'neck': dict(type='JAS', dims=128, in_channels=512),
            'backbone.conv1_stride_t': 1,  # the clips have four frames
            'backbone.pool1_stride_t': 1,
            'backbone.inflate': ((1, 1), (1, 0), (1, 0), (0, 1)),
            **LEVELS,
        },
    ),
    'r2plus1d, clusters': (
        'r2plus1d_r34',
        {
            'neck': dict(type='ExpressionClusteredNeck', neck=dict(type='LSTMNeck', dims=512)),
            'backbone.norm_cfg': dict(type='BN3d'),
            **LEVELS,
        },
    ),
}


@pytest.mark.parametrize(('name', 'options'), MIXTURES.values(), ids=MIXTURES)
def test_their_recognizers_take_our_necks_and_losses(name: str, options: dict[str, Any]) -> None:
    width = options['neck'].get('dims', 512)
    head = {'cls_head.in_channels': width, 'cls_head.dropout_ratio': 0.0, 'cls_head.loss_cls': IAL}
    model = MODELS.build(shipped(name, **options, **head)).train()
    layout = 'NCHW' if type(model).__name__ == 'Recognizer2D' else 'NCTHW'
    dataset = PictureClips(frames=4, layout=layout)
    data = model.data_preprocessor(batch(dataset, 6), training=True)
    losses = model(**data, mode='loss')
    loss, _ = model.parse_losses(losses)
    loss.backward()
    assert any(p.grad is not None and p.grad.any() for p in model.neck.parameters())
    assert model.cls_head.fc_cls.weight.grad.abs().sum() > 0

    # The loss by hand: cross-entropy, and that of the true class and the largest other class.
    logits = model(**data, mode='tensor', stage='head')
    labels = torch.cat([sample.gt_label for sample in data['data_samples']])
    others = logits.clone()
    others[range(6), labels] = float('-inf')
    pairs = torch.stack([logits[range(6), labels], others.max(1).values], 1)
    expected = F.cross_entropy(logits, labels) + 0.5 * F.cross_entropy(pairs, labels.new_zeros(6))
    torch.testing.assert_close(losses['loss_cls'], expected, rtol=1e-3, atol=1e-4)
    assert ('loss_ec' in losses) == ('ExpressionClusteredNeck' in str(options))


# ------------------------------------------------------------- their tools, our configs


def run_tool(name: str, *args: object, path: Path | None = None) -> subprocess.CompletedProcess:
    """Run an unchanged analysis tool of MMAction2, with ``path`` and mmdfer in PYTHONPATH."""
    paths = [str(p) for p in (path, ROOT) if p]
    return run_forked(
        [TOOLS / name, *args], env={**os.environ, 'PYTHONPATH': os.pathsep.join(paths)}
    )


def flops_and_parameters(done: subprocess.CompletedProcess) -> tuple[float, float]:
    """Return what get_flops.py prints: operations in G, and parameters in M."""
    assert done.returncode == 0, done.stderr
    flops = re.search(r'Flops: ([\d.]+)G', done.stdout)
    return float(flops[1]), float(re.search(r'Params: ([\d.]+)M', done.stdout)[1])


def test_get_flops_counts_our_nets() -> None:
    config = ROOT / 'configs/r3d18/r3d18_synth.py'
    done = run_tool('get_flops.py', config, '--shape', 1, 3, 16, 64, 64)
    flops, millions = flops_and_parameters(done)
    model = MODELS.build(Config.fromfile(config).model)
    assert millions == pytest.approx(sum(p.numel() for p in model.parameters()) / 1e6, rel=1e-3)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, 1, 3, 16, 64, 64), mode='tensor')
    # The tool counts a multiplication and its addition as one, and includes BatchNorm and pooling.
    assert flops == pytest.approx(counter.get_total_flops() / 2e9, rel=0.02)


def test_get_flops_counts_align_dfer() -> None:
    done = run_tool(
        'get_flops.py', ROOT / 'configs/align_dfer_synth.py', '--shape', 1, 3, 16, 64, 64
    )
    flops, millions = flops_and_parameters(done)
    model = MODELS.build(Config.fromfile(ROOT / 'configs/align_dfer_synth.py').model)
    assert millions == pytest.approx(sum(p.numel() for p in model.parameters()) / 1e6, rel=1e-3)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval().backbone(torch.zeros(1, 3, 16, 64, 64))
    # By hand: at each position, a transformer layer of width D multiplies by 12 D² weights. The 3
    # layers of the text tower read the start, 64 tokens, the full stop and the end of 16 sentences
    # of 7 classes. The 4 layers of the joint encoder read 16 frames and these sentences.
    layer, sentences = 12 * 128**2, 7 * 16
    text, joint = 3 * sentences * (64 + 3) * layer, 4 * (16 + sentences) * layer
    # The tool includes the norms, and leaves out the products of attention.
    expected = counter.get_total_flops() / 2 + text + joint
    assert flops == pytest.approx(expected / 1e9, rel=0.01)


def test_get_flops_fails_under_a_neck_of_recognizer2d_upstream_too(tmp_path: Path) -> None:
    """Show the cause: MMAction2 passes ``num_segs=1``, a number that torch.jit.trace refuses."""
    theirs = tmp_path / 'theirs.py'
    theirs.write_text(
        f'_base_ = [{str(SHIPPED_MODELS / "tpn_tsm_r50.py")!r}]\n'
        "custom_imports = dict(imports=['mmdfer'], allow_failed_imports=False)\n"
    )
    ours = ROOT / 'configs/resnet18_lstm/resnet18_lstm_synth.py'
    for config, frames in ((ours, 16), (theirs, 8)):
        done = run_tool('get_flops.py', config, '--shape', frames, 3, 64, 64)
        assert done.returncode != 0
        assert 'output 1 (1' in done.stderr
        assert 'did not have observable data dependence' in done.stderr


@pytest.fixture(scope='module')
def run(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train two epochs of a shipped config, and write the test predictions to ``results.pkl``."""
    folder = tmp_path_factory.mktemp('run')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MMDFER_DATA', str(data_root))
        config = small(ROOT / 'configs/resnet18_lstm/resnet18_lstm_synth.py', folder)
    config.merge_from_dict(
        {
            'train_cfg.max_epochs': 2,
            'test_dataloader.dataset.indices': 14,
            'default_hooks.logger.interval': 1,
        }
    )
    dump = dict(type='DumpResults', out_file_path=str(folder / 'results.pkl'))
    config.test_evaluator = [config.test_evaluator, dump]
    runner = build_runner(config)
    runner.train()
    (folder / 'metrics.txt').write_text(str(runner.test()['WAR']))
    config.dump(folder / 'config.py')
    return folder


def counts(run: Path) -> np.ndarray:
    """Count the confusion matrix (7, 7) of the predictions in ``results.pkl``."""
    matrix = np.zeros((7, 7), int)
    for sample in load(run / 'results.pkl'):
        matrix[int(sample['gt_label']), int(sample['pred_score'].argmax())] += 1
    return matrix


def test_report_accuracy_reads_our_results(run: Path) -> None:
    done = run_tool('report_accuracy.py', '--preds', run / 'results.pkl', '--coefficients', 1)
    assert done.returncode == 0, done.stderr
    top1 = float(re.search(r'Top 1 Accuracy: ([\d.]+)', done.stdout)[1])
    matrix = counts(run)
    assert top1 == pytest.approx(matrix.trace() / 14, abs=1e-4)
    assert 100 * top1 == pytest.approx(float((run / 'metrics.txt').read_text()), abs=1e-2)
    mean = float(re.search(r'Mean Class Accuracy: ([\d.]+)', done.stdout)[1])
    present = matrix.sum(1) > 0
    recalls = matrix.diagonal()[present] / matrix.sum(1)[present]
    assert mean == pytest.approx(recalls.mean(), abs=1e-4)


def test_confusion_matrix_reads_our_results(run: Path, tmp_path: Path) -> None:
    """Run the tool, which needs mmdfer imported first if the wheel of MMAction2 lacks `drn`.

    Without `drn`, the tool fails on every config before it reads the config.
    """
    out, picture = tmp_path / 'matrix.pkl', tmp_path / 'matrix.png'
    args = [run / 'config.py', run / 'results.pkl', '--out', out, '--show-path', picture]
    done = run_tool('confusion_matrix.py', *args)
    if 'mmaction.models.localizers.drn' in done.stderr:
        theirs = SHIPPED_MODELS / 'tsn_r50.py'
        assert run_tool('confusion_matrix.py', theirs, args[1]).returncode != 0
        # Import mmdfer first, which replaces the missing module.
        (tmp_path / 'sitecustomize.py').write_text('import mmdfer\n')
        done = run_tool('confusion_matrix.py', *args, path=tmp_path)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.asarray(load(out)), counts(run))
    assert picture.stat().st_size > 1000


@pytest.fixture
def seaborn(tmp_path: Path) -> Path:
    """Write a substitute for seaborn, which analyze_logs.py imports without a requirement."""
    (tmp_path / 'stand_in').mkdir()
    (tmp_path / 'stand_in' / 'seaborn.py').write_text('def set_style(style): pass\n')
    return tmp_path / 'stand_in'


def test_analyze_logs_times_our_logs(run: Path, seaborn: Path) -> None:
    (log,) = run.glob('*/vis_data/2*.json')
    done = run_tool('analyze_logs.py', 'cal_train_time', log, path=seaborn)
    assert done.returncode == 0, done.stderr
    times = [line['time'] for line in map(json.loads, log.read_text().splitlines()) if 'lr' in line]
    mean = float(re.search(r'average iter time: ([\d.]+)', done.stdout)[1])
    assert mean == pytest.approx(
        np.mean(times[1::2]), abs=1e-3
    )  # the first step of each epoch is excluded


def test_analyze_logs_plots_no_log_of_mmengine(run: Path, seaborn: Path, tmp_path: Path) -> None:
    """Show the cause, also for a TSN: the tool reads ``mode``, which mmengine does not write."""
    model = shipped('tsn_r50', **{'backbone.depth': 18, 'cls_head.in_channels': 512})
    optimizer = dict(optimizer=dict(type='SGD', lr=0.01))
    stock = make_runner(model, dict(frames=2), tmp_path / 'tsn', optimizer, max_epochs=1)
    stock.train()
    (ours,), (theirs,) = (r.glob('*/vis_data/2*.json') for r in (run, tmp_path / 'tsn'))
    for log in (ours, theirs):
        done = run_tool('analyze_logs.py', 'plot_curve', log, '--keys', 'loss', path=seaborn)
        assert "log_dict[epoch]['mode'][-1]" in done.stderr
        assert 'IndexError' in done.stderr
