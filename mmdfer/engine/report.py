"""What the run came to: last and best apart, beside what CLIP gives without training."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

from mmaction.registry import HOOKS

from mmdfer.datasets import DFERDataset
from mmdfer.datasets.transforms import ShuffleFrames
from mmdfer.engine.features import stack_vectors
from mmdfer.engine.unwrap import unwrap
from mmdfer.errors import DFERError
from mmdfer.evaluation.baselines import fit_probe, mean_vectors, zero_shot
from mmdfer.evaluation.folds import read_fold
from mmdfer.evaluation.metrics import DFERMetric, war_uar_of_labels
from mmdfer.files import write_aside

Scores = dict[str, float]

RECALL = 'recall/'  # how DFERMetric names each class's


@HOOKS.register_module()
class ReportHook(Hook):
    """Keeps the metrics of each validation, and at the end prints and saves one table.

    The last epoch and the best are reported apart: no DFER dataset has a validation split, so the
    best epoch is chosen on the very clips that it is reported on.

    With ``baselines``, which needs the vectors of an EncodeOnceHook, the table also holds what the
    same frozen CLIP gives without training (zero-shot on mean frame vectors, and logistic
    regression on them), and the last epoch on frames in random order.

    Args:
        baselines: Whether to compute these.
        prompt: The zero-shot sentence; ``{}`` is the class.

    Writes to the run's ``work_dir``, after each validation, ``history.json``: the metrics under the
    epoch's number, and under ``confusion`` DFERMetric's counts (C, C), again by epoch. At the end
    ``report.json``: the table's rows under their names, and beside them ``dataset``, ``classes``,
    ``last`` and ``best``, which hold ``epoch``, ``WAR``, ``UAR``, ``recalls`` by class, and
    ``confusion``. What a history does not have is null.
    """

    def __init__(self, baselines: bool = False, prompt: str = 'an expression of {}') -> None:
        self.baselines, self.prompt = baselines, prompt
        self.history: dict[int, Scores] = {}
        self.confusion: dict[int, list[list[int]] | None] = {}
        self._start = 0

    def before_train(self, runner: Runner) -> None:
        """Takes up the history of a resumed run."""
        self._start = runner.epoch
        path = Path(runner.work_dir, 'history.json')
        if runner.epoch > 0 and path.is_file():
            kept = json.loads(path.read_text())
            confusion = kept.pop('confusion', {})  # absent where an older version wrote the file
            self.history = _until(runner.epoch, kept)
            self.confusion = _until(runner.epoch, confusion)

    def after_val_epoch(self, runner: Runner, metrics: Scores | None = None) -> None:
        """Keeps the metrics under the epoch's number, counted from 1."""
        if runner._train_loop is None:
            return
        self.history[runner.epoch] = {k: float(v) for k, v in (metrics or {}).items()}
        self.confusion[runner.epoch] = _confusion(runner)
        kept = {**self.history, 'confusion': self.confusion}
        _write(Path(runner.work_dir, 'history.json'), kept)

    def after_train(self, runner: Runner) -> None:
        """Prints and saves the table; where nothing was left to train, only if it is missing."""
        if runner.val_loop is None:
            return
        path, idle = Path(runner.work_dir, 'report.json'), runner.epoch == self._start
        report = not (idle and _is_of(path, runner.epoch))
        todo = [report, report and idle and runner.epoch not in self.confusion]
        dist.broadcast_object_list(todo)  # the other ranks may not see the main rank's disk
        report, validate = todo
        if validate:
            runner.val_loop.run()
        if report and self.history and dist.is_main_process():
            self._report(runner, path, idle)

    def _report(self, runner: Runner, path: Path, idle: bool) -> None:
        last, best = max(self.history), self._best(runner)
        baselines = self.baselines and not idle
        if self.baselines and idle:
            runner.logger.warning(
                f'{path}: without the baselines, whose vectors are not encoded when nothing is '
                'left to train'
            )
        rows = self._baselines(runner) if baselines else {}
        rows[f'last epoch ({last})'] = self.history[last]
        if best is not None:
            rows[f'best epoch ({best}), chosen on the test set'] = self.history[best]
        if baselines:
            rows['last epoch, frames shuffled'] = self._shuffled(runner)
        meta = getattr(runner.val_dataloader.dataset, 'metainfo', {})
        more = dict(
            dataset=meta.get('dataset'),
            classes=meta.get('classes'),
            last=self._figures(last),
            best=None if best is None else self._figures(best),
        )
        _write(path, {**rows, **more})
        on = f' on {more["dataset"]}' if more['dataset'] else ''
        runner.logger.info(f'Results{on} in {runner.work_dir}\n{_table(rows)}')

    def _best(self, runner: Runner) -> int | None:
        """The best epoch; None if the best checkpoint is of one that the history does not have."""
        saved = Path(str(runner.message_hub.runtime_info.get('best_ckpt', ''))).name
        named = re.fullmatch(r'best_WAR_epoch_(\d+)\.pth', saved)
        if named and int(named[1]) not in self.history:
            runner.logger.warning(
                f'{saved} is of an epoch that history.json does not have: the report is without '
                'the best epoch; tools/test.py gives its figures'
            )
            return None
        return max(self.history, key=lambda epoch: self.history[epoch]['WAR'])

    def _figures(self, epoch: int) -> dict[str, Any]:
        """One validation, as report.json has it."""
        scores = self.history[epoch]
        return dict(
            epoch=epoch,
            WAR=scores['WAR'],
            UAR=scores['UAR'],
            recalls={k.removeprefix(RECALL): v for k, v in scores.items() if k.startswith(RECALL)},
            confusion=self.confusion.get(epoch),
        )

    def _baselines(self, runner: Runner) -> dict[str, Scores]:
        """Zero-shot and logistic regression on mean frame vectors."""
        model = unwrap(runner.model)
        train, test = runner.train_dataloader.dataset, runner.val_dataloader.dataset
        vectors, truth = _means(test), _column(test, 'label')
        guess = zero_shot(model.backbone, vectors, test.metainfo['classes'], self.prompt)
        probe = fit_probe(_means(train), _column(train, 'label'), _column(train, 'identity'))
        return {
            'CLIP zero-shot, mean frame vector': war_uar_of_labels(guess, truth),
            'logistic regression, mean frame vector': war_uar_of_labels(
                probe.predict(vectors.numpy()), truth
            ),
        }

    def _shuffled(self, runner: Runner) -> Scores:
        """The last epoch's scores, as ``tools/test.py --shuffle-frames`` gives them."""
        dataset = runner.val_dataloader.dataset
        dataset.pipeline.transforms.insert(0, ShuffleFrames(seed=0))
        # All clips on this rank: the run's own loader has its share of them only.
        loader = DataLoader(dataset, runner.val_dataloader.batch_size, collate_fn=stack_vectors)
        model = unwrap(runner.model).eval()
        with torch.no_grad():
            batches = [model.val_step(batch) for batch in loader]
        del dataset.pipeline.transforms[0]
        predicted = np.array([int(sample.pred_label) for batch in batches for sample in batch])
        return war_uar_of_labels(predicted, _column(dataset, 'label'))


