"""Test the leaderboard: its figures, the runs that it makes, and the model index."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import toy
import yaml
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import nn

from mmdfer import DFERError
from mmdfer.cli import leaderboard as command_line
from mmdfer.cli.main import main as mmdfer_main
from mmdfer.evaluation.complexity import Complexity, flops
from mmdfer.evaluation.report import Fold, Score
from mmdfer.experiments import leaderboard as experiment
from mmdfer.experiments.leaderboard_tables import Row, Run, as_csv, lead, save_leaderboard
from mmdfer.experiments.model_index import read_methods, read_models

ROOT = Path(__file__).resolve().parents[1]

# ------------------------------------------------------------------ figures, worked by hand


def _run(seed: int, right: tuple[int, int], shuffled: float | None = 50.0) -> Run:
    """Return a run on 20 and 5 clips of two classes; `right` is the number of correct ones."""
    a, b = right
    confusion = np.array([[a, 20 - a], [5 - b, b]])
    last = Score(2, 4.0 * (a + b), 50 * (a / 20 + b / 5), confusion)
    fold = Fold(1, 'synth', ('happy', 'sad'), last, Score(1, last.war + 1, last.uar + 2, None))
    return Run(seed, (fold,), None if shuffled is None else (shuffled,), 60.0 + seed)


COST = Complexity(1_500_000, 2_000_000, 3 * 10**9, 4 * 10**9, 12.34, 'a machine')
# WAR 80, 84 and 88; UAR 75, 77.5 and 80.
BETTER = Row(
    'better',
    tuple(_run(seed, right, 50.0 + seed) for seed, right in enumerate([(17, 3), (18, 3), (19, 3)])),
    COST,
    90.0,
    {'DFEW': dict(WAR=70.84, UAR=57.56)},
)
# WAR 72 and 76.
WORSE = Row('worse', (_run(0, (14, 4)), _run(1, (15, 4), None)))


def test_the_tables_hold_the_means_and_deviations_worked_by_hand(tmp_path: Path) -> None:
    text = save_leaderboard([WORSE, BETTER], tmp_path)
    assert (tmp_path / 'leaderboard.txt').read_text() == text + '\n'
    markdown = ' '.join((tmp_path / 'leaderboard.md').read_text().split())  # cells are padded
    # 80, 84 and 88 have the deviation 4. The pooled variance of both rows is (32 + 8) / 3.
    accuracy = '| better | 3 | 84.00 ± 4.00 | 75.00 ± 2.50 | 10.00 > 7.30 | 51.00 ± 1.00 |'
    assert accuracy in markdown
    assert '| 85.00 ± 4.00 | 77.00 ± 2.50 | 70.84 / 57.56 |' in markdown
    assert '| worse | 2 | 74.00 ± 2.83 |' in markdown
    assert '| better | 90.00 | 60.00 |' in markdown  # recalls: 17, 18, 19 of 20; 3 of 5
    assert '| better | 1.500 | 2.00 | 3.00 | 4.00 | 0:01:01 | 0:01:30 | 12.3 |' in markdown
    assert '| worse | - | - | - | - | 0:01:00 | - | - |' in markdown  # 60.5 s, rounded to even
    # sqrt(0.84 * 0.16 / 25)
    assert 'with 25 clips, the WAR of the first row has a standard error of 7.33' in text
    assert text.startswith('synthetic data: not results on any real dataset\n')
    picture = cv2.imread(str(tmp_path / 'leaderboard.png'))
    assert picture.shape[1] == 1800 and picture.std() > 10  # 9 inches at 2x, and not blank


def test_numbers_for_programs_are_unrounded_and_published_ones_say_so(tmp_path: Path) -> None:
    rows = list(csv.DictReader(as_csv([BETTER, WORSE]).splitlines()))
    assert [row['method'] for row in rows] == ['better', 'worse']
    assert float(rows[1]['WAR, deviation']) == pytest.approx(8**0.5)
    assert float(rows[0]['lead, limit']) == pytest.approx(2 * (40 / 3) ** 0.5)
    assert rows[1]['lead'] == rows[1]['WAR, frames shuffled'] == ''  # one seed lacks that test
    assert rows[0]['published: DFEW WAR'] == '70.84' and rows[1]['published: DFEW WAR'] == ''
    assert [key for key in rows[0] if '70.84' in rows[0][key]] == ['published: DFEW WAR']
    assert rows[0]['note'] == 'synthetic data: not results on any real dataset'
    save_leaderboard([BETTER, WORSE], tmp_path)
    numbers = json.loads((tmp_path / 'leaderboard.json').read_text())
    first = numbers['methods'][0]
    assert [run['WAR'] for run in first['runs']] == [80, 84, 88]
    assert first['runs'][0]['confusion'] == [[17, 3], [2, 3]]
    assert first['recall/happy'] == pytest.approx(90) and first['clip_flops'] == 3 * 10**9


def test_a_lead_counts_against_the_spread_of_both_rows() -> None:
    same = Row('same', tuple(_run(seed, (17, 3)) for seed in range(3)))  # 80, 80, 80
    assert lead(same, Row('one', (_run(0, (14, 4)),))) == (8, 0)
    once = Row('once', (_run(0, (17, 3)),))
    assert lead(once, Row('one', (_run(0, (14, 4)),))) == (8, None)  # one seed has no deviation


def test_a_seed_on_folds_is_their_mean_and_its_recalls_are_of_all_clips() -> None:
    one, two = (_run(0, right).folds[0] for right in [(20, 5), (10, 0)])
    run = Run(0, (one, two), (60.0, 40.0), None)
    assert run.figures()['WAR'] == 70 and run.figures()['WAR, frames shuffled'] == 50
    assert run.recalls() == dict(happy=75, sad=50)


def test_rows_of_other_classes_make_no_table(tmp_path: Path) -> None:
    fold = _run(0, (1, 1)).folds[0]
    other = Fold(1, 'synth', ('sad', 'happy'), fold.last, fold.best)
    with pytest.raises(
        DFERError, match="other has classes .*'sad', 'happy'.* cannot share a table"
    ):
        save_leaderboard([BETTER, Row('other', (Run(0, (other,), None, None),))], tmp_path / 'x')
    assert not (tmp_path / 'x').exists()


# ------------------------------------------------------------------ FLOPs


class _Net(BaseModel):
    """Run a part on each clip, and compute a matrix product once and keep it."""

    def __init__(self, part: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.part, self.shape, self.kept = part, shape, None

    def forward(self, inputs: object, data_samples: object = None, mode: str = 'tensor') -> None:
        if self.kept is None:
            self.kept = torch.zeros(5, 6) @ torch.zeros(6, 7)
        self.part(torch.zeros(1, *self.shape))


class _Packed(nn.Module):
    """Multiply by a weight (8, 6) in the packed layout of oneDNN."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(torch.zeros(8, 6), None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, None, 'none', [], '')


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason='torch without oneDNN')
def test_packed_products_count_too() -> None:
    net = _Net(_Packed(), (10, 6)).eval()
    assert flops(net, dict(inputs=torch.zeros(1)))[1] == 2 * 10 * 6 * 8


