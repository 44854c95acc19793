"""Toy clips in memory, and MMAction2's own model configs and Runner around them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

import mmaction
from mmaction.datasets import BaseActionDataset
from mmaction.registry import DATASETS

SHIPPED_MODELS = Path(mmaction.__file__).parent / '.mim' / 'configs' / '_base_' / 'models'


@DATASETS.register_module()
class PictureClips(BaseActionDataset):
    """Sixteen clips, the same each time, as MMAction2's own transforms format them.

    Args:
        kind: ``'look'``: four classes, each with a picture of its own. ``'order'``: eight pairs of
            a clip that fades from one picture to another (class 0) and the very same frames
            backwards (class 1): nothing but the order of the frames tells them apart.
        frames: T.
        size: H, W, multiples of 4.
        layout: ``'NCHW'``, each frame a segment, as Recognizer2D has it; or ``'NCTHW'``.
        views: Cuts each clip into so many views of T / views frames.
    """

    def __init__(
        self,
        kind: str = 'look',
        frames: int = 3,
        size: Sequence[int] = (32, 32),
        layout: str = 'NCHW',
        views: int = 1,
    ) -> None:
        self.kind, self.frames, self.size = kind, frames, tuple(size)
        num_clips = frames if layout == 'NCHW' else views
        self.sampled = dict(num_clips=num_clips, clip_len=frames // num_clips)
        pipeline = [dict(type='FormatShape', input_format=layout), dict(type='PackActionInputs')]
        super().__init__(ann_file='', pipeline=pipeline)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Draws the clips, uint8 (T, H, W, 3)."""
        rng = np.random.default_rng(0)
        pictures = rng.integers(0, 256, (4, 4, 4, 3)).astype(float)  # of 4 x 4 flat cells
        pictures = pictures.repeat(self.size[0] // 4, axis=1).repeat(self.size[1] // 4, axis=2)
        draw = self._look if self.kind == 'look' else self._pair
        clips = []
        for number in range(16):
            label, frames = draw(number, pictures, clips)
            if frames.dtype != np.uint8:  # a new clip: camera noise
                frames = np.clip(frames + rng.normal(0, 12, frames.shape), 0, 255).astype(np.uint8)
            clips.append(dict(imgs=frames, label=label, **self.sampled))
        return clips

    def _look(self, number: int, pictures: np.ndarray, _: Any) -> tuple[int, np.ndarray]:
        label = number % 4
        return label, pictures[label][None].repeat(self.frames, 0)

    def _pair(self, number: int, pictures: np.ndarray, clips: list) -> tuple[int, np.ndarray]:
        if number % 2:
            return 1, clips[-1]['imgs'][::-1].copy()
        share = np.linspace(0, 1, self.frames)[:, None, None, None]
        return 0, (1 - share) * pictures[0] + share * pictures[1]


class Observer(Hook):
    """Notes, around each epoch, what the weights are and what the optimizer remembers.

    Attributes:
        digests: Of every tensor, before each epoch and after the last.
        momenta: Before and after each epoch, the names of the parameters with a momentum.
        in_train: After each epoch, the names of the modules in training mode.
    """

    priority = 'LOW'  # after BAPHook

    def __init__(self) -> None:
        self.digests: list[dict[str, str]] = []
        self.momenta: list[tuple[set[str], set[str]]] = []
        self.in_train: list[set[str]] = []

    def before_train_epoch(self, runner: Runner) -> None:
        self.digests.append(digests(runner.model))
        self._before = _remembered(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        self.momenta.append((self._before, _remembered(runner)))
        self.in_train.append({name for name, m in runner.model.named_modules() if m.training})

    def after_train(self, runner: Runner) -> None:
        self.digests.append(digests(runner.model))

    def changed(self, first: int, last: int) -> set[str]:
        """The names of the tensors that differ before epochs ``first`` and ``last``."""
        before, after = self.digests[first], self.digests[last]
        return {name for name in after if before[name] != after[name]}


def _remembered(runner: Runner) -> set[str]:
    state = runner.optim_wrapper.optimizer.state
    return {name for name, p in runner.model.named_parameters() if state.get(p)}


def digests(module: nn.Module) -> dict[str, str]:
    """SHA-256 of every parameter and buffer by name, of the frozen too."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {
        name: hashlib.sha256(tensor.detach().numpy().tobytes()).hexdigest()
        for name, tensor in tensors
    }


def shipped(name: str, **options: Any) -> ConfigDict:
    """A model config of MMAction2's own, for four classes, without the weights it would download.

    Args:
        name: Of the file.
        options: What to change, by dotted key; ``_delete_=True`` replaces a part whole.
    """
    config = Config.fromfile(SHIPPED_MODELS / f'{name}.py')
    config.model.backbone.pretrained = None
    config.model.cls_head.num_classes = 4
    config.merge_from_dict({f'model.{key}': value for key, value in options.items()})
    return config.model


def batch(dataset: PictureClips, count: int = 16) -> dict[str, Any]:
    """The first clips of a dataset, as a loader collates them."""
    return pseudo_collate([dataset[index] for index in range(count)])


def settle(model: nn.Module, dataset: PictureClips) -> nn.Module:
    """Draws the weights and gives BatchNorm the statistics of the clips.

    A frozen backbone comes pretrained; in one that is merely drawn, normalising with mean 0 and
    variance 1, all clips look alike.
    """
    model.init_weights()
    model.eval()
    norms = [m for m in model.backbone.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.train().momentum = None  # the plain mean over what is seen
    with torch.no_grad():
        model(**model.data_preprocessor(batch(dataset)), mode='tensor')
    for norm in norms:
        norm.eval().momentum = 0.1
    return model


def make_runner(
    model: nn.Module | dict,
    dataset: dict[str, Any],
    work_dir: Path,
    optimizer: dict[str, Any],
    hooks: Sequence[Hook | dict] = (),
    batch_size: int = 16,
    **train_cfg: Any,
) -> Runner:
    """A Runner that trains on the clips and validates on the same, 5 at a time, at the end."""
    dataset = dict(dataset, type='PictureClips')
    loader = dict(dataset=dataset, num_workers=0)
    endless = 'max_iters' in train_cfg
    sampler = dict(type='InfiniteSampler' if endless else 'DefaultSampler', shuffle=True)
    last = train_cfg.get('max_iters') or train_cfg['max_epochs']
    return Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=dict(loader, sampler=sampler, batch_size=batch_size),
        val_dataloader=dict(
            loader, sampler=dict(type='DefaultSampler', shuffle=False), batch_size=5
        ),
        train_cfg=dict(by_epoch=not endless, val_interval=last, **train_cfg),
        val_cfg=dict(),
        val_evaluator=dict(type='AccMetric'),
        optim_wrapper=optimizer,
        default_hooks=dict(checkpoint=None, logger=dict(type='LoggerHook', interval=1000)),
        custom_hooks=list(hooks),
        default_scope='mmaction',
        experiment_name=work_dir.name,
        randomness=dict(seed=0),
        log_level='ERROR',
    )


def accuracy(runner: Runner) -> float:
    """The share of the clips that the model gets right, as MMAction2's AccMetric has it."""
    return runner.val_loop.run()['acc/top1']
