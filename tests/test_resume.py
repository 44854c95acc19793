"""Test resuming at another batch size, in a moved folder, after a stop, and by iterations."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import toy
from mmengine.config import Config
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from mmdfer import compat
from mmdfer.cli import train
from mmdfer.engine import AtomicCheckpointHook
from mmdfer.engine.runner.build import build_runner
from mmdfer.errors import DFERError
from mmdfer.evaluation.report import read_fold
from mmdfer.experiments.cross_validation_tables import check_alike, heading
from mmdfer.experiments.runs import finished

ROOT = Path(__file__).resolve().parents[1]
Build = Callable[..., Runner]


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """Return a function that builds Runners of the toy: three epochs of four iterations."""
    # These take most of the time: finding the versions of compilers, drawing, formatting configs,
    # and collecting garbage before a dataset is serialised.
    monkeypatch.setattr(Runner, '_log_env', lambda self, env_cfg: None)
    monkeypatch.setattr('mmdfer.evaluation.dfer_metric.save_confusion', lambda *_: None)
    monkeypatch.setattr(Config, 'pretty_text', '')
    path = tmp_path / 'toy_run.py'
    path.write_text(toy.CONFIG.format(base=str(ROOT / 'configs/_base_/default_runtime.py')))

    def runner(work_dir: str, file: str = '', **options: Any) -> Runner:
        if file:
            path.write_text(path.read_text() + file)
        config = Config.fromfile(path)
        config.merge_from_dict({'train_cfg.max_epochs': 3, 'log_level': 'WARNING'})
        for loader in (config.train_dataloader, config.val_dataloader):
            loader.dataset.serialize_data = False
        options = copy.deepcopy(options)  # mmengine removes _delete_ from them
        config.merge_from_dict({'work_dir': str(tmp_path / work_dir), **options})
        return build_runner(config)

    return runner


class Rates(Hook):
    """Record the epoch, iteration, learning rate and momentum of each step."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.steps: list[tuple] = []

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        wrapper = runner.optim_wrapper
        group = wrapper.optimizer.param_groups[0]
        momentum = group['betas'][0] if 'betas' in group else group['momentum']
        self.steps.append((runner.epoch, runner.iter, wrapper._inner_count, group['lr'], momentum))


def rates(runner: Runner) -> list[tuple]:
    recorder = Rates()
    runner.register_hook(recorder)
    runner.train()
    return recorder.steps


BY_ITER = dict(by_epoch=True, convert_to_iter_based=True)
SCHEDULES = {
    'stages': [dict(type='CosineRestartLR', periods=[1, 2], restart_weights=[1, 0.5], eta_min=0)],
    'cosine': [dict(type='CosineAnnealingLR', T_max=3, eta_min=0.01)],
    'warm-up': [
        dict(type='LinearLR', start_factor=0.1, end=2),
        dict(type='CosineAnnealingLR', begin=2, end=3, T_max=1),
    ],
    'steps': [dict(type='MultiStepLR', milestones=[1, 2], gamma=0.1)],
    'momentum': [dict(type='CosineAnnealingMomentum', T_max=3, eta_min=0.1)],
}


@pytest.mark.parametrize(
    ('name', 'optimizer'), [*((name, 'SGD') for name in SCHEDULES), ('momentum', 'Adam')]
)
def test_another_batch_size_gives_the_schedule_of_a_run_that_began_with_it(
    build: Build, name: str, optimizer: str
) -> None:
    sgd = dict(type='SGD', lr=0.1, momentum=0.9)
    settings = dict(
        param_scheduler=[{**s, **BY_ITER} for s in SCHEDULES[name]],
        optim_wrapper=dict(
            optimizer=sgd if optimizer == 'SGD' else dict(_delete_=True, type='Adam', lr=0.1),
            accumulative_counts=2,
        ),
    )
    whole = rates(build('whole', **settings))
    small = {'train_dataloader.batch_size': 2}
    first = rates(build('first', **settings, **small))
    assert [step[1] for step in first] == list(range(24)) and len(whole) == 12
    resumed = build('second', **settings, resume=True)
    resumed._load_from = str(Path(resumed.work_dir).with_name('first') / 'epoch_2.pth')
    steps = rates(resumed)
    assert [step[:3] for step in steps] == [step[:3] for step in whole[8:]]
    for ours, expected in zip(steps, whole[8:], strict=True):
        assert ours[3:] == pytest.approx(expected[3:])


