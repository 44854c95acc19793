"""Test changes that users make: other hooks, other classes, EMA, only validation, debugging."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import RepeatDataset
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmaction.registry import MODELS

from mmdfer.datasets.synth import CLASSES
from mmdfer.engine import ClassNamesHook, ReportHook
from mmdfer.engine.hooks.class_names_hook import _fit_plain_head
from mmdfer.engine.hooks.setup_hook import check_labels
from mmdfer.engine.runner.build import build_runner
from mmdfer.errors import DFERError
from mmdfer.evaluation.dfer_metric import DFERMetric
from mmdfer.features import EncodedClips
from mmdfer.models.json_tensor import to_tensor
from mmdfer.models.tensor_cache import TensorCache

Small = Callable[..., Config]
TEXT = dict(name='text', epochs=1, trains=[r'cls_head\.tokens', r'neck\.text_encoder\.'])
VIDEO = dict(name='video', epochs=1, trains=[r'neck\.image_encoder\.'], grows_at=[0])
TINY = {
    'model.neck.image_layers': 1,
    'model.neck.text_layers': 1,
    'model.neck.joint_layers': 2,
    'model.neck.shared_layers': 1,
    'model.cls_head.num_sentences': 2,
    'model.cls_head.num_tokens': 4,
    'val_dataloader.num_workers': 0,
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'val_dataloader.persistent_workers': False,
}


@pytest.fixture
def small(small_config: Small, monkeypatch: pytest.MonkeyPatch) -> Small:
    """Return a function that builds a tiny Align-DFER config, with one epoch per stage."""
    monkeypatch.setattr(Runner, '_log_env', lambda self, env_cfg: None)
    monkeypatch.setattr('mmdfer.evaluation.dfer_metric.save_confusion', lambda *_: None)
    monkeypatch.setattr(Config, 'pretty_text', '')  # formatting the text takes longer than an epoch

    def build(*stages: dict, hooks: tuple = (), **options: Any) -> Config:
        config = small_config(**TINY, **options)
        config.custom_hooks = [dict(type='BAPHook', stages=stages), *hooks]
        return config

    return build


def record_warnings(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(runner.logger, 'warning', said.append)
    return said


# ---------------------------------------------------------------- hooks that a config replaced


def test_stages_without_their_hook_are_refused_before_anything_is_encoded(small: Small) -> None:
    config = small(TEXT)
    config.custom_hooks = config.custom_hooks[1:]
    with pytest.raises(DFERError, match=r'JAS is trained in stages.*BAPHook') as error:
        build_runner(config).train()
    assert '\n' not in str(error.value)


def test_training_on_frames_reports_no_baselines(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Train on frames, with mmengine's debug option for a part of the training set."""
    config = small(VIDEO, **{'default_hooks.report.baselines': True})
    for loader in (config.train_dataloader, config.val_dataloader):
        loader.dataset = loader.dataset.dataset
    config.train_dataloader.update(num_batch_per_epoch=1, batch_size=4)
    config.val_dataloader.update(num_batch_per_epoch=1, batch_size=4)
    runner = build_runner(config)
    said = record_warnings(runner, monkeypatch)
    runner.train()
    assert runner.iter == 1
    assert [line for line in said if 'without the baselines' in line and '_SlicedDataset' in line]
    report = json.loads(Path(runner.work_dir, 'report.json').read_text())
    assert set(report) >= {'last', 'best'} and 'CLIP zero-shot, mean frame vector' not in report


@pytest.mark.parametrize('adapter', [None, dict(type='LoRA', rank=2)])
def test_a_trained_text_tower_has_no_row_of_zero_shot_clip(
    adapter: dict | None, small: Small
) -> None:
    config = small(TEXT, **{'default_hooks.report.baselines': True})
    config.model.backbone.text_adapter = adapter
    runner = build_runner(config)
    runner.train()
    report = json.loads(Path(runner.work_dir, 'report.json').read_text())
    assert ('CLIP zero-shot, mean frame vector' in report) == (adapter is None)
    assert 'logistic regression, mean frame vector' in report


