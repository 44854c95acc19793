"""Test what the stages of training determine: epochs, learning rates and trained modules."""

from __future__ import annotations

import itertools
import json
import math
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import toy
from conftest import ROOT
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn

import mmaction
from mmaction.registry import MODELS, PARAM_SCHEDULERS

from mmdfer.engine import BAPHook, StagedTrainLoop
from mmdfer.engine.runner.build import build_runner
from mmdfer.engine.runner.loops import check_schedule, last_epoch, read_stages
from mmdfer.engine.runner.stage_schedule import Stage, fill_schedulers
from mmdfer.errors import DFERError
from mmdfer.models import JAS
from mmdfer.models.stages import StagedModule, list_staged_modules

TOOLS = {
    'ours': ROOT / 'tools' / 'train.py',
    "MMAction2's": Path(mmaction.__file__).parent / '.mim' / 'tools' / 'train.py',
}
STAGED = """
custom_hooks = [
    dict(
        type='BAPHook',
        stages=[
            dict(name='weight', epochs=1, trains=[r'linear\\.weight']),
            dict(name='both', epochs=2, trains=[r'linear\\.']),
        ],
    )
]
train_cfg = dict(type='StagedTrainLoop', val_interval=2)
param_scheduler = [
    dict(type='CosineRestartLR', eta_min=0, by_epoch=True, convert_to_iter_based=True)
]
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(max_keep_ckpts=-1))
"""
COUNT = itertools.count()
BATCHES = 4  # in an epoch: 16 clips, 4 in a batch
RATE = 0.5
Build = Callable[..., Config]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """Return a function that builds the toy config with two stages, of one and two epochs."""
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    monkeypatch.setattr(Config, 'pretty_text', property(lambda _: ''))
    monkeypatch.chdir(tmp_path)
    base = ROOT / 'configs' / '_base_' / 'default_runtime.py'
    Path('staged.py').write_text(toy.CONFIG.format(base=str(base)) + STAGED)

    def build(**options: Any) -> Config:
        cfg = Config.fromfile('staged.py')
        cfg.work_dir = str(tmp_path / 'run')
        cfg.merge_from_dict(options)
        return cfg

    return build


def run_tool(monkeypatch: pytest.MonkeyPatch, tool: str, *arguments: str) -> None:
    """Run a train.py in this process; the last arguments are ``--cfg-options``."""
    # Each run needs its own name, since mmengine reuses the logger of a run in the same second.
    name = f'experiment_name=run_{next(COUNT)}'
    command = ['train.py', 'staged.py', '--work-dir', 'run', *arguments, name]
    monkeypatch.setattr(sys, 'argv', command)
    runpy.run_path(str(TOOLS[tool]), run_name='__main__')


def logged(work_dir: str) -> list[dict[str, Any]]:
    """Return the lines of all logs of a work directory, in the order of the runs."""
    logs = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    return [json.loads(line) for log in logs for line in log.read_text().splitlines()]


def half_cosine(epochs: int) -> list[float]:
    """Return the learning rate of each step of a stage, by hand."""
    steps = epochs * BATCHES
    return [RATE * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps)]


# ---------------------------------------------------------------- the epochs of one stage