def test_mmengines_own_checkpoint_hook_resumes_at_another_batch_size_too(build: Build) -> None:
    settings = dict(
        param_scheduler=[dict(type='CosineAnnealingLR', T_max=3, **BY_ITER)],
        default_hooks=dict(checkpoint=dict(_delete_=True, type='CheckpointHook', interval=1)),
    )
    whole = rates(build('whole', **settings))
    rates(build('run', **settings, **{'train_cfg.max_epochs': 2, 'train_dataloader.batch_size': 2}))
    steps = rates(build('run', **settings, resume=True))
    assert [step[:2] for step in steps] == [step[:2] for step in whole[8:]]
    for ours, expected in zip(steps, whole[8:], strict=True):
        assert ours[3:] == pytest.approx(expected[3:])


def test_a_scaled_rate_is_that_of_the_present_batch_size(build: Build) -> None:
    settings = {
        'auto_scale_lr': dict(enable=True, base_batch_size=4),
        'param_scheduler': [dict(type='MultiStepLR', milestones=[1], gamma=0.1)],
    }
    rates(build('first', **settings, **{'train_cfg.max_epochs': 1}))
    steps = rates(build('first', resume=True, **settings, **{'train_dataloader.batch_size': 8}))
    assert [step[1] for step in steps] == [2, 3, 4, 5]
    assert [step[3] for step in steps] == pytest.approx([0.1] * 4)  # 0.5, doubled, then a tenth


def test_a_longer_run_has_the_longer_schedule(build: Build) -> None:
    def schedule(epochs: int) -> dict[str, Any]:
        cosine = [dict(type='CosineAnnealingLR', T_max=epochs, **BY_ITER)]
        return {'param_scheduler': cosine, 'train_cfg.max_epochs': epochs}

    whole = rates(build('whole', **schedule(3)))
    rates(build('part', **schedule(2)))
    steps = rates(build('part', resume=True, **schedule(3)))
    assert [step[:3] for step in steps] == [step[:3] for step in whole[8:]]
    assert [step[3] for step in steps] == pytest.approx([step[3] for step in whole[8:]])


def test_a_schedule_of_past_scores_is_not_computed_again(build: Build) -> None:
    plateau = dict(type='ReduceOnPlateauLR', monitor='WAR', rule='greater', by_epoch=True)
    warm_up = dict(type='LinearLR', end=1, **BY_ITER)
    rates(build('run', param_scheduler=[plateau, warm_up], **{'train_cfg.max_epochs': 1}))
    again = dict(resume=True, param_scheduler=[plateau, warm_up])
    with pytest.raises(DFERError, match='past validations cannot be resumed with another batch'):
        build('run', **again, **{'train_dataloader.batch_size': 8}).train()
    build('run', **again).train()


@pytest.mark.parametrize('counts', [3, 2])
def test_a_step_that_spans_the_end_of_an_epoch_is_continued(build: Build, counts: int) -> None:
    """Accumulate three of four batches, so one gradient is left over at the end of an epoch."""
    several = {
        'optim_wrapper.accumulative_counts': counts,
        'default_hooks.checkpoint.max_keep_ckpts': -1,
    }
    whole, part = build('whole', **several), build('part', resume=True, **several)
    whole.train()
    for name in ('epoch_1.pth', 'history.json'):  # as if the run had ended there
        shutil.copy(Path(whole.work_dir, name), part.work_dir)
    part.train()
    assert part.iter == 12
    same = zip(whole.model.parameters(), part.model.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in same)


# ---------------------------------------------------------------- load_from


STILL = {'optim_wrapper.optimizer.lr': 0.0, 'train_cfg.max_epochs': 1}