@pytest.mark.parametrize(
    ('part', 'shape', 'products'),
    [
        # 7 x 7 positions, 4 output channels, kernels of 2 x 2 over 3 channels.
        (nn.Conv2d(3, 4, 2), (3, 8, 8), 49 * 4 * 12),
        # 10 steps, four gates, 8 inputs and 6 hidden values.
        (nn.LSTM(8, 6, batch_first=True), (10, 8), 10 * 4 * 6 * (8 + 6)),
        # 10 positions: query, key, value and output, the MLP, and two products of 10 x 10.
        (
            nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True),
            (10, 16),
            10 * (4 * 16 * 16 + 2 * 16 * 32) + 2 * 10 * 10 * 16,
        ),
    ],
    ids=['convolution', 'lstm', 'transformer'],
)
def test_flops_are_those_counted_by_hand(part: nn.Module, shape: tuple, products: int) -> None:
    first, further = flops(_Net(part, shape).eval(), dict(inputs=torch.zeros(1)))
    assert further == 2 * products
    assert first - further == 2 * 5 * 6 * 7


# ------------------------------------------------------------------ the model index

FIGURES = re.compile(r'(\d+\.\d+) / (\d+\.\d+)')  # WAR / UAR, as tables print them
PUBLISHED = {
    'align_dfer_vitl14': dict(DFEW=(74.20, 64.09), FERV39k=(51.77, 41.87), MAFW=(53.24, 42.07)),
    'clip_zero_shot': dict(FERV39k=(17.09, 20.99), MAFW=(19.16, 18.42)),
    'coop': dict(FERV39k=(42.55, 31.72), MAFW=(42.77, 30.79)),
    'cocoop': dict(FERV39k=(44.25, 32.91), MAFW=(43.23, 30.81)),
    'cliper': dict(DFEW=(70.84, 57.56), FERV39k=(51.34, 41.23)),
    'dfer_clip': dict(DFEW=(71.25, 59.61), FERV39k=(51.65, 41.27), MAFW=(52.55, 39.89)),
    'fine_cliper': dict(DFEW=(76.21, 65.98), FERV39k=(53.98, 45.22), MAFW=(56.91, 45.01)),
    # From the comparison in Align-DFER's paper.
    'c3d': dict(DFEW=(53.54, 42.74), FERV39k=(31.69, 22.68), MAFW=(42.25, 31.17)),
    'p3d': dict(DFEW=(54.47, 43.97), FERV39k=(33.39, 23.20)),
    'r3d18': dict(DFEW=(58.27, 46.52), FERV39k=(37.57, 26.67)),
    'r2plus1d18': dict(DFEW=(53.22, 42.79), FERV39k=(41.28, 31.55)),
    'vgg13_lstm': dict(FERV39k=(40.86, 29.57)),
    'resnet18_lstm': dict(DFEW=(63.85, 51.32), FERV39k=(42.95, 30.92), MAFW=(39.38, 28.08)),
    'resnet18_vit': dict(DFEW=(66.56, 55.76), FERV39k=(48.43, 38.35), MAFW=(47.72, 35.80)),
    'ec_stfl': dict(DFEW=(56.51, 45.35)),
    'former_dfer': dict(DFEW=(65.7, 53.69), FERV39k=(46.85, 37.2), MAFW=(43.27, 31.16)),
    'freq_hd': dict(DFEW=(55.68, 46.85), FERV39k=(45.26, 33.07)),
    'm3dfel': dict(DFEW=(69.25, 56.1), FERV39k=(47.67, 35.94)),
}