def test_baselines_of_a_wrapped_training_set_without_identities(data_root: Path) -> None:
    synth = dict(type='SynthDFER', data_root=str(data_root / 'synth'), num_train=32, num_test=14)
    pipeline = [dict(type='PackActionInputs')]
    train = EncodedClips(dict(synth, split='train', pipeline=pipeline, num_views=2))
    test = EncodedClips(dict(synth, split='test', pipeline=pipeline, test_mode=True))
    generator = torch.Generator().manual_seed(0)
    train.features = torch.randn(32, 2, 1, 16, 128, generator=generator)
    test.features = torch.randn(14, 1, 1, 16, 128, generator=generator)
    clip = MODELS.build(dict(type='FrozenCLIP', arch='synth-clip'))

    def rows(dataset: Any) -> dict:
        runner = SimpleNamespace(
            model=SimpleNamespace(backbone=clip),
            train_dataloader=SimpleNamespace(dataset=dataset),
            val_dataloader=SimpleNamespace(dataset=test),
        )
        return ReportHook(baselines=True)._baselines(runner)

    repeated = RepeatDataset(dict(synth, pipeline=pipeline), times=3, lazy_init=True)
    repeated.dataset = train  # mmengine's constructor takes only a BaseDataset
    assert rows(repeated) == rows(train)
    info = train.get_data_info
    train.get_data_info = lambda index: {k: v for k, v in info(index).items() if k != 'identity'}
    assert rows(train).keys() == rows(repeated).keys()


# ---------------------------------------------------------------- validation alone


def test_validation_alone_gives_the_metrics_and_writes_no_history(
    small: Small, tmp_path: Path
) -> None:
    early = dict(type='EarlyStoppingHook', monitor='WAR')
    found = []  # the scores without and with a bank
    for bank in (None, str(tmp_path / 'bank')):
        torch.manual_seed(0)
        config = small(TEXT, hooks=(early,))
        config.val_dataloader.dataset.bank = bank
        runner = build_runner(config)
        runner.register_hook(hook := Scores())
        metrics = runner.val()
        found.append(torch.stack(hook.kept))
        clips = runner.val_dataloader.dataset
        labels = torch.tensor([clips.get_data_info(i)['label'] for i in range(len(clips))])
        right = found[-1].argmax(1) == labels
        assert metrics['WAR'] == pytest.approx(100 * right.float().mean().item())
        recalls = [100 * right[labels == label].float().mean().item() for label in labels.unique()]
        assert metrics['UAR'] == pytest.approx(np.mean(recalls))
        # The training loop is not built, so no training data were read.
        assert runner._train_loop == config.train_cfg
        left = {p.name for p in Path(runner.work_dir).iterdir() if p.is_file()}
        assert left == {'align_dfer_synth.py'}
    torch.testing.assert_close(*found, rtol=0, atol=1e-3)  # a bank is in half precision
    assert (tmp_path / 'bank' / 'test').is_dir()


# ---------------------------------------------------------------- several labels


class Labelled:
    """Provide two clips, where the second has the given label or labels."""

    def __init__(self, label: Any) -> None:
        self.label = label

    def __len__(self) -> int:
        return 2

    def get_data_info(self, index: int) -> dict[str, Any]:
        return dict(filename=f'{index}.mp4', label=self.label if index else 0)


@pytest.mark.parametrize('label', [[0, 2], np.array([1, 0, 1]), []])
def test_several_labels_are_refused_by_name(label: Any) -> None:
    with pytest.raises(DFERError, match=r'1\.mp4: has several labels') as error:
        check_labels(Labelled(label))
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('label', [1, [1], np.int64(1), -1])
def test_one_label_passes(label: Any) -> None:
    check_labels(Labelled(label))


def test_several_labels_are_refused_before_training(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = build_runner(small(TEXT))
    dataset = runner.train_loop.dataloader.dataset.dataset
    info = dataset.get_data_info
    monkeypatch.setattr(dataset, 'get_data_info', lambda i: dict(info(i), label=[0, 1]))
    with pytest.raises(DFERError, match='several labels'):
        runner.train()


@pytest.mark.parametrize('label', [torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0, 1])])
def test_the_metric_refuses_several_labels(label: torch.Tensor) -> None:
    metric = DFERMetric()
    metric.dataset_meta = dict(classes=('a', 'b', 'c'))
    with pytest.raises(DFERError, match='several labels'):
        metric.process(None, [dict(pred_score=torch.rand(3), gt_label=label)])
    metric.process(None, [dict(pred_score=torch.rand(3), gt_label=torch.tensor([2]))])


# ---------------------------------------------------------------- weights swapped through .data


class Scores(Hook):
    """Record the scores of the last validation."""

    def before_val_epoch(self, runner: Runner) -> None:
        self.kept: list[torch.Tensor] = []

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self.kept += [sample.pred_score for sample in outputs]