@pytest.mark.parametrize('tool', TOOLS)
def test_the_epochs_of_one_stage_are_one_option(
    tool: str, config: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = ['--cfg-options', 'custom_hooks.0.stages.1.epochs=4']
    run_tool(monkeypatch, tool, *one)
    assert {p.name for p in Path('run').glob('epoch_*.pth')} == {
        f'epoch_{e}.pth' for e in range(1, 6)
    }
    lines = logged('run')
    rates = [line['lr'] for line in lines if 'lr' in line]
    assert rates == pytest.approx(half_cosine(1) + half_cosine(4))
    assert [line['step'] for line in lines if 'WAR' in line] == [2, 4, 5]  # also the last epoch
    assert json.loads(Path('run/report.json').read_text())['last']['epoch'] == 5


@pytest.mark.parametrize('tool', TOOLS)
def test_a_run_resumes_to_the_end_that_its_stages_have_now(
    tool: str, config: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_tool(monkeypatch, tool, '--no-validate', '--cfg-options')
    longer = ['--cfg-options', 'custom_hooks.0.stages.1.epochs=4']
    run_tool(monkeypatch, tool, '--no-validate', '--resume', *longer)
    rates = [line['lr'] for line in logged('run') if 'lr' in line]
    whole = half_cosine(1) + half_cosine(4)
    assert rates == pytest.approx(half_cosine(1) + half_cosine(2) + whole[3 * BATCHES :])


def test_another_batch_size_on_resume_keeps_the_restarts_at_the_stages(config: Build) -> None:
    build_runner(config(**{'train_dataloader.batch_size': 2})).train()
    Path('run/last_checkpoint').write_text(str(Path('run/epoch_1.pth').resolve()))
    runner = build_runner(config(resume=True))
    runner.train()
    assert (runner.epoch, runner.iter) == (3, 3 * BATCHES)
    rates = [line['lr'] for line in logged('run') if 'lr' in line][3 * 2 * BATCHES :]
    assert rates == pytest.approx(half_cosine(2))


def test_mmengines_own_loop_trains_stages_that_agree(config: Build) -> None:
    stock = {
        'train_cfg': dict(type='EpochBasedTrainLoop', max_epochs=3),
        'param_scheduler.0.periods': [1, 2],
        'param_scheduler.0.restart_weights': [1, 1],
    }
    runner = build_runner(config(**stock))
    check_schedule(runner)
    runner.train()
    assert type(runner.train_loop).__name__ == 'EpochBasedTrainLoop'
    rates = [line['lr'] for line in logged('run') if 'lr' in line]
    assert rates == pytest.approx(half_cosine(1) + half_cosine(2))


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'train_cfg.max_epochs': 7}, r'1 \+ 2 = 3 epochs, but train_cfg\.max_epochs is 7'),
        ({'param_scheduler.0.periods': [2, 1]}, r'0\.periods is \[2, 1\], .* \[1, 2\] epochs'),
        ({'param_scheduler.0.restart_weights': [1]}, r'has 1 numbers, .* 2 periods, \[1, 2\]'),
        (
            {'param_scheduler.0.stage': 'all'},
            r"0\.stage must be one of .* \['weight', 'both'\], got 'all'",
        ),
        ({'param_scheduler.0.end': 2}, r'0\.end is 2, but the stages end at epochs \[1, 3\]'),
        (
            {'param_scheduler': [dict(type='CosineAnnealingLR', T_max=5, eta_min=0)]},
            r'0\.T_max is 5, but the stages last 3 epochs',
        ),
        (
            {'param_scheduler.0.stage': 'both', 'param_scheduler.0.begin': 0},
            r"0\.begin is 0, but stage 'both' has its begin at epoch 1",
        ),
        ({'custom_hooks.0.stages.1.trains': [r'liner\.']}, 'matches no parameter'),
        ({'custom_hooks': []}, r'StagedTrainLoop takes .* no BAPHook'),
    ],
)
@pytest.mark.parametrize('tool', TOOLS)
def test_what_disagrees_is_refused_before_any_data_are_read(
    options: dict[str, Any], words: str, tool: str, config: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Runner, 'build_dataloader', lambda *_, **__: pytest.fail('data were read'))
    runner = build_runner(config(**options))
    with pytest.raises(DFERError, match=words) as error:
        if tool == 'ours':
            check_schedule(runner)
        runner.train()
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('epochs', 'options', 'words'),
    [
        (7, {'periods': [1, 2]}, r'1 \+ 2 = 3 epochs, but train_cfg\.max_epochs is 7'),
        (3, {'periods': [2, 1]}, r'0\.periods is \[2, 1\], .* \[1, 2\] epochs'),
        (None, {'periods': [1, 2]}, 'StagedTrainLoop'),
    ],
)
def test_what_disagrees_is_refused_under_mmengines_own_loop_too(
    epochs: int | None, options: dict[str, Any], words: str, config: Build
) -> None:
    scheduler = dict(type='CosineRestartLR', restart_weights=[1, 1], eta_min=0, **options)
    train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=epochs)
    cfg = config(train_cfg=train_cfg, param_scheduler=[scheduler])
    runner = build_runner(cfg)
    with pytest.raises(DFERError, match=words):  # as our train.py does before reading data
        check_schedule(runner)
    if epochs is not None:
        with pytest.raises(DFERError, match=words):
            runner.train()


