"""Test how configs set the folder of the data, and how users' configs find the shipped ones."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import mmengine.hub
import pytest
from conftest import NUM_TEST, NUM_TRAIN, ROOT
from mmengine.config import Config

from mmaction.registry import DATASETS

import mmdfer
from mmdfer.compat import pass_on_folders
from mmdfer.cpus import count_cpus
from mmdfer.datasets.licensed import verify as check
from mmdfer.datasets.licensed.discovery import look
from mmdfer.engine.runner.config import parse_options, read_config
from mmdfer.errors import DFERError
from mmdfer.features.extraction import Views, list_clips
from mmdfer.synthetic.benchmark import default_workers

NAMES = dict(dfew='DFEW', ferv39k='FERV39k', mafw='MAFW', synth='synth')
SHIPPED = sorted(
    str(path.relative_to(ROOT / 'configs'))
    for path in (ROOT / 'configs').rglob('*.py')
    if path.stem.rpartition('_')[2] in NAMES and '_base_' not in path.parts
)


def _roots(part: Any) -> Iterator[str]:
    """Yield each data_root in a part of a config."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key == 'data_root':
                yield value
            yield from _roots(value)
    elif isinstance(part, list):
        for item in part:
            yield from _roots(item)


def _roots_of_loaders(cfg: Config) -> list[str]:
    return [root for key in cfg if key.endswith('_dataloader') for root in _roots(cfg[key])]


# ------------------------------------------------------------------ data_root


@pytest.mark.parametrize('dataset', NAMES)
def test_data_root_on_the_command_line_reaches_every_loader_of_a_shipped_config(
    dataset: str,
) -> None:
    names = [name for name in SHIPPED if Path(name).stem.endswith(f'_{dataset}')]
    assert len(names) > 10
    # The loaders come from the base files, so one config for each set of base files is enough.
    bases = {tuple(_bases(ROOT / 'configs' / name)): name for name in names}
    for name in bases.values():
        cfg = read_config(ROOT / 'configs' / name, parse_options(['data_root=/my/data']))
        assert _roots_of_loaders(cfg) == ['/my/data'] * 3


def _bases(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if 'datasets/' in line]


def test_the_folder_of_levels_inside_data_root_moves_with_it() -> None:
    config = ROOT / 'configs' / 'fine_cliper' / 'fine_cliper_mafw.py'
    cfg = read_config(config, parse_options(['data_root=/my/data']))
    assert cfg.train_dataloader.dataset.levels == '/my/data/levels'
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.pipeline[3].folder == '/my/data/levels'


@pytest.mark.parametrize('dataset', NAMES)
@pytest.mark.parametrize('root', [[], ['data_root=/my/data']])
def test_another_folder_of_levels_reaches_the_loaders(dataset: str, root: list[str]) -> None:
    config = ROOT / 'configs' / 'fine_cliper' / f'fine_cliper_{dataset}.py'
    before = read_config(config)
    cfg = read_config(config, parse_options([*root, 'levels=/my/levels']))
    assert cfg.levels == '/my/levels' and cfg.model == before.model
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        assert cfg[name].dataset.pipeline[3].folder == '/my/levels'
        if 'levels' in before[name].dataset:
            assert cfg[name].dataset.levels == '/my/levels'
        assert (cfg[name].dataset.data_root == '/my/data') == bool(root)


def test_a_folder_of_levels_after_a_data_root_of_ones_own(tmp_path: Path) -> None:
    child = tmp_path / 'mine.py'
    child.write_text("_base_ = ['mmdfer::fine_cliper/fine_cliper_dfew.py']\ndata_root = '/mine'\n")
    cfg = read_config(child)
    assert cfg.levels == cfg.test_dataloader.dataset.pipeline[3].folder == '/mine/levels'
    cfg = read_config(child, parse_options(['levels=/my/levels']))
    assert cfg.test_dataloader.dataset.pipeline[3].folder == '/my/levels'
    assert cfg.test_dataloader.dataset.data_root == '/mine'


def test_levels_reach_a_pipeline_that_was_taken_from_the_base(tmp_path: Path) -> None:
    child = tmp_path / 'mine.py'
    child.write_text(
        "_base_ = ['mmdfer::fine_cliper/fine_cliper_dfew.py']\n"
        "levels = '/my/levels'\n"
        'test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline[:5]))\n'
    )
    cfg = read_config(child)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.pipeline[3].folder == '/my/levels'
    assert len(cfg.test_dataloader.dataset.pipeline) == 5


def test_a_loaders_own_data_root_wins(tmp_path: Path) -> None:
    options = ['data_root=/all', 'train_dataloader.dataset.dataset.data_root=/train']
    cfg = read_config(ROOT / 'configs' / 'coop' / 'coop_dfew.py', parse_options(options))
    assert _roots_of_loaders(cfg) == ['/train', '/all', '/all']
    child = tmp_path / 'mine.py'
    child.write_text(
        "_base_ = ['mmdfer::coop/coop_dfew.py']\n"
        "data_root = '/mine'\n"
        "val_dataloader = dict(dataset=dict(dataset=dict(data_root='/elsewhere')))\n"
    )
    cfg = read_config(child, parse_options(['data_root=/all']))  # that of val_dataloader is kept
    assert _roots_of_loaders(cfg) == ['/all', '/elsewhere', '/all']