def test_scores_under_ema_are_those_of_the_checkpoint(small: Small) -> None:
    """Validate after a stage with a frozen text side, whose averaged weights lag behind."""
    ema = dict(type='EMAHook', momentum=0.2)
    fast = {'optim_wrapper.optimizer.lr': 0.1}
    scores = []
    for config in (small(TEXT, VIDEO, hooks=(ema,), **fast), small(TEXT, VIDEO)):
        runner, hook = build_runner(config), Scores()
        runner.register_hook(hook)
        if not scores:
            runner.train()
        else:
            runner._load_from = str(Path(runner.work_dir, 'epoch_2.pth'))
            runner.call_hook('before_run')
            runner.val()
        scores.append(torch.stack(hook.kept))
    assert torch.allclose(*scores, atol=1e-5)


@pytest.mark.parametrize('training', [False, True])
def test_class_vectors_follow_weights_that_change_without_a_version(training: bool) -> None:
    model = MODELS.build(
        dict(
            type='CLIPRecognizer',
            backbone=dict(type='FrozenCLIP', arch='synth-clip'),
            cls_head=dict(type='MATHead', num_classes=3, num_sentences=2, num_tokens=4),
        )
    ).requires_grad_(False)
    model.train(training)
    before = model.class_vectors()
    assert model.class_vectors() is before
    tokens = model.cls_head.tokens
    tokens.data[1] += 0.1  # the tokens of one class
    model.train(training)  # as every loop does after its hooks
    assert not torch.equal(model.class_vectors()[1], before[1])
    assert torch.equal(model.class_vectors()[0], before[0])
    tokens.data[1] -= 0.1
    if not training:  # in evaluation mode, no call of train() is needed
        assert torch.allclose(model.class_vectors(), before, atol=1e-5)
    before = model.eval().class_vectors()
    for (
        parameter
    ) in model.backbone.clip.parameters():  # the derived weights of the tower follow too
        parameter.data.mul_(1.5)
    model.eval()
    model._kept.clear()
    changed = model.class_vectors()
    model.backbone._text_tower._derived.clear()
    model._kept.clear()
    assert torch.equal(model.class_vectors(), changed) and not torch.allclose(changed, before)


def test_a_cache_computes_again_for_what_a_version_does_not_tell() -> None:
    cache, calls = TensorCache(), []
    tensors = [torch.zeros(9000), torch.zeros((), dtype=torch.long)]

    def get(key: str = 'a') -> int:
        return cache.get(key, tensors, lambda: calls.append(key) or len(calls))

    assert [get(), get(), get('b'), get()] == [1, 1, 2, 1]
    tensors[0].data[::5] = 1
    assert [get(), get()] == [3, 3]
    cache.set_mode(training=True)
    assert get() == 3
    tensors[0].data[::5] = 2
    assert get() == 3  # in training, no values are compared
    cache.set_mode(training=True)
    assert get() == 4
    tensors[1] += 1
    assert get() == 5
    cache.clear()
    assert len(cache) == 0


# ---------------------------------------------------------------- a checkpoint of other classes


HEADS = {
    'MAT': dict(type='MATHead', num_classes=7, num_sentences=2, num_tokens=4),
    'CoOp of each class': dict(type='CoOpHead', classes=CLASSES, class_specific=True),
    'CoOp': dict(type='CoOpHead', classes=CLASSES),
    'DFER-CLIP': dict(type='DFERCLIPHead', classes=CLASSES),
    'class names': dict(type='ClassNameHead', classes=CLASSES),
}
OTHERS = {
    'more': (*CLASSES, 'contempt'),
    'another order': (CLASSES[1], CLASSES[0], *CLASSES[2:]),
    'another name': ('boredom', *CLASSES[1:]),
}


