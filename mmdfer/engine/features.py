"""Encodes each view of each clip once, before training, where the image tower is frozen."""

from __future__ import annotations

from typing import Any

import torch
from mmengine import dist
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from mmaction.registry import HOOKS

from mmdfer.datasets import DFERDataset
from mmdfer.engine.unwrap import unwrap
from mmdfer.errors import DFERError


class Views(Dataset):
    """All views of a dataset: item ``i`` is view ``i % V`` of clip ``i // V``."""

    def __init__(self, dataset: DFERDataset) -> None:
        self.dataset = dataset
        self.num_views = 1 if dataset.test_mode else dataset.num_views

    def __len__(self) -> int:
        return len(self.dataset) * self.num_views

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.dataset.read_view(*divmod(index, self.num_views))


@HOOKS.register_module()
class EncodeOnceHook(Hook):
    """Runs the frozen image tower once per view, and hands the vectors to the datasets.

    Before training, the V views of each training clip and the test view of each validation clip
    are decoded and encoded, shared among the ranks, and kept in memory in fp32. Afterwards the
    dataset gives vectors (T, D) in place of frames, and the backbone lets them pass.

    Args:
        batch_size: Views per pass.
        num_workers: Processes that decode.

    Raises:
        DFERError: Some stage trains the image tower, or the dataset draws a new view each epoch.
    """

    def __init__(self, batch_size: int = 16, num_workers: int = 2) -> None:
        self.batch_size, self.num_workers = batch_size, num_workers

    def before_train(self, runner: Runner) -> None:
        """Encodes the training and the validation set, unless nothing is left to train."""
        if runner.epoch >= runner.max_epochs:
            return
        model = unwrap(runner.model)
        if any(p.requires_grad for p in model.backbone.parameters()):
            raise DFERError(
                'EncodeOnceHook: backbone.trains unfreezes the image tower, whose vectors then '
                'change: take the hook off custom_hooks, or set backbone.trains=()'
            )
        loops = dict(train=runner.train_loop, val=runner.val_loop)
        for name, loop in loops.items():
            dataset = getattr(getattr(loop, 'dataloader', None), 'dataset', None)
            if isinstance(dataset, DFERDataset) and dataset.vectors is None:
                dataset.vectors = self.encode(model, dataset, name)

    def encode(self, model: nn.Module, dataset: DFERDataset, name: str) -> Tensor:
        """Encodes all views of a dataset.

        Returns:
            (clips, V, views of the pipeline, T, D), in fp32 on the CPU, the same on every rank.
        """
        if not dataset.test_mode and dataset.num_views is None:
            raise DFERError(
                'EncodeOnceHook: the training set shows a new view each epoch: set its num_views'
            )
        views = Views(dataset)
        mine = range(dist.get_rank(), len(views), dist.get_world_size())
        loader = DataLoader(
            Subset(views, mine),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            collate_fn=pseudo_collate,
        )
        parts = []
        bar = tqdm(total=len(mine), desc=f'Encoding {name} views', disable=dist.get_rank() != 0)
        model.eval()
        for batch in loader:
            with torch.no_grad():
                inputs = model.data_preprocessor(batch)['inputs']  # (B, views, 3, T, H, W)
                frames = model.backbone(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2])
            parts.append(frames.float().cpu())
            bar.update(len(frames))
        bar.close()
        encoded = _gather(torch.cat(parts), mine, len(views))
        dist.all_reduce(dataset.unreadable, 'max')  # a clip that one rank skipped, all skip
        return encoded.unflatten(0, (len(dataset), views.num_views))


def _gather(mine: Tensor, indices: range, total: int) -> Tensor:
    """Puts every rank's rows in their places; each row is some rank's, so that a sum is exact."""
    if dist.get_world_size() == 1:
        return mine
    device = torch.device('cuda') if dist.get_backend() == 'nccl' else torch.device('cpu')
    rows = torch.zeros(total, *mine.shape[1:], device=device)
    rows[list(indices)] = mine.to(device)
    dist.all_reduce(rows)
    return rows.cpu()
