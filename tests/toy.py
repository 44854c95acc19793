"""Provide a toy dataset, model and config that train in seconds, for tests of the tools.

The task is to tell whether the brightness of the frames rises or falls.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dataset import BaseDataset
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmaction.registry import DATASETS, MODELS, TRANSFORMS
from mmaction.structures import ActionDataSample

from mmdfer.errors import DFERError

CONFIG = """
_base_ = [{base!r}]
custom_imports = dict(imports=['mmdfer', 'toy'], allow_failed_imports=False)
model = dict(type='ToyModel')
pipeline = [
    dict(type='View', transforms=[dict(type='SampleToyFrames')]),
    dict(type='PackToyInputs'),
]
train_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='ToyClips', length=16, pipeline=pipeline))
val_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ToyClips', length=7, mislabelled=(0,), test_mode=True, pipeline=pipeline))
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='DFERMetric')
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.5, momentum=0.9))
"""


@TRANSFORMS.register_module()
class View:
    """Apply several transforms, as a wrapper of transforms in a user's pipeline may do."""

    def __init__(self, transforms: list[dict]) -> None:
        self.transforms = [TRANSFORMS.build(transform) for transform in transforms]

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        for transform in self.transforms:
            results = transform(results)
        return results


@TRANSFORMS.register_module()
class SampleToyFrames:
    """Sample all eight frames of a clip."""

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        return dict(results, frame_inds=torch.arange(8).numpy(), clip_len=8, num_clips=1)


@TRANSFORMS.register_module()
class PackToyInputs:
    """Draw eight frames whose brightness rises or falls evenly, and pack them.

    Both kinds of clips have the same frames, so only the order of the frames tells them apart.
    """

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        frames = (torch.as_tensor(results['frame_inds']) - 3.5) / 8 * results['slope']
        sample = ActionDataSample().set_gt_label(results['label'])
        image = (255 * (frames + 0.5)).byte().repeat(3, 4, 6, 1).movedim(-1, 1)  # (3, T, 4, 6)
        return dict(inputs=image[None], data_samples=sample)


@DATASETS.register_module()
class ToyClips(BaseDataset):
    """Provide clips that rise and fall by turns, some with a wrong label.

    Args:
        length: The number of clips.
        mislabelled: The numbers of the clips that have the wrong label.
        broken: The index of a clip that cannot be read; None for no such clip.
        fold: The fold. The clips of fold k are numbered from k - 1.
        broken_fold: The only fold in which the broken clip cannot be read; None for all folds.
        **kwargs: Arguments of BaseDataset.
    """

    METAINFO = dict(classes=('rising', 'falling'))

    def __init__(
        self,
        length: int,
        mislabelled: tuple = (),
        broken: int | None = None,
        fold: int = 1,
        broken_fold: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.length, self.mislabelled, self.fold = length, mislabelled, fold
        self.broken = broken if broken_fold in (None, fold) else None
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the clips; a clip with an even number rises."""
        return [
            dict(
                filename=f'clip{i}.mp4',
                label=(i + (i in self.mislabelled)) % 2,
                slope=1 if i % 2 == 0 else -1,
            )
            for i in range(self.fold - 1, self.fold - 1 + self.length)
        ]

    def prepare_data(self, idx: int) -> dict[str, Any]:
        """Read a clip, or raise an error for the broken clip."""
        if idx == self.broken:
            raise DFERError(f'clip{idx}.mp4: cannot be read; restore the file')
        return super().prepare_data(idx)


@MODELS.register_module()
class ToyModel(BaseModel):
    """Classify a clip with a linear layer over the brightness of its frames."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.linear = nn.Linear(8, 2)

    def forward(self, inputs: list[Tensor], data_samples: list, mode: str = 'loss') -> Any:
        """Return the loss, or the samples with their scores."""
        frames = torch.stack(inputs)[:, 0, 0, :, 0, 0].float() / 255 - 0.5  # (B, T)
        logits = self.linear(frames)
        if mode == 'loss':
            return dict(
                loss_cls=F.cross_entropy(logits, torch.cat([s.gt_label for s in data_samples]))
            )
        for sample, scores in zip(data_samples, logits.softmax(1), strict=True):
            sample.set_pred_score(scores).set_pred_label(int(scores.argmax()))
        return data_samples
