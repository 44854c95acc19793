"""Test BAPHook with the shipped config: which parameters train when, at which learning rate."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import ROOT, small_options
from forked import run_forked
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmdfer import DFERError
from mmdfer.engine import BAPHook
from mmdfer.engine.runner.build import build_runner
from mmdfer.engine.runner.loops import last_epoch

STAGES = ('text', 'video', 'joint')
# The parameters that the paper trains in each stage (BAP, Sec. 3.4), as patterns of their names.
TRAINS = dict(
    text=r'cls_head\.tokens|neck\.text_encoder\.',
    video=r'neck\.image_encoder\.',
    joint=r'cls_head\.tokens|neck\.joint_encoder\.',
)


class Recorder(Hook):
    """Record what changes in training.

    For each epoch it records the digests of all tensors (CLIP's included) before and after the
    epoch, the learning rate of each step, the number of parameters with optimizer state at the
    start, and the modules in training mode.
    """

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self.before: list[dict[str, str]] = []
        self.after: list[dict[str, str]] = []
        self.rates: list[list[float]] = []
        self.momentum_at_start: list[int] = []
        self.training: list[list[str]] = []

    def before_train_epoch(self, runner: Runner) -> None:
        self.before.append(digests(runner.model))
        self.rates.append([])
        self.momentum_at_start.append(len(runner.optim_wrapper.optimizer.state))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        self.rates[-1].append(runner.optim_wrapper.get_lr()['lr'][0])
        if batch_idx == 0:
            modules = runner.model.named_modules()
            self.training.append([n for n, m in modules if m.training])

    def after_train_epoch(self, runner: Runner) -> None:
        self.after.append(digests(runner.model))


def digests(model: torch.nn.Module) -> dict[str, str]:
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    return {n: hashlib.sha256(t.detach().numpy().tobytes()).hexdigest() for n, t in tensors.items()}


@pytest.fixture(scope='module')
def run(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Runner, Recorder]:
    """Train for six epochs, two in each stage, and return the Runner and its Recorder."""
    from mmengine.registry import init_default_scope

    init_default_scope('mmaction')
    config = Config.fromfile(ROOT / 'configs' / 'align_dfer_synth.py')
    config.merge_from_dict(small_options(data_root))
    config.merge_from_dict({'default_hooks.checkpoint.max_keep_ckpts': -1})
    config.work_dir = str(tmp_path_factory.mktemp('run'))
    runner, recorder = build_runner(config), Recorder()
    runner.register_hook(recorder)
    runner.train()
    return runner, recorder


@pytest.mark.parametrize('index', range(3))
def test_exactly_what_the_paper_trains_changes(run: tuple, index: int) -> None:
    _, recorder = run
    stage, epochs = STAGES[index], (2 * index, 2 * index + 1)
    changed = {
        name
        for epoch in epochs
        for name, digest in recorder.after[epoch].items()
        if recorder.before[epoch][name] != digest
    }
    names = set(recorder.after[0])
    allowed = {n for n in names if re.match(TRAINS[stage], n)}
    assert changed <= allowed
    assert allowed - changed == set()
    assert any(n.startswith('backbone.clip.') for n in names)


def test_between_epochs_only_the_merge_changes_weights(run: tuple) -> None:
    _, recorder = run
    for epoch in range(1, 6):
        earlier, later = recorder.after[epoch - 1], recorder.before[epoch]
        changed = {n for n in earlier if earlier[n] != later[n]} - {'neck.stage', 'neck.layers'}
        shared = r'neck\.joint_encoder\.(position|layers\.[01]\.)'  # shared_layers=2
        copied = {n for n in earlier if re.match(shared, n)}
        assert changed == (copied if epoch == 4 else set())
    start = recorder.before[4]
    for part in ('position', 'layers.0.linear1.weight', 'layers.1.self_attn.in_proj_weight'):
        assert start[f'neck.joint_encoder.{part}'] == start[f'neck.image_encoder.{part}']


def test_rates_at_the_first_and_last_step_of_each_stage(run: tuple) -> None:
    runner, recorder = run
    steps = len(recorder.rates[0])
    base = runner.cfg.optim_wrapper.optimizer.lr
    weights = runner.param_schedulers[0].restart_weights
    assert weights == [1, 1, 1]
    for index, weight in enumerate(weights):
        rates = recorder.rates[2 * index] + recorder.rates[2 * index + 1]
        assert rates[0] == pytest.approx(base * weight)
        # The rate is half a cosine over 2 * steps steps, and 2 * steps - 1 is the last of them.
        last = torch.tensor((2 * steps - 1) / (2 * steps) * torch.pi).cos()
        assert rates[-1] == pytest.approx(base * weight * float(1 + last) / 2, rel=1e-5)
        assert rates == sorted(rates, reverse=True)


def test_momentum_is_reset_at_each_stage_and_kept_within_it(run: tuple) -> None:
    _, recorder = run
    assert [n > 0 for n in recorder.momentum_at_start] == [False, True] * 3


def test_clip_and_what_is_frozen_stay_in_eval(run: tuple) -> None:
    _, recorder = run
    for epoch, training in enumerate(recorder.training):
        assert not any(name.startswith('backbone') for name in training)
        video = any(name.startswith('neck.image_encoder') for name in training)
        assert video == (epoch in (2, 3))


def test_the_log_names_stages_and_metrics(run: tuple) -> None:
    runner, _ = run
    log = next(Path(runner.log_dir).glob('*.log')).read_text()
    for index, stage in enumerate(STAGES):
        assert f"Stage {index + 1}/3 '{stage}' begins: 2 epochs" in log
        assert re.search(rf"Stage {index + 1}/3 '{stage}', epoch 2/2: WAR \d+\.\d+, UAR", log)
    assert re.search(r"At the start of stage 'joint': WAR \d+", log)
    assert 'layer 2 of 2 joins' in log and 'last epoch (6)' in log


RECOGNIZE = """
import sys
import mmdfer
from mmaction.apis import init_recognizer
from mmaction.registry import DATASETS
from mmengine.config import Config

config, checkpoint = sys.argv[1:]
model = init_recognizer(config, checkpoint, device='cpu')
dataset = DATASETS.build(Config.fromfile(config).test_dataloader.dataset.dataset)
items = [dataset[i] for i in range(len(dataset))]
batches = [dict(inputs=[i['inputs']], data_samples=[i['data_samples']]) for i in items]
samples = [model.test_step(batch)[0] for batch in batches]
hits = sum(int(s.pred_label) == int(s.gt_label) for s in samples)
print(model.neck.stage_name, 100 * hits / len(dataset))
"""


@pytest.mark.parametrize('epoch', [2, 4, 6])
def test_a_checkpoint_of_any_stage_gives_validation_figures(
    run: tuple, epoch: int, tmp_path: Path
) -> None:
    """Test in new processes, by tools/test.py and by MMAction2's init_recognizer on each clip."""
    runner, _ = run
    expected = json.loads((Path(runner.work_dir) / 'history.json').read_text())[str(epoch)]
    checkpoint, config = Path(runner.work_dir) / f'epoch_{epoch}.pth', tmp_path / 'config.py'
    runner.cfg.dump(str(config))
    tool = ROOT / 'tools' / 'test.py'
    tested = run_forked([tool, config, checkpoint, '--work-dir', tmp_path / 'test'])
    assert tested.returncode == 0, tested.stderr[-2000:]
    (figures,) = [p for p in tmp_path.glob('test/*/*.json') if 'confusion' not in p.name]
    found = json.loads(figures.read_text().splitlines()[-1])
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    (tmp_path / 'recognize.py').write_text(RECOGNIZE)
    done = run_forked([tmp_path / 'recognize.py', config, checkpoint])
    stage, war = done.stdout.split()[-2:]
    assert stage == STAGES[epoch // 2 - 1]
    assert float(war) == pytest.approx(expected['WAR'])


def _check(config: Config) -> None:
    runner = build_runner(config)
    (hook,) = [h for h in runner.hooks if isinstance(h, BAPHook)]
    hook.check(runner.model, last_epoch(config))


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'train_cfg.max_epochs': 7}, r'2 \+ 2 \+ 2 = 6 epochs, but train_cfg.max_epochs is 7'),
        ({'custom_hooks.0.stages.1.trains': [r'neck\.imge']}, r'matches no parameter'),
        ({'custom_hooks.0.stages.1.grows_at': [0]}, 'to 4 epochs'),
        ({'custom_hooks.0.stages.0.name': 'warmup'}, 'its stages are text, video, joint'),
        (
            {'custom_hooks.0.stages.2.trains': [r'backbone\.clip\.visual']},
            'froze when it was built',
        ),
        ({'custom_hooks.0.stages.2.grows_at': [0, 5]}, 'grows_at'),
    ],
)
def test_stages_that_do_not_fit(
    small_config: Callable[..., Config], options: dict, words: str
) -> None:
    with pytest.raises(DFERError, match=words) as error:
        _check(small_config(**options))
    assert '\n' not in str(error.value)