def test_what_only_our_loop_fills_in_is_refused_under_mmengines_own(config: Build) -> None:
    cfg = config(train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=3))
    with pytest.raises(DFERError, match=r"set train_cfg=dict\(type='StagedTrainLoop'\)"):
        check_schedule(build_runner(cfg))


# ---------------------------------------------------------------- schedulers as configs

STAGES = [Stage('text', 2, ()), Stage('video', 5, ()), Stage('joint', 3, ())]


@pytest.mark.parametrize(
    ('given', 'filled'),
    [
        (dict(), dict(periods=[2, 5, 3], restart_weights=[1, 1, 1])),
        (
            dict(restart_weights=[1, 0.5, 0.1]),
            dict(periods=[2, 5, 3], restart_weights=[1, 0.5, 0.1]),
        ),
        (dict(begin=3), dict(begin=3, periods=[4, 3], restart_weights=[1, 1])),
        (
            dict(periods=[2, 1, 4, 3]),
            dict(periods=[2, 1, 4, 3], restart_weights=[1, 1, 1, 1]),
        ),
        (dict(stage='video'), dict(begin=2, end=7, periods=[5])),
        (
            dict(stage='video', periods=2),
            dict(begin=2, end=7, periods=[2, 2, 2], restart_weights=[1, 1, 1]),
        ),
        (dict(begin=2, end=7, periods=[5]), dict(begin=2, end=7, periods=[5])),
        (dict(by_epoch=False, periods=[9]), dict(by_epoch=False, periods=[9])),
    ],
)
def test_restarts_follow_from_the_stages(given: dict[str, Any], filled: dict[str, Any]) -> None:
    kind = dict(type='CosineRestartLR', eta_min=0)
    assert fill_schedulers([kind | given], STAGES) == [kind | filled]
    assert fill_schedulers({'a': kind | given}, STAGES) == {'a': kind | filled}


@pytest.mark.parametrize(
    'given',
    [dict(periods=3), dict(periods=[2, 5]), dict(periods=[10]), dict(stage='video', periods=[4])],
)
def test_restarts_elsewhere_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(DFERError, match=r'param_scheduler\.0\.periods is .* Omit periods'):
        fill_schedulers([dict(type='CosineRestartLR', eta_min=0, **given)], STAGES)


@pytest.mark.parametrize('given', [dict(), dict(stage='video', periods=[9])])
def test_iterations_do_not_follow_from_epochs(given: dict[str, Any]) -> None:
    with pytest.raises(DFERError, match='Set by_epoch=True'):
        fill_schedulers(dict(type='CosineRestartLR', by_epoch=False, **given), STAGES)


def test_other_schedulers_take_their_range_from_a_stage() -> None:
    warm_up = dict(type='LinearLR', start_factor=0.1, end=1)
    part = dict(type='MultiStepLR', stage='joint', milestones=[2])
    cosine = dict(type='CosineAnnealingLR', stage='video', T_max=5, eta_min=0)
    assert fill_schedulers([warm_up, part, cosine], STAGES) == [
        warm_up,
        dict(type='MultiStepLR', begin=7, end=10, milestones=[2]),
        dict(type='CosineAnnealingLR', begin=2, end=7, T_max=5, eta_min=0),
    ]
    assert fill_schedulers(None, STAGES) is None