def _means(dataset: DFERDataset) -> Tensor:
    """The mean vector (clips, D) of each clip, over views and frames; in portions, for a bank."""
    rows = torch.arange(len(dataset)) if dataset.rows is None else dataset.rows
    return torch.cat([mean_vectors(dataset.vectors[part].float()) for part in rows.split(256)])


def _column(dataset: DFERDataset, key: str) -> np.ndarray:
    """One entry of every clip's annotation."""
    return np.array([dataset.get_data_info(i)[key] for i in range(len(dataset))])


def _until(epoch: int, kept: dict[str, Any]) -> dict[int, Any]:
    """What a history has of the epochs up to this one."""
    return {int(e): value for e, value in kept.items() if int(e) <= epoch}


def _confusion(runner: Runner) -> list[list[int]] | None:
    """DFERMetric's counts (C, C) of the validation just made; on the main rank, where they are."""
    for metric in runner.val_evaluator.metrics:
        if isinstance(metric, DFERMetric) and metric.confusion is not None:
            return metric.confusion.tolist()
    return None


def _is_of(path: Path, epoch: int) -> bool:
    """Whether a whole report of this epoch is there."""
    try:
        return read_fold(path).last.epoch == epoch
    except DFERError:
        return False


def _table(rows: dict[str, Scores]) -> str:
    width = max(map(len, rows))
    lines = [f'{"":{width}}    WAR    UAR']
    lines += [f'{name:{width}}  {s["WAR"]:5.2f}  {s["UAR"]:5.2f}' for name, s in rows.items()]
    return '\n'.join(lines)


def _write(path: Path, value: Any) -> None:
    if dist.is_main_process():
        with write_aside(path) as temporary:
            Path(temporary).write_text(json.dumps(value, indent=1))