@pytest.fixture
def begin(tmp_path: Path) -> str:
    """Save weights that are all 0.5, without a training state, and return the path."""
    path = tmp_path / 'begin.pth'
    weights = {'linear.weight': torch.full((2, 8), 0.5), 'linear.bias': torch.full((2,), 0.5)}
    torch.save(dict(state_dict=weights), path)
    return str(path)


def half(runner: Runner) -> bool:
    return all(torch.equal(p, torch.full_like(p, 0.5)) for p in runner.model.parameters())


@pytest.mark.parametrize('resume', ['auto', True])
def test_load_from_begins_a_new_run_and_a_begun_one_resumes(
    build: Build, begin: str, resume: str | bool
) -> None:
    runner = build('run', resume=resume, load_from=begin, **STILL)
    runner.train()
    assert half(runner) and runner.epoch == 1
    torch.save(dict(state_dict={'linear.bias': torch.zeros(2)}), begin)
    runner = build('run', resume=resume, load_from=begin, **{**STILL, 'train_cfg.max_epochs': 2})
    steps = rates(runner)
    assert half(runner) and [step[0] for step in steps] == [1] * 4


def test_load_from_that_mmactions_train_py_clears_is_read_from_the_config(
    build: Build, begin: str
) -> None:
    runner = build('run', f'load_from = {begin!r}\n', resume=True, load_from=None, **STILL)
    runner.train()
    assert half(runner)


@pytest.mark.parametrize('hook', ['AtomicCheckpointHook', 'CheckpointHook'])
def test_train_py_keeps_load_from_for_a_new_work_dir(
    build: Build, begin: str, hook: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    build('unused')  # writes the config
    monkeypatch.chdir(tmp_path)
    options = [f'{key}={value}' for key, value in STILL.items()]
    hook_options = [f'default_hooks.checkpoint.type={hook}', f'load_from={begin}']
    for epochs in (1, 2):
        options[-1] = f'train_cfg.max_epochs={epochs}'
        command = ['toy_run.py', '--work-dir', 'run', '--resume', '--cfg-options']
        train.main([*command, *options, *hook_options])
        state = compat.load_from_local(tmp_path / 'run' / f'epoch_{epochs}.pth')
        assert state['meta']['iter'] == 4 * epochs
        assert torch.equal(state['state_dict']['linear.bias'], torch.full((2,), 0.5))


def test_weights_alone_cannot_be_resumed_from(
    build: Build, begin: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    build('unused')  # writes the config
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match='begin.pth: the checkpoint has no optimizer state'):
        train.main(['toy_run.py', '--resume', begin])


# ---------------------------------------------------------------- early stopping


EARLY = [dict(type='EarlyStoppingHook', monitor='WAR', patience=2)]
CONSTANT = {'optim_wrapper.optimizer.lr': 0.0, 'custom_hooks': EARLY, 'train_cfg.max_epochs': 9}


def test_an_early_stop_ends_the_run_for_resuming_and_for_the_tools(build: Build) -> None:
    whole = build('whole', **CONSTANT)
    whole.train()
    assert whole.epoch == 3  # the first validation, and two without improvement
    done = finished(Path(whole.work_dir), 9)
    assert done is not None and done.stopped_early and done.last.epoch == 3
    assert rates(build('whole', resume=True, log_level='INFO', **CONSTANT)) == []
    logs = sorted(Path(whole.work_dir).glob('*/*.log'))
    assert 'The training had ended before' in ''.join(log.read_text() for log in logs)
    assert finished(Path(whole.work_dir), 9) is not None

    # A run that was interrupted after two validations continues the count.
    part = build('part', resume=True, **CONSTANT)
    shutil.copytree(whole.work_dir, part.work_dir, dirs_exist_ok=True)
    for name in ('epoch_3.pth', 'last_checkpoint', 'report.json'):
        Path(part.work_dir, name).unlink()
    assert finished(Path(part.work_dir), 9) is None
    assert [step[0] for step in rates(part)] == [2] * 4
    folds = [done, read_fold(Path(part.work_dir, 'report.json'), 2)]
    full = read_fold(Path(part.work_dir, 'report.json'), 3)
    full = type(full)(3, full.dataset, full.classes, type(full.last)(9, 1.0, 1.0, None), None)
    check_alike([*folds, full])
    assert 'epochs 3 to 9, stopped early' in '\n'.join(heading([*folds, full], 'toy'))


@pytest.mark.parametrize('key', ['WAR', 'UAR', 'recall/rising', 'mine/UAR'])
def test_no_rule_is_needed_for_our_metrics(key: str) -> None:
    assert EarlyStoppingHook(key).rule == 'greater'
    assert CheckpointHook(save_best=key).rules == ['greater']
    with pytest.raises(ValueError, match='squared'):
        EarlyStoppingHook('squared_distance')  # contains "uar"
    assert CheckpointHook(save_best=[key, 'loss'], rule=None).rules == ['greater', 'less']


@pytest.mark.parametrize('hook', ['CheckpointHook', 'AtomicCheckpointHook'])
def test_save_best_auto_is_the_best_war(build: Build, hook: str) -> None:
    checkpoint = dict(_delete_=True, type=hook, interval=1, save_best='auto')
    runner = build('run', **STILL, **{'default_hooks.checkpoint': checkpoint})
    runner.train()
    assert Path(runner.work_dir, 'best_WAR_epoch_1.pth').is_file()


# ---------------------------------------------------------------- iterations


def by_iterations(**options: Any) -> dict[str, Any]:
    loop = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=12, val_interval=4)
    sampler = dict(_delete_=True, type='InfiniteSampler', shuffle=True)
    return {'train_cfg': loop, 'train_dataloader.sampler': sampler, **options}


