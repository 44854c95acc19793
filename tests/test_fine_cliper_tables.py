"""Test the tables of FineCLIPER: the settings of their rows, and how they show finished runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from math import log
from pathlib import Path

import torch
from conftest import ROOT

from mmaction.registry import MODELS

from benchmarks.fine_cliper import (
    ALL,
    ELSEWHERE,
    TABLES,
    TESTS,
    make_domain_rows,
    make_rows,
    read_weights,
)
from mmdfer.engine.runner.config import parse_options

ROWS = {row.name: row for rows in TABLES.values() for row in rows}


def test_rows_have_the_same_tower_frames_pixels_and_epochs(tmp_path: Path) -> None:
    for row in ROWS.values():
        (cfg, *_) = (training.cfg for training in row.trainings(tmp_path))
        assert cfg.model.backbone.arch == 'synth-clip-vit'
        for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
            clips = loader.dataset.get('dataset', loader.dataset)  # without the feature bank
            steps = {step.type: step for step in clips.pipeline}
            crop = steps.get('RandomCrop') or steps['CenterCrop']
            assert steps['UniformSample'].clip_len == 8
            assert (crop.get('size') or crop.crop_size) == 64
        if row.method.startswith('fine_cliper'):
            assert cfg.train_cfg.max_epochs == 4
            assert cfg.train_dataloader.batch_size == 8
            assert cfg.train_dataloader.dataset.pipeline[3].type == 'LoadLevels'


def test_captions_are_shuffled_in_one_row_alone(tmp_path: Path) -> None:
    seeds = {
        name: [
            loader.dataset.pipeline[3].get('shuffle_captions')
            for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader)
        ]
        for name, row in ROWS.items()
        if row.method == ALL.method
        for cfg in [row.trainings(tmp_path)[0].cfg]
    }
    assert seeds.pop('shuffled') == [0, 0, 0]
    assert set(map(tuple, seeds.values())) == {(None, None, None)}


def test_adapters_have_equal_numbers_of_parameters() -> None:
    counts = []
    for row in TABLES['adapters'][:3]:
        (training, *_) = row.trainings(Path('work_dirs'))
        adapter = MODELS.build(training.cfg.model.backbone).adapter
        counts.append(sum(p.numel() for p in adapter.parameters()))
    assert max(counts) < 1.01 * min(counts)


def test_tables_show_means_over_the_finished_seeds(tmp_path: Path) -> None:
    shuffled, *_ = TESTS
    for seed, war in enumerate((70.0, 72.0)):
        folder = tmp_path / 'all' / f'seed_{seed}'
        write_report(folder, war, war - 10)
        write_step(folder, 'train', 100 + 20 * seed)
        write_step(folder, shuffled, 1)
        (folder / shuffled / 'now').mkdir(parents=True)
        scores = dict(WAR=50 + seed, UAR=40)
        (folder / shuffled / 'now' / 'confusion_matrix.json').write_text(json.dumps(scores))
        write_step(folder, ELSEWHERE, 1)
        write_report(folder / ELSEWHERE, war - 20, 30)
    _, first, second = make_rows(TABLES['levels'], tmp_path)  # the other rows have no result
    assert first == [ALL.title, '2', '71.00 ± 1.41', '61.00 ± 1.41', '0:01:50']
    assert second[1:] == ['2', '50.50 ± 0.71', '40.00 ± 0.00', '']
    _, line = make_domain_rows(TABLES['domains'], tmp_path)
    assert line[0] == 'FineCLIPER' and line[3].startswith('71.00 ± 1.41 / 61.00')
    assert line[4] == '51.00 ± 1.41 / 30.00 ± 0.00'


def test_the_learned_weights_are_means_over_the_seeds(tmp_path: Path) -> None:
    for seed, factor in enumerate((1, 3)):
        folder = tmp_path / 'all' / f'seed_{seed}'
        write_report(folder, 70.0, 60.0)
        scalars = torch.tensor([log(factor * weight) for weight in (1.0, 0.5, 0.25)])
        torch.save(dict(state_dict=dict(level_scalars=scalars)), folder / 'epoch_4.pth')
        (folder / 'last_checkpoint').write_text('epoch_4.pth')
    assert read_weights(tmp_path).endswith(': frames 2.00, parts 1.00, captions 0.50.\n')


def test_other_tests_of_the_models_use_other_levels_weights_or_captions(tmp_path: Path) -> None:
    found = {}
    for name, (_, options) in TESTS.items():
        cfg = ALL.trainings(tmp_path)[0].cfg
        cfg.merge_from_dict(parse_options(options))
        model = MODELS.build(cfg.model)
        load = cfg.test_dataloader.dataset.pipeline[3]
        found[name] = (model.levels, model.fusion, load.get('shuffle_captions'))
    levels = ('frames', 'parts', 'caption')
    assert found == {
        'captions_shuffled': (levels, 'learned', 0),
        **{f'{level}_alone': ((level,), 'learned', None) for level in levels},
        'margin_fusion': (levels, 'margin', None),
        'mean_fusion': (levels, 'mean', None),
    }


STOPPED = """
import sys
import benchmarks.fine_cliper as tables
from mmdfer.experiments.runs import run_command

def run_seed(row, seed, work_dir):
    code = 'import time; print("begun", flush=True); time.sleep(600)'
    run_command([sys.executable, '-c', code])

if __name__ == '__main__':
    tables.run_seed = run_seed
    tables.main(['--tables', 'texts', '--jobs', '2', '--work-dir', 'tables'])
"""


def test_a_termination_signal_ends_the_trainings(tmp_path: Path) -> None:
    (tmp_path / 'stopped.py').write_text(STOPPED)
    command = subprocess.Popen(
        [sys.executable, 'stopped.py'],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert [command.stdout.readline() for _ in range(2)] == ['begun\n'] * 2
    command.send_signal(signal.SIGTERM)
    # The pipes are open as long as a training runs.
    _, said = command.communicate(timeout=60)
    assert command.returncode == 130 and 'Run the same command again to continue.' in said


def write_report(folder: Path, war: float, uar: float) -> None:
    """Write a report as ReportHook does, of the last epoch of the config."""
    folder.mkdir(parents=True, exist_ok=True)
    epoch = ALL.trainings(folder)[0].last_epoch
    last = dict(epoch=epoch, WAR=war, UAR=uar, confusion=None)
    content = dict(dataset='synth', classes=['a', 'b'], last=last, best=last)
    (folder / 'report.json').write_text(json.dumps(content))


def write_step(folder: Path, name: str, seconds: float) -> None:
    """Write the record of a step that has succeeded."""
    record = dict(command=['true'], seconds=seconds, status=0)
    (folder / f'{name}.json').write_text(json.dumps(record))
