"""Provide toy clips in memory, and a Runner that trains MMAction2's own models on them."""

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
    """Provide the same 16 clips each time, formatted by MMAction2's own transforms.

    Args:
        kind: ``'look'`` for four classes, where all clips of a class show the same picture.
            ``'order'`` for eight pairs of clips: one clip fades from one picture to another
            (class 0), the other has the same frames in reverse order (class 1), so only the order
            of the frames tells the classes apart.
        frames: The number of frames T of each clip.
        size: The height and the width of the frames in pixels, both multiples of 4.
        layout: ``'NCHW'`` to make each frame a segment, as Recognizer2D expects, or ``'NCTHW'``.
        views: The number of views of each clip; a view has T / views frames.
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
        """Draw the clips, each as uint8 pixels (T, H, W, 3)."""
        rng = np.random.default_rng(0)
        pictures = rng.integers(0, 256, (4, 4, 4, 3)).astype(float)  # 4 x 4 plain cells
        pictures = pictures.repeat(self.size[0] // 4, axis=1).repeat(self.size[1] // 4, axis=2)
        draw = self._look if self.kind == 'look' else self._pair
        clips = []
        for number in range(16):
            label, frames = draw(number, pictures, clips)
            if frames.dtype != np.uint8:  # not a reversed copy, so add camera noise
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
    """Record the weights and the optimizer's state before and after each epoch.

    Attributes:
        digests: The digest of each tensor by name, before each epoch and after the last one.
        momenta: For each epoch, the names of the parameters that have a momentum before the epoch
            and after the epoch.
        in_train: For each epoch, the names of the modules that are in training mode at its end.
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
        """Return the names of the tensors that change from epoch ``first`` to epoch ``last``."""
        before, after = self.digests[first], self.digests[last]
        return {name for name in after if before[name] != after[name]}


def _remembered(runner: Runner) -> set[str]:
    state = runner.optim_wrapper.optimizer.state
    return {name for name, p in runner.model.named_parameters() if state.get(p)}


def digests(module: nn.Module) -> dict[str, str]:
    """Return the SHA-256 of each parameter and buffer by name, frozen ones included."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {
        name: hashlib.sha256(tensor.detach().numpy().tobytes()).hexdigest()
        for name, tensor in tensors
    }


def shipped(name: str, **options: Any) -> ConfigDict:
    """Read one of MMAction2's model configs, for four classes and without pretrained weights.

    Args:
        name: The name of the config file, without ``.py``.
        options: The values to change, by dotted key; ``_delete_=True`` replaces a whole part.
    """
    config = Config.fromfile(SHIPPED_MODELS / f'{name}.py')
    config.model.backbone.pretrained = None
    config.model.cls_head.num_classes = 4
    config.merge_from_dict({f'model.{key}': value for key, value in options.items()})
    return config.model


def batch(dataset: PictureClips, count: int = 16) -> dict[str, Any]:
    """Collate the first clips of a dataset as a data loader does."""
    return pseudo_collate([dataset[index] for index in range(count)])


def settle(model: nn.Module, dataset: PictureClips) -> nn.Module:
    """Initialise the weights and set the BatchNorm statistics to those of the clips.

    This replaces pretrained weights. With random weights and BatchNorm's initial statistics (mean
    0, variance 1), a frozen backbone gives almost the same features for all clips.
    """
    model.init_weights()
    model.eval()
    norms = [m for m in model.backbone.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.train().momentum = None  # use the mean over all batches seen
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
    """Build a Runner that trains on the clips and, at the end, validates on them 5 at a time."""
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
    """Return the share of clips that are classified correctly, by MMAction2's AccMetric."""
    return runner.val_loop.run()['acc/top1']