def test_training_by_iterations_is_reported_by_iteration(build: Build) -> None:
    runner = build('run', **by_iterations())
    runner.train()
    folder = Path(runner.work_dir)
    history = json.loads((folder / 'history.json').read_text())
    keys = ['iter_4', 'iter_8', 'iter_12']
    assert list(history) == [*keys, 'confusion'] and list(history['confusion']) == keys
    report = json.loads((folder / 'report.json').read_text())
    assert report['last']['iter'] == 12 and 'last iteration (12)' in report
    assert report['last']['WAR'] == history['iter_12']['WAR']
    assert read_fold(folder / 'report.json').last.epoch == 12
    assert {p.name for p in folder.glob('iter_*.pth')} == {'iter_8.pth', 'iter_12.pth'}
    assert len(list(folder.glob('best_WAR_iter_*.pth'))) == 1


def test_training_by_iterations_resumes_and_repeats_a_lost_validation(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, part = build('whole', **by_iterations()), build('part', **by_iterations())
    whole.train()

    def killed(self: AtomicCheckpointHook, runner: Runner, metrics: dict) -> None:
        if runner.iter == 8:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(AtomicCheckpointHook, '_save_best_checkpoint', killed)
        with pytest.raises(KeyboardInterrupt):
            part.train()
    again = build('part', resume=True, **by_iterations())
    again.train()
    histories = [json.loads(Path(r.work_dir, 'history.json').read_text()) for r in (whole, again)]
    assert histories[0] == histories[1]


def test_stages_are_refused_where_iterations_are_counted(build: Build) -> None:
    stage = dict(name='all', epochs=1, trains=[r'linear\.'])
    hooks = [dict(type='BAPHook', stages=[stage])]
    runner = build('run', **by_iterations(custom_hooks=hooks))
    with pytest.raises(DFERError, match='EpochBasedTrainLoop') as error:
        runner.train()
    assert '\n' not in str(error.value) and isinstance(runner.train_loop, IterBasedTrainLoop)
    assert runner.iter == 0


# ---------------------------------------------------------------- a work dir that was moved


def test_a_moved_history_is_continued(build: Build, tmp_path: Path) -> None:
    whole = build('whole')
    whole.train()
    build('old', **{'train_cfg.max_epochs': 2}).train()
    shutil.move(tmp_path / 'old', tmp_path / 'new')
    build('new', resume=True).train()
    reports = [json.loads((tmp_path / d / 'report.json').read_text()) for d in ('whole', 'new')]
    assert reports[0] == reports[1] and not (tmp_path / 'old').exists()