def test_the_index_names_every_metafile_and_each_of_its_configs_exists() -> None:
    index = ROOT / 'model-index.yml'
    metafiles = {str(p.relative_to(ROOT)) for p in (ROOT / 'configs').rglob('metafile.yml')}
    assert set(_yaml(index)['Import']) == metafiles
    models = read_models(index)
    names = [model['Name'] for model in models]
    assert len(set(names)) == len(names)
    shipped = {p.relative_to(ROOT) for p in (ROOT / 'configs').rglob('*.py')}
    shipped = {str(p) for p in shipped if '_base_' not in p.parts}
    assert {model['Config'] for model in models} == shipped
    collections = {c['Name'] for path in metafiles for c in _yaml(ROOT / path)['Collections']}
    for model in models:
        assert model['Name'] == Path(model['Config']).stem
        assert model['In Collection'] in collections


def test_published_figures_are_those_of_the_papers() -> None:
    results = 0
    for dataset in ('dfew', 'ferv39k', 'mafw'):
        for method in read_methods(ROOT / 'model-index.yml', dataset).values():
            for name, printed in method.published.items():
                expected = PUBLISHED[method.name][name]
                assert (printed['WAR'], printed['UAR']) == expected, (method.name, name)
                results += name.lower() == dataset
    total = sum(len(model.get('Results') or ()) for model in read_models(ROOT / 'model-index.yml'))
    assert results == total > 0  # each result is found under its dataset