@pytest.mark.parametrize(
    ('head', 'others'),
    [
        ('MAT', 'more'),
        ('MAT', 'another order'),
        ('CoOp of each class', 'another name'),
        ('CoOp', 'another order'),
        ('DFER-CLIP', 'more'),
        ('class names', 'another name'),
    ],
)
def test_new_classes_take_over_what_belongs_to_no_class(
    head: str, others: str, small: Small, tmp_path: Path
) -> None:
    saved = OTHERS[others]
    stage = dict(TEXT, trains=[r'neck\.text_encoder\.'])  # also works for a head without tokens
    config = small(stage, **{'default_hooks.class_names.new_classes': True})
    config.model.cls_head = dict(HEADS[head])
    runner = build_runner(config)
    assert runner.train_loop is not None  # the training set names the classes
    (hook,) = [hook for hook in runner.hooks if isinstance(hook, ClassNamesHook)]
    hook.before_run(runner)
    learns = {k: v for k, v in runner.model.named_parameters() if 'clip' not in k}
    state = {k: torch.full_like(v, 0.5) for k, v in learns.items()}
    tokens = state.get('cls_head.tokens')
    of_class = tokens is not None and head != 'CoOp'
    if of_class:
        rows = torch.arange(1.0, len(saved) + 1).view(-1, *[1] * (tokens.ndim - 1))
        state['cls_head.tokens'] = rows * torch.ones(tokens.shape[1:])
    state['cls_head.classes'] = to_tensor(saved)
    path = tmp_path / 'other.pth'
    torch.save(dict(state_dict=state), path)

    hook.new_classes = False
    with pytest.raises(DFERError, match='default_hooks.class_names.new_classes=True'):
        runner.load_checkpoint(str(path))
    hook.new_classes = True
    fresh = runner.model.cls_head.tokens.detach().clone() if of_class else None
    runner.load_checkpoint(str(path))
    learned = dict(runner.model.named_parameters())
    assert all(torch.all(learned[k] == 0.5) for k in state if k.startswith('neck.'))
    assert runner.model.cls_head.classes == CLASSES
    if of_class:
        for place, name in enumerate(CLASSES):
            row = learned['cls_head.tokens'][place]
            expected = fresh[place]
            if name in saved:
                expected = torch.full_like(row, saved.index(name) + 1)
            assert torch.equal(row, expected)
    elif tokens is not None:
        assert torch.all(learned['cls_head.tokens'] == 0.5)
    # Resuming refuses other classes whatever the option says.
    torch.save(dict(state_dict={**state, 'cls_head.classes': to_tensor(saved)}), path)
    runner._resume = True
    with pytest.raises(DFERError, match='trained on the classes'):
        hook_less(runner).load_checkpoint(str(path))


def hook_less(runner: Runner) -> Runner:
    """Remove the checkpoint hook, which requires more than weights of a resumed file."""
    runner._hooks = [hook for hook in runner.hooks if isinstance(hook, ClassNamesHook)]
    return runner


def test_new_classes_of_a_head_that_keeps_no_names() -> None:
    head = nn.Module()
    head.fc_cls = nn.Linear(5, 3)
    fresh = head.fc_cls.weight.detach().clone()
    state = {
        'cls_head.fc_cls.weight': torch.arange(2.0)[:, None].expand(2, 5).contiguous(),
        'cls_head.fc_cls.bias': torch.tensor([0.0, 1.0]),
        'backbone.conv': torch.ones(3),
    }
    _fit_plain_head(head, ('sad', 'happy'), ('happy', 'angry', 'sad'), state)
    assert torch.all(state['cls_head.fc_cls.weight'][0] == 1)
    assert torch.equal(state['cls_head.fc_cls.weight'][1], fresh[1])
    assert state['cls_head.fc_cls.bias'][2] == 0
    assert torch.equal(state['backbone.conv'], torch.ones(3))


@pytest.mark.parametrize(
    ('saved', 'training', 'resume', 'refused'),
    [
        (('a', 'b'), True, False, False),
        (('b', 'a'), True, False, True),
        (('a', 'b', 'c'), True, False, False),  # mmengine skips weights of other shapes
        (('a', 'b', 'c'), True, True, True),
        (('a', 'b', 'c'), False, False, True),
        (None, False, False, False),
    ],
)
def test_names_beside_the_weights_are_compared_for_other_heads(
    saved: tuple | None,
    training: bool,
    resume: bool,
    refused: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=('a', 'b'))))
    loop = SimpleNamespace(dataloader=loader)
    runner = SimpleNamespace(
        model=nn.Linear(1, 1), _train_loop=loop if training else None, _val_loop=loop,
        _test_loop=None, _resume=resume,
    )  # fmt: skip
    monkeypatch.setattr(
        'mmdfer.engine.hooks.class_names_hook.train_loop', lambda runner: runner._train_loop
    )
    checkpoint = dict(state_dict={}, meta=dict(dataset_meta=dict(classes=saved)))
    hook = ClassNamesHook()
    if refused:
        with pytest.raises(DFERError, match='new_classes=True'):
            hook.after_load_checkpoint(runner, checkpoint)
    else:
        hook.after_load_checkpoint(runner, checkpoint)