def epoch_rates(name: str) -> list[float]:
    """Return the learning rate of a shipped config at the start of each epoch."""
    cfg = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=cfg.optim_wrapper.optimizer.lr)
    wrapper = OptimWrapper(optimizer)
    (filled,) = fill_schedulers(cfg.param_scheduler, read_stages(cfg))
    defaults = dict(optimizer=wrapper, epoch_length=1)
    scheduler = PARAM_SCHEDULERS.build({'end': last_epoch(cfg), **filled}, default_args=defaults)
    rates = []
    for _ in range(last_epoch(cfg)):
        rates.append(optimizer.param_groups[0]['lr'])
        wrapper.step()
        scheduler.step()
    return rates


def cosine(epoch: int, epochs: int) -> float:
    return (1 + math.cos(math.pi * epoch / epochs)) / 2


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('align_dfer_dfew', [0.01 * cosine(e, n) for n in (40, 30, 30) for e in range(n)]),
        ('align_dfer_synth', [0.01 * cosine(e, n) for n in (5, 24, 12) for e in range(n)]),
        ('ablations/align_dfer_at_once_synth', [0.01 * cosine(e, 41) for e in range(41)]),
        ('cliper/cliper_dfew', [5e-6] * 2 + [5e-6 * cosine(e % 10, 10) for e in range(57)]),
        ('cliper/cliper_synth', [5e-6] * 4 + [5e-6 * cosine(e, 6) for e in range(6)]),
    ],
)
def test_the_rates_of_shipped_configs(name: str, expected: list[float]) -> None:
    assert epoch_rates(name) == pytest.approx(expected, rel=1e-9)


def test_the_last_epoch_of_a_config(config: Build) -> None:
    assert last_epoch(config()) == 3
    assert last_epoch(config(**{'train_cfg.max_epochs': 3})) == 3
    assert last_epoch(config(train_cfg=dict(by_epoch=True, max_epochs=3))) == 3
    assert last_epoch(config(custom_hooks=[], train_cfg=dict(by_epoch=True, max_epochs=9))) == 9
    assert last_epoch(config(train_cfg=dict(type='IterBasedTrainLoop', max_iters=9))) is None
    by_class = config(train_cfg=dict(type=StagedTrainLoop))
    by_class.custom_hooks[0].type = BAPHook
    assert last_epoch(by_class) == 3
    with pytest.raises(DFERError, match=r'= 3 epochs, but train_cfg\.max_epochs is 4'):
        last_epoch(config(**{'train_cfg.max_epochs': 4}))


# ---------------------------------------------------------------- modules that change