def test_published_figures_are_only_beside_their_own_backbone() -> None:
    """Check that pages have no figures of other backbones, and configs none at all.

    The papers' Align-DFER has ViT-L/14, their I3D has Inception, and IAL's net is not implemented.
    """
    pages = [ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')]
    lines = [line for page in pages for line in page.read_text().splitlines()]
    rows = 0
    for model in read_models(ROOT / 'model-index.yml'):
        other = model['Name'].startswith(('i3d_', 'ial_')) or (
            model['Name'].startswith('align_dfer_') and not model['Name'].endswith('_vitl14')
        )
        # Only the metafiles have figures, since configs share their bases.
        assert not FIGURES.search((ROOT / model['Config']).read_text()), model['Name']
        figures = [(f['WAR'], f['UAR']) for f in map(_metrics, model.get('Results') or ())]
        assert not (other and 'Results' in model), model['Name']
        printed = [f for line in lines if model['Config'] in line for f in FIGURES.findall(line)]
        assert [(float(w), float(u)) for w, u in printed] in ([], figures), model['Name']
        rows += len(printed)
        if clip := re.search(r'ViT-./\d+', model['Metadata'].get('Architecture', '')):
            config = Config.fromfile(ROOT / model['Config'])
            assert clip[0].replace('/', '-') in config.model.backbone.arch, model['Name']
    assert rows >= 3  # the number in the README's table of Align-DFER
    bases = (ROOT / 'configs' / '_base_').rglob('*.py')
    assert not any(FIGURES.search(path.read_text()) for path in bases)


def _metrics(result: dict) -> dict:
    return result['Metrics']


def _yaml(path: Path) -> dict:
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize(
    ('index', 'said'),
    [
        (None, 'model-index.yml: is not a YAML file with a list Import'),
        ('Import: [nowhere.yml]', 'nowhere.yml: is not a YAML file with a list Models'),
        ('Import: [', 'model-index.yml: is not a YAML file'),
    ],
)
def test_a_broken_index_is_one_line(index: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / 'broken' / 'model-index.yml'
    if index is not None:
        path.parent.mkdir()
        path.write_text(index)
    with pytest.raises(DFERError, match=said) as error:
        read_methods(path, 'synth')
    assert '\n' not in str(error.value)


# ------------------------------------------------------------------ running

METAFILE = """
Models:
  - {Name: linear_toy, Config: linear_toy.py}
  - {Name: linear_toy_slow, Config: linear_toy_slow.py}
  - {Name: broken_toy, Config: ablations/broken_toy.py}
  - Name: linear_dfew
    Config: linear_dfew.py
    Results: [{Dataset: DFEW, Task: DFER, Metrics: {WAR: 12.5, UAR: 13.5}}]
"""
TWO = ('--dataset', 'toy', '--seeds', '2', '--work-dir', 'o ut', '--methods', 'linear', 'linear_s*')


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv('LOCAL_RANK', '0')
    folders = [str(ROOT), str(ROOT / 'tests'), os.environ.get('PYTHONPATH', '')]
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(folders))
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    monkeypatch.chdir(tmp_path)
    text = toy.CONFIG.format(base=str(ROOT / 'configs/_base_/default_runtime.py'))
    Path('ablations').mkdir()
    Path('linear_toy.py').write_text(text)
    Path('linear_dfew.py').write_text(text.replace("'ToyClips',", "'ToyClips', fold=1,"))
    Path('linear_toy_slow.py').write_text(text.replace('lr=0.5', 'lr=1e-6'))
    Path('ablations/broken_toy.py').write_text(text.replace('length=7', 'length=7, broken=1'))
    Path('metafile.yml').write_text(METAFILE)
    Path('model-index.yml').write_text('Import: [metafile.yml]')


@pytest.fixture
def leaderboard(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple]:
    """Return a function that runs the command in this process.

    The function returns the exit status and the commands that were started.
    """

    def call(*arguments: str, run: Callable[[list[str]], int] = _run_here) -> tuple:
        ran = []
        monkeypatch.setattr(experiment, 'run_command', lambda c, log: ran.append(c) or run(c))
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as exit_:
            command_line.main(['--model-index', 'model-index.yml', *arguments])
        signal.signal(signal.SIGTERM, before)
        return exit_.value.code, ran

    return call


def _run_here(command: list[str]) -> int:
    assert command[:3] == [sys.executable, '-m', 'mmdfer']
    try:
        mmdfer_main(command[3:])
    except SystemExit as exit_:
        return 1 if exit_.code else 0
    return 0


def _names(ran: list[list[str]]) -> list[str]:
    return [command[3] for command in ran]


def test_runs_are_made_once_and_repeated_one_by_one(leaderboard: Callable, capfd) -> None:
    status, ran = leaderboard(*TWO)
    assert status == 0
    # The first seed of all methods comes before the second; complexity is computed once.
    once = ['train', 'test', 'complexity']
    assert _names(ran) == [*once, *once, 'train', 'test', 'train', 'test']
    seeds = [command[command.index('--seed') + 1] for command in ran if '--seed' in command]
    assert seeds == ['0', '0', '1', '1']
    lines = capfd.readouterr().out.splitlines()
    assert [line.split(':')[0] for line in lines if line.startswith('[')] == [
        *('[1/4] linear, seed 0', '[2/4] linear_slow, seed 0'),
        *('[3/4] linear, seed 1', '[4/4] linear_slow, seed 1'),
    ]
    left = [line for line in lines if line.endswith(' left')]
    assert len(left) == 4
    assert all(re.search(r'elapsed, about \d+:\d\d:\d\d left$', line) for line in left)
    assert left[3].endswith('elapsed, about 0:00:00 left')
    numbers = json.loads(Path('o ut/toy/leaderboard.json').read_text())
    first, second = numbers['methods']
    assert (first['method'], second['method']) == ('linear', 'linear_slow')
    # The method classifies all clips correctly, but one of the seven is mislabelled.
    assert first['WAR'] == pytest.approx(600 / 7) and first['WAR, deviation'] == 0
    wars = [
        json.loads(Path(f'o ut/toy/linear_slow/seed_{k}/report.json').read_text())['last']['WAR']
        for k in (0, 1)
    ]
    assert second['WAR'] == pytest.approx(sum(wars) / 2)
    assert second['WAR, deviation'] == pytest.approx(abs(wars[0] - wars[1]) / 2**0.5)
    # Only the order of the frames tells the classes apart, so shuffling causes errors.
    assert first['WAR, frames shuffled'] < first['WAR']
    assert first['trained'] == first['parameters'] == 18 and first['clip_flops'] == 2 * 8 * 2
    assert first['once_flops'] == 0 and first['training_seconds'] > 0
    assert first['published: DFEW WAR'] == 12.5 and 'published: DFEW WAR' not in second

    table = Path('o ut/toy/leaderboard.md').read_text()
    assert leaderboard(*TWO) == (0, [])
    assert Path('o ut/toy/leaderboard.md').read_text() == table

    Path('o ut/toy/linear/seed_1/report.json').unlink()
    status, ran = leaderboard(*TWO)
    assert status == 0 and _names(ran) == ['train']
    assert 'o ut/toy/linear/seed_1' in ran[0]
    shutil.rmtree('o ut/toy/linear/seed_1')
    status, ran = leaderboard(*TWO)
    assert status == 0 and _names(ran) == ['train', 'test']

    status, ran = leaderboard(*TWO, '--cfg-options', 'optim_wrapper.optimizer.lr=0.1')
    assert ran == [] and 'seed_0: the run was started with other settings (optim_wrapper' in status


def test_a_method_that_fails_leaves_the_others(leaderboard: Callable, capfd) -> None:
    status, ran = leaderboard(
        *TWO[:2], '--seeds', '1', '--work-dir', 'out', '--methods', 'broken', 'linear'
    )
    assert status == 1 and _names(ran) == ['train', 'train', 'test', 'complexity']
    out, err = capfd.readouterr()
    failed = 'failed (train: exit status 1, see out/toy/broken/seed_0/train.log)'
    assert f'{failed}; 0:00:' in out and f'broken, seed 0 {failed}; resume it with' in err
    command = err.splitlines()[-1]
    assert '-m mmdfer train ablations/broken_toy.py --resume --seed 0 --work-dir' in command
    numbers = json.loads(Path('out/toy/leaderboard.json').read_text())
    assert [row['method'] for row in numbers['methods']] == ['linear']


def test_ablations_run_only_when_they_are_named(leaderboard: Callable) -> None:
    flags = ('--dataset', 'toy', '--seeds', '1')
    status, ran = leaderboard(*flags, run=lambda _: 1)
    assert status == 1 and [command[4] for command in ran] == [
        'linear_toy.py',
        'linear_toy_slow.py',
    ]


def test_the_frozen_tower_is_encoded_before_the_clock_runs(leaderboard: Callable) -> None:
    encoded = "train_dataloader = dict(dataset=dict(type='EncodedClips', dataset=dict()))\n"
    Path('linear_toy.py').write_text(Path('linear_toy.py').read_text() + encoded)
    commands = dict(extract_features=0, train=1)
    _, ran = leaderboard(
        *('--dataset', 'toy', '--methods', 'linear', '--seeds', '1'),
        run=lambda command: commands[command[3]],
    )
    assert [command[3:6] for command in ran] == [
        ['extract_features', 'linear_toy.py', '--bank'],
        ['train', 'linear_toy.py', '--resume'],
    ]
    assert ran[1][6:8] == ['--seed', '0']
    assert '--bank' in ran[1]


def test_a_dataset_with_folds_runs_all_five(leaderboard: Callable) -> None:
    _, ran = leaderboard('--dataset', 'dfew', '--seeds', '1', run=lambda _: 1)
    folders = [command[command.index('--work-dir') + 1] for command in ran]
    assert folders == [
        f'work_dirs/leaderboard/dfew/linear/seed_0/fold_{fold}' for fold in (1, 2, 3, 4, 5)
    ]
    assert ran[4][-3:] == [
        f'{loader}_dataloader.dataset.fold=5' for loader in ('train', 'val', 'test')
    ]


def test_ctrl_c_says_that_the_same_command_continues(leaderboard: Callable, capfd) -> None:
    def interrupt(command: list[str]) -> int:
        raise KeyboardInterrupt

    status, ran = leaderboard(*TWO, run=interrupt)
    assert status == 130 and len(ran) == 1
    said = capfd.readouterr().err.splitlines()[-1]
    assert said == 'Interrupted. Run the same command again to continue.'
    assert json.loads(Path('o ut/toy/linear/seed_0/train.json').read_text())['status'] is None


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (
            ['--dataset', 'toy', '--methods', 'linear', 'quadratic'],
            '--methods quadratic: no such method has a config on toy. Choose from linear, '
            'linear_slow, broken',
        ),
        (['--dataset', 'mnist'], "model-index.yml: there is no config for the dataset 'mnist'"),
        (['--dataset', 'toy', '--seeds', '0'], '--seeds must be at least 1, got 0'),
        (
            ['--dataset', 'toy', '--cfg-options', 'default_hooks.report=None'],
            'linear_toy.py: the run would write no report',
        ),
    ],
)
def test_bad_input_ends_in_one_line_before_anything_runs(
    arguments: list[str], said: str, leaderboard: Callable
) -> None:
    status, ran = leaderboard(*arguments)
    assert status.startswith('error: ') and '\n' not in status and ran == []
    assert said in status
