"""Define the hook that counts the clips that lack a semantic level."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import torch
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmaction.registry import HOOKS

from mmdfer.datasets import DFERDataset, LoadLevels
from mmdfer.datasets.base import find_datasets

# The levels as LoadLevels names them, and in the words of the log.
LEVELS = dict(masks='masks', landmarks='landmarks', caption='captions')
_COUNTED = ('clips', *LEVELS, *(f'unread {name}' for name in LEVELS), 'frames')


@HOOKS.register_module()
class LevelsHook(Hook):
    """Log at the end of an epoch how many clips lack part masks, landmarks or a caption.

    LoadLevels records what a clip lacks, and PackLevels passes the record on in the data samples.
    Clips of a pipeline without these transforms are not counted. The counts of all ranks are
    added. A clip that the sampler shows twice in an epoch is counted twice. Before training, the
    hook warns if no clip of a training set has masks and landmarks, or a caption, because the names
    of the clips may then differ from those of the files.
    """

    def __init__(self) -> None:
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def before_train(self, runner: Runner) -> None:
        """Warn if no training clip has a level that the pipeline loads."""
        for dataset in find_datasets(runner.train_dataloader.dataset, DFERDataset):
            steps = [s for s in dataset.pipeline.transforms if isinstance(s, LoadLevels)]
            for sentence in steps[0].list_absent(dataset.clip_names()) if steps else ():
                name = dataset.metainfo.get('dataset', type(dataset).__name__)
                runner.logger.warning(f'Levels of the training clips of {name}: {sentence}')

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Count the clips of a training batch."""
        self._count('training', data_batch)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Count the clips of a validation batch."""
        self._count('validation', data_batch)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Count the clips of a test batch."""
        self._count('test', data_batch)

    def after_train_epoch(self, runner: Runner) -> None:
        """Log the counts of an epoch of training."""
        self._log(runner, 'training')

    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Log the counts of a validation."""
        self._log(runner, 'validation')

    def after_test_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Log the counts of a test."""
        self._log(runner, 'test')

    def _count(self, kind: str, batch: Any) -> None:
        """Count the clips of a batch, and what they lack."""
        samples = batch.get('data_samples', ()) if isinstance(batch, dict) else ()
        for sample in samples:
            if 'lacks' in sample:
                self.counts[kind].update(['clips', *sample.lacks])
                self.counts[kind].update(f'unread {name}' for name in sample.unread)
                self.counts[kind]['frames'] += sample.frames_without_landmarks

    def _log(self, runner: Runner, kind: str) -> None:
        """Log the counts of all ranks, and start again at zero."""
        counts = torch.tensor([self.counts[kind][name] for name in _COUNTED])
        self.counts[kind].clear()
        dist.all_reduce(counts)
        total = dict(zip(_COUNTED, counts.tolist(), strict=True))
        if total['clips']:
            runner.logger.info(f'Levels of {total["clips"]} {kind} clips: {_describe(total)}')


def _describe(total: dict[str, int]) -> str:
    """Return the counts in words."""
    counts = ', '.join(
        f'{words} are not read'
        if total[f'unread {name}'] == total['clips']
        else f'{total[name]} lack {words}'
        for name, words in LEVELS.items()
    )
    if total['unread landmarks'] == total['clips']:
        return counts
    return f'{counts}; no landmarks were found in {total["frames"]} frames of the other clips'