@MODELS.register_module()
class StagedToy(toy.ToyModel):
    """Extend the toy by a module that changes with the stage and is found by its class."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = Grown()

    def forward(self, inputs: list[Tensor], data_samples: list, mode: str = 'loss') -> Any:
        """Scale the frames, then compute what the toy computes."""
        return super().forward(self.scale(inputs), data_samples, mode)


class Grown(nn.Module, StagedModule):
    """Apply as many of three layers as have joined, and record the calls of its methods.

    Attributes:
        told: The calls of `enter_stage` and `set_stage` with their arguments.
        working: The number of layers that are applied.
    """

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ParameterList(torch.ones(1) for _ in range(3))
        self.blocks = nn.ModuleList(nn.Linear(1, 1) for _ in range(3))
        self.told: list[tuple] = []
        self.working = 3

    def check_stage(self, name: str, grows_at: Sequence[int] | None) -> None:
        if len(grows_at or ()) > 3:
            raise DFERError(f'Grown: stage {name!r} adds {len(grows_at)} layers, it has 3')

    def enter_stage(self, name: str) -> None:
        self.told.append(('enter', name))

    def set_stage(self, name: str, joined: int | None) -> None:
        self.told.append(('set', name, joined))
        self.working = 3 if joined is None else joined

    @property
    def working_layers(self) -> list[nn.Module]:
        return list(self.blocks[: self.working])

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        factor = torch.ones(1)
        for block in self.working_layers:
            factor = factor + 0.1 * block(factor)
        return [x * factor for x in inputs]


def staged_toy(config: Build, **stage: Any) -> Runner:
    first = dict(name='first', epochs=1, trains=[r'linear\.'])
    second = dict(name='second', epochs=3, trains=[r'scale\.blocks\.'], **stage)
    options = {'custom_hooks.0.stages': [first, second], 'model': dict(type='StagedToy')}
    return build_runner(config(**options))


@pytest.mark.parametrize('newest_only', [False, True])
def test_a_module_of_the_users_own_takes_part(config: Build, newest_only: bool) -> None:
    runner = staged_toy(config, grows_at=[0, 1, 2], newest_only=newest_only)
    trained: list[list[bool]] = []
    train_epoch = StagedTrainLoop.run_epoch
    module = runner.model.scale
    assert list_staged_modules(runner.model) == [module]

    def observe(loop: StagedTrainLoop) -> None:
        before = [block.weight.clone() for block in module.blocks]
        train_epoch(loop)
        trained.append([not torch.equal(b, m.weight) for b, m in zip(before, module.blocks)])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StagedTrainLoop, 'run_epoch', observe)
        runner.train()
    assert module.told == [
        ('enter', 'first'),
        ('set', 'first', None),
        ('enter', 'second'),
        ('set', 'second', 1),
        ('set', 'second', 2),
        ('set', 'second', 3),
    ]
    older = not newest_only
    assert trained == [
        [False] * 3,
        [True, False, False],
        [older, True, False],
        [older, older, True],
    ]


def test_a_module_refuses_a_stage_before_any_data_are_read(
    config: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Runner, 'build_dataloader', lambda *_, **__: pytest.fail('data were read'))
    with pytest.raises(DFERError, match="stage 'second' adds 4 layers, it has 3"):
        staged_toy(config, grows_at=[0, 0, 1, 2]).train()


def test_a_staged_module_has_to_have_every_method() -> None:
    class Half(nn.Module, StagedModule):
        def enter_stage(self, name: str) -> None:
            pass

    with pytest.raises(TypeError, match='abstract'):
        Half()


def test_training_in_stages_reads_no_value_from_the_device() -> None:
    """Run on the meta device, where tensors have no values and reading a value is an error."""
    neck = JAS(64, image_layers=2, text_layers=1, joint_layers=2, shared_layers=1).to('meta')
    frames = torch.empty(2, 16, 64, device='meta')
    with pytest.raises(RuntimeError):
        int(neck.layers)
    growing = dict(epochs=2, newest_only=True)
    hook = BAPHook(
        [
            dict(name='text', epochs=1, trains=['text_encoder']),
            dict(growing, name='video', trains=['image_encoder'], grows_at=[0, 1]),
            dict(growing, name='joint', trains=['joint_encoder'], grows_at=[1]),
        ]
    )
    hook.check(neck, 5)
    # The layers that have joined, and which of them a stage trains.
    expected = {
        (0, None): [True],
        (1, 1): [True],
        (1, 2): [False, True],
        (2, 0): [True],
        (2, 1): [False, True],
    }
    for (place, joined), trained in expected.items():
        stage = hook.stages[place]
        neck.set_stage(stage.name, joined)
        hook._freeze(neck, stage)
        assert neck(frames)[0].shape == (2, 64) and neck.text(frames).shape == (2, 64)
        trains = [layer.linear1.weight.requires_grad for layer in neck.working_layers]
        assert trains == trained, stage.name


def test_a_checkpoint_of_earlier_versions_sets_the_stage() -> None:
    """Load a checkpoint that has the number of the stage and of its layers as integers."""
    neck = JAS(64)
    state = neck.state_dict()
    assert state['stage'].dtype == state['layers'].dtype == torch.int64
    neck.load_state_dict({**state, 'stage': torch.tensor(1), 'layers': torch.tensor(3)})
    assert neck.stage_name == 'video'
    assert neck.working_layers == list(neck.image_encoder.layers[:3])