def test_what_no_stage_trains_is_named(
    small_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = dict(type='LoRA', rank=2)
    for options, named in (({}, False), ({'model.backbone.text_adapter': lora}, True)):
        runner = build_runner(small_config(**options))
        said: list[str] = []
        monkeypatch.setattr(runner.logger, 'warning', said.append)
        runner._train_loop = runner.build_train_loop(runner.cfg.train_cfg)
        (hook,) = (hook for hook in runner.hooks if isinstance(hook, BAPHook))
        hook.before_run(runner)
        lines = [line for line in said if 'no stage trains' in line]
        assert len(lines) == named
        assert all('such as backbone.text_adapter.' in line for line in lines)


@pytest.mark.parametrize('newest_only', [True, False])
def test_what_trains_when_a_layer_joins(
    small_config: Callable[..., Config], newest_only: bool
) -> None:
    config = small_config(
        **{
            'custom_hooks.0.stages.1.newest_only': newest_only,
            'custom_hooks.0.stages.1.grows_at': [0, 0, 0, 1],
        }
    )
    runner, recorder = build_runner(config), Recorder()
    runner.register_hook(recorder)
    runner.train()
    before, after = recorder.before[3], recorder.after[3]  # the second epoch of the video stage
    names = [f'neck.image_encoder.layers.{i}.linear2.weight' for i in range(4)]
    assert [before[n] != after[n] for n in names] == [not newest_only] * 3 + [True]
