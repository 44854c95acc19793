"""What the run came to: last and best apart, beside what CLIP gives without training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine import dist
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmaction.registry import HOOKS

from mmdfer.datasets import DFERDataset
from mmdfer.engine.unwrap import unwrap
from mmdfer.evaluation.baselines import fit_probe, mean_vectors, zero_shot
from mmdfer.evaluation.metrics import war_uar_of_labels
from mmdfer.files import write_aside

Scores = dict[str, float]


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

    Writes ``report.json`` and, after each validation, ``history.json`` to the run's ``work_dir``.
    """

    def __init__(self, baselines: bool = False, prompt: str = 'an expression of {}') -> None:
        self.baselines, self.prompt = baselines, prompt
        self.history: dict[int, Scores] = {}
        self._start = 0

    def before_train(self, runner: Runner) -> None:
        """Takes up the history of a resumed run."""
        self._start = runner.epoch
        path = Path(runner.work_dir, 'history.json')
        if runner.epoch > 0 and path.is_file():
            kept = json.loads(path.read_text())
            self.history = {int(e): m for e, m in kept.items() if int(e) <= runner.epoch}

    def after_val_epoch(self, runner: Runner, metrics: Scores | None = None) -> None:
        """Keeps the metrics under the epoch's number, counted from 1."""
        if runner._train_loop is None:
            return
        self.history[runner.epoch] = {k: float(v) for k, v in (metrics or {}).items()}
        _write(Path(runner.work_dir, 'history.json'), self.history)

    def after_train(self, runner: Runner) -> None:
        """Prints and saves the table, where anything was trained."""
        if not self.history or runner.epoch == self._start or not dist.is_main_process():
            return
        last = max(self.history)
        best = max(self.history, key=lambda epoch: self.history[epoch]['WAR'])
        rows = self._baselines(runner) if self.baselines else {}
        rows[f'last epoch ({last})'] = self.history[last]
        rows[f'best epoch ({best}), chosen on the test set'] = self.history[best]
        if self.baselines:
            rows['last epoch, frames shuffled'] = self._shuffled(runner)
        _write(Path(runner.work_dir, 'report.json'), rows)
        runner.logger.info(f'Results in {runner.work_dir}\n{_table(rows)}')

    def _baselines(self, runner: Runner) -> dict[str, Scores]:
        """Zero-shot and logistic regression on mean frame vectors."""
        model = unwrap(runner.model)
        train, test = runner.train_dataloader.dataset, runner.val_dataloader.dataset
        vectors, truth = mean_vectors(test.vectors), _column(test, 'label')
        guess = zero_shot(model.backbone, vectors, test.metainfo['classes'], self.prompt)
        probe = fit_probe(
            mean_vectors(train.vectors), _column(train, 'label'), _column(train, 'identity')
        )
        return {
            'CLIP zero-shot, mean frame vector': war_uar_of_labels(guess, truth),
            'logistic regression, mean frame vector': war_uar_of_labels(
                probe.predict(vectors.numpy()), truth
            ),
        }

    def _shuffled(self, runner: Runner) -> Scores:
        """The last epoch's scores with each clip's frames in an order of its own."""
        dataset = runner.val_dataloader.dataset
        ordered, rng = dataset.vectors, np.random.default_rng(0)
        dataset.vectors = torch.stack([v[..., rng.permutation(v.shape[-2]), :] for v in ordered])
        # All clips on this rank: the run's own loader has its share of them only.
        loader = DataLoader(dataset, runner.val_dataloader.batch_size, collate_fn=pseudo_collate)
        model = unwrap(runner.model).eval()
        with torch.no_grad():
            batches = [model.val_step(batch) for batch in loader]
        dataset.vectors = ordered
        predicted = np.array([int(sample.pred_label) for batch in batches for sample in batch])
        return war_uar_of_labels(predicted, _column(dataset, 'label'))


def _column(dataset: DFERDataset, key: str) -> np.ndarray:
    """One entry of every clip's annotation."""
    return np.array([dataset.get_data_info(i)[key] for i in range(len(dataset))])


def _table(rows: dict[str, Scores]) -> str:
    width = max(map(len, rows))
    lines = [f'{"":{width}}    WAR    UAR']
    lines += [f'{name:{width}}  {s["WAR"]:5.2f}  {s["UAR"]:5.2f}' for name, s in rows.items()]
    return '\n'.join(lines)


def _write(path: Path, value: Any) -> None:
    if dist.is_main_process():
        with write_aside(path) as temporary:
            Path(temporary).write_text(json.dumps(value, indent=1))