def test_data_root_reaches_wrapped_datasets_and_only_where_it_was_the_same() -> None:
    inner = [dict(type='DFEW', data_root='/old'), dict(type='DFEW', data_root='/other')]
    wrapped = dict(type='RepeatDataset', dataset=dict(type='ConcatDataset', datasets=inner))
    parts = dict(data_root='/old', train_dataloader=dict(dataset=wrapped))
    ours = Config(dict(parts, custom_imports=dict(imports=['mmdfer'])))
    ours.merge_from_dict(dict(data_root='/new'))
    assert _roots_of_loaders(ours) == ['/new', '/other']
    assert ours.data_root == '/new' and inner[0]['data_root'] == '/old'
    theirs = Config(parts)  # does not use this package, so mmengine merges it as usual
    theirs.merge_from_dict(dict(data_root='/new'))
    assert _roots_of_loaders(theirs) == ['/old', '/other']
    merge = Config._merge_a_into_b
    pass_on_folders()
    assert Config._merge_a_into_b is merge


def test_a_missing_folder_names_both_remedies(tmp_path: Path) -> None:
    with pytest.raises(DFERError, match=r'--cfg-options data_root=DIR.*MMDFER_DATA'):
        look(tmp_path / 'nowhere')


@pytest.mark.parametrize('folder', ['D:\\data', 'C:\\new\\table\\users', '/it\'s/"here"', ''])
@pytest.mark.parametrize('dataset', NAMES)
def test_mmdfer_data_may_be_any_path(
    folder: str, dataset: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv('MMDFER_DATA', folder)
    cfg = Config.fromfile(ROOT / 'configs' / 'coop' / f'coop_{dataset}.py')
    assert _roots_of_loaders(cfg) == [f'{folder or "data"}/{NAMES[dataset]}'] * 3
    cfg.dump(tmp_path / 'dumped.py')  # as in a work directory
    assert Config.fromfile(tmp_path / 'dumped.py').data_root == cfg.data_root


# ------------------------------------------------------------------ mmdfer::


@pytest.mark.parametrize('name', ['align_dfer_dfew.py', 'coop/coop_synth.py', 'coop/coop_mafw'])
def test_a_config_is_found_by_the_packages_name(name: str, tmp_path: Path) -> None:
    path = ROOT / 'configs' / (name.removesuffix('.py') + '.py')
    expected = Config.fromfile(path)
    (tmp_path / 'mine.py').write_text(f"_base_ = ['mmdfer::{name}']\nmodel = dict(new=1)\n")
    mine = Config.fromfile(tmp_path / 'mine.py')
    assert mine.model.pop('new') == 1
    assert mine.to_dict() == expected.to_dict()
    assert mmengine.hub.get_config(f'mmdfer::{name}').to_dict() == expected.to_dict()


def test_a_wheel_keeps_its_configs_in_mim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / 'mmdfer'
    (package / '.mim' / 'configs' / 'a').mkdir(parents=True)
    (package / '.mim' / 'configs' / 'a' / 'b.py').write_text('x = 1\n')
    monkeypatch.setattr(mmdfer.installed, 'PACKAGE', package)
    assert mmengine.hub.get_config('mmdfer::a/b.py').x == 1


def test_a_config_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / 'mine.py').write_text("_base_ = 'mmdfer::coop/coop.py'\n")
    with pytest.raises(DFERError, match=r'^mmdfer::coop/coop\.py: no such config; .*look below'):
        Config.fromfile(tmp_path / 'mine.py')
    with pytest.raises(DFERError, match='publishes no weights'):
        mmengine.hub.get_config('mmdfer::coop/coop_synth.py', pretrained=True)


def test_the_hub_builds_a_model() -> None:
    model = mmengine.hub.get_model('mmdfer::coop/coop_synth.py')
    assert type(model).__name__ == 'CLIPRecognizer'


# ------------------------------------------------------------------ other systems


def test_cpus_are_counted_without_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, 'sched_getaffinity', raising=False)
    for found, expected in ((None, 1), (3, 3), (128, 128)):
        monkeypatch.setattr(os, 'cpu_count', lambda found=found: found)
        assert count_cpus() == expected
        assert default_workers() == min(8, expected)
    monkeypatch.setattr('mmdfer.cpus.os.name', 'nt')
    assert count_cpus() == 61  # the maximum of ProcessPoolExecutor on Windows
    monkeypatch.undo()
    assert 1 <= count_cpus() <= os.cpu_count()


def test_many_clips_are_looked_at_without_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, 'sched_getaffinity', raising=False)
    monkeypatch.setattr(os, 'cpu_count', lambda: 1)
    seen = list(check._look_at_all([(None, False)] * 300, 'looking', None))
    assert len(seen) == 300


def test_what_workers_get_can_be_pickled(data_root: Path) -> None:
    """Pickle a dataset as on Windows and macOS, where workers do not inherit the process."""
    cfg = Config.fromfile(ROOT / 'configs' / 'align_dfer_synth.py')
    sizes = dict(num_train=NUM_TRAIN, num_test=NUM_TEST, data_root=str(data_root / 'synth'))
    dataset = DATASETS.build({**cfg.train_dataloader.dataset.dataset, **sizes})
    views = Views(dataset, list_clips([dataset]))
    for sent in (dataset, views):
        received = ForkingPickler.loads(ForkingPickler.dumps(sent))
        key = 3 if sent is dataset else (3, 1)
        assert type(received) is type(sent)
        if sent is views:
            assert (received[key][2] == sent[key][2]).all()


def test_the_benchmark_starts_without_the_resource_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'resource', None)  # as on Windows
    for name in [name for name in sys.modules if name.split('.')[0] == 'benchmarks']:
        monkeypatch.delitem(sys.modules, name)  # another test may have imported the benchmark
    runpy.run_path(str(ROOT / 'tools' / 'benchmark.py'))
