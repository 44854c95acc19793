"""What the run came to: last and best apart, beside what CLIP gives without training."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine import dist
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

from mmaction.registry import HOOKS

from mmdfer.datasets import DFERDataset
from mmdfer.datasets.base import find_datasets
from mmdfer.datasets.transforms.shuffle_frames import ShuffleFrames
from mmdfer.engine.runner.progress import Unit, progress, unit
from mmdfer.engine.runner.unwrap import unwrap
from mmdfer.errors import DFERError
from mmdfer.evaluation.baselines import PROBE_FOLDS, fit_probe, mean_vectors, zero_shot
from mmdfer.evaluation.dfer_metric import DFERMetric
from mmdfer.evaluation.metrics import war_uar_of_labels
from mmdfer.evaluation.report import read_fold
from mmdfer.features import EncodedClips
from mmdfer.files import write_aside
from mmdfer.models import FrozenCLIP
from mmdfer.tables import plain_table

Scores = dict[str, float]

RECALL = 'recall/'  # how DFERMetric names each class's


@HOOKS.register_module()
class ReportHook(Hook):
    """Keeps the metrics of each validation, and at the end prints and saves one table.

    The last epoch and the best are reported apart: no DFER dataset has a validation split, so the
    best epoch is chosen on the very clips that it is reported on.

    With ``baselines`` the table also holds what the same frozen CLIP gives without training
    (zero-shot on mean frame vectors, and logistic regression on them), and the last epoch on frames
    in random order. They need both sets in EncodedClips; without it the report is written
    without the baselines, with a warning.

    A run that counts iterations (IterBasedTrainLoop) is reported by iteration in place of epoch.
    ``Runner.val()`` and ``Runner.test()`` alone write nothing.

    Args:
        baselines: Whether to compute these.
        prompt: The zero-shot sentence; ``{}`` is the class.

    Writes to the run's ``work_dir``, after each validation, ``history.json``: the metrics under the
    epoch's number (or ``iter_<number>``), and under ``confusion`` DFERMetric's counts (C, C), by
    the same keys. At the end ``report.json``: the table's rows under their names, and beside them
    ``dataset``, ``classes``, ``stopped_early``, which says whether a hook such as EarlyStoppingHook
    ended training, and ``last`` and ``best``, which hold ``epoch`` (or ``iter``), ``WAR``, ``UAR``,
    ``recalls`` by class, and ``confusion``. What a history does not have is null.
    """

    def __init__(self, baselines: bool = False, prompt: str = 'an expression of {}') -> None:
        self.baselines, self.prompt = baselines, prompt
        self.history: dict[int, Scores] = {}
        self.confusion: dict[int, list[list[int]] | None] = {}
        self._start = 0
        self._unit: Unit = 'epoch'
        self._training = False

    def before_train(self, runner: Runner) -> None:
        """Read the history of a resumed run."""
        self._training = True
        self._start, self._unit = progress(runner), unit(runner)
        path = Path(runner.work_dir, 'history.json')
        if self._start > 0 and path.is_file():
            kept = json.loads(path.read_text())
            confusion = kept.pop('confusion', {})  # absent where an older version wrote the file
            self.history = self._until(self._start, kept)
            self.confusion = self._until(self._start, confusion)

    def after_val_epoch(self, runner: Runner, metrics: Scores | None = None) -> None:
        """Keep the metrics under the number of the epoch or iteration, counted from 1."""
        if not self._training:
            return
        step = progress(runner)
        self.history[step] = {k: float(v) for k, v in (metrics or {}).items()}
        self.confusion[step] = _confusion(runner)
        kept = self._by_key(self.history)
        kept['confusion'] = self._by_key(self.confusion)
        _write(Path(runner.work_dir, 'history.json'), kept)

    def after_run(self, runner: Runner) -> None:
        """Keep no validation that the same Runner makes after its training."""
        self._training = False

    def _by_key(self, steps: dict[int, Any]) -> dict[str, Any]:
        """Name each entry as the file does: ``4``, or ``iter_4`` where iterations are counted."""
        prefix = '' if self._unit == 'epoch' else 'iter_'
        return {f'{prefix}{step}': value for step, value in steps.items()}

    def _until(self, last: int, kept: dict[str, Any]) -> dict[int, Any]:
        """Return the entries of a history file up to this epoch or iteration."""
        pattern = re.compile(r'(\d+)' if self._unit == 'epoch' else r'iter_(\d+)')
        steps = {int(m[1]): value for key, value in kept.items() if (m := pattern.fullmatch(key))}
        return {step: value for step, value in steps.items() if step <= last}

    def after_train(self, runner: Runner) -> None:
        """Prints and saves the table; where nothing was left to train, only if it is missing."""
        if runner.val_loop is None:
            return
        path, step = Path(runner.work_dir, 'report.json'), progress(runner)
        idle = step == self._start
        report = not (idle and _is_of(path, step))
        todo = [report, report and idle and step not in self.confusion]
        dist.broadcast_object_list(todo)  # the other ranks may not see the main rank's disk
        report, validate = todo
        if validate:
            runner.val_loop.run()
        if report and self.history and dist.is_main_process():
            self._report(runner, path)

    def _report(self, runner: Runner, path: Path) -> None:
        last, best = max(self.history), self._best(runner)
        missing = _why_no_baselines(runner) if self.baselines else None
        if missing is not None:
            runner.logger.warning(f'{path}: written without the baselines: {missing}')
        baselines = self.baselines and missing is None
        word = 'epoch' if self._unit == 'epoch' else 'iteration'
        rows = self._baselines(runner) if baselines else {}
        rows[f'last {word} ({last})'] = self.history[last]
        if best is not None:
            rows[f'best {word} ({best}), chosen on the test set'] = self.history[best]
        if baselines:
            rows[f'last {word}, frames shuffled'] = self._shuffled(runner)
        meta = getattr(runner.val_dataloader.dataset, 'metainfo', {})
        more = dict(
            dataset=meta.get('dataset'),
            classes=meta.get('classes'),
            stopped_early=bool(getattr(runner.train_loop, 'stop_training', False)),
            last=self._figures(last),
            best=None if best is None else self._figures(best),
        )
        _write(path, {**rows, **more})
        on = f' on {more["dataset"]}' if more['dataset'] else ''
        runner.logger.info(f'Results{on} in {runner.work_dir}\n{_table(rows)}')

    def _best(self, runner: Runner) -> int | None:
        """Return the best step; None where the history lacks that of the best checkpoint."""
        saved = Path(str(runner.message_hub.runtime_info.get('best_ckpt', ''))).name
        named = re.fullmatch(rf'best_WAR_{self._unit}_(\d+)\.pth', saved)
        if named and int(named[1]) not in self.history:
            runner.logger.warning(
                f'{saved} is of a validation that history.json does not have: the report is '
                'without the best one; tools/test.py gives its figures'
            )
            return None
        return max(self.history, key=lambda epoch: self.history[epoch]['WAR'])

    def _figures(self, step: int) -> dict[str, Any]:
        """Return one validation in the form of report.json."""
        scores = self.history[step]
        recalls = {k.removeprefix(RECALL): v for k, v in scores.items() if k.startswith(RECALL)}
        return {
            self._unit: step,
            'WAR': scores['WAR'],
            'UAR': scores['UAR'],
            'recalls': recalls,
            'confusion': self.confusion.get(step),
        }

    def _baselines(self, runner: Runner) -> dict[str, Scores]:
        """Score zero-shot CLIP and logistic regression on mean frame vectors."""
        model, test = unwrap(runner.model), runner.val_dataloader.dataset
        parts = list(find_datasets(runner.train_dataloader.dataset, EncodedClips))
        vectors, truth = _means(test), _column(test, 'label')
        guess = zero_shot(model.backbone, vectors, test.metainfo['classes'], self.prompt)
        probe = fit_probe(
            torch.cat([_means(part) for part in parts]),
            np.concatenate([_column(part, 'label') for part in parts]),
            _identities(parts),
        )
        return {
            'CLIP zero-shot, mean frame vector': war_uar_of_labels(guess, truth),
            'logistic regression, mean frame vector': war_uar_of_labels(
                probe.predict(vectors.numpy()), truth
            ),
        }

    def _shuffled(self, runner: Runner) -> Scores:
        """The last epoch's scores, as ``tools/test.py --shuffle-frames`` gives them."""
        dataset = runner.val_dataloader.dataset
        # All clips on this rank: the run's own loader has its share of them only.
        loader = DataLoader(dataset, runner.val_dataloader.batch_size, collate_fn=pseudo_collate)
        model = unwrap(runner.model).eval()
        dataset.pipeline.transforms.insert(0, ShuffleFrames(seed=0))
        try:
            with torch.no_grad():
                batches = [model.val_step(batch) for batch in loader]
        finally:
            del dataset.pipeline.transforms[0]
        predicted = np.array([int(sample.pred_label) for batch in batches for sample in batch])
        return war_uar_of_labels(predicted, _column(dataset, 'label'))


def _means(dataset: EncodedClips) -> Tensor:
    """Return the mean vector (clips, D) of each clip over views and frames.

    The features are read in portions, since those of a bank are a file.
    """
    portions = dataset.rows.split(256)
    return torch.cat([mean_vectors(dataset.features[rows].float()) for rows in portions])


def _why_no_baselines(runner: Runner) -> str | None:
    """Say what the baselines lack; None where they can be computed."""
    if not isinstance(unwrap(runner.model).backbone, FrozenCLIP):
        return 'they are those of a CLIP backbone'
    train, test = runner.train_dataloader.dataset, runner.val_dataloader.dataset
    parts = list(find_datasets(train, EncodedClips))
    encoded = [part.dataset for part in parts]
    if not parts or any(clips not in encoded for clips in find_datasets(train, DFERDataset)):
        return f'the training set ({type(train).__name__}) is not in EncodedClips'
    # The frames are shuffled, and the labels read, in one dataset that is not wrapped further.
    if not isinstance(test, EncodedClips):
        return f'the validation set ({type(test).__name__}) is not in EncodedClips'
    labels = np.concatenate([_column(part, 'label') for part in parts])
    if len(labels) < PROBE_FOLDS or len(set(labels)) < 2:
        return 'the training set is too small for a logistic regression'
    return None


def _identities(parts: list[EncodedClips]) -> np.ndarray:
    """Return who is seen in each training clip (N,).

    Where the annotation does not say so of all clips, or names too few people to hold some out,
    each clip counts as a person of its own.
    """
    who = [part.get_data_info(i).get('identity') for part in parts for i in range(len(part))]
    known = None not in who and len(set(who)) >= PROBE_FOLDS
    return np.array(who) if known else np.arange(len(who))


def _column(dataset: EncodedClips, key: str) -> np.ndarray:
    """One entry of every clip's annotation."""
    return np.array([dataset.get_data_info(i)[key] for i in range(len(dataset))])


def _confusion(runner: Runner) -> list[list[int]] | None:
    """DFERMetric's counts (C, C) of the validation just made; on the main rank, where they are."""
    for metric in runner.val_evaluator.metrics:
        if isinstance(metric, DFERMetric) and metric.confusion is not None:
            return metric.confusion.tolist()
    return None


def _is_of(path: Path, step: int) -> bool:
    """Return whether there is a complete report whose last epoch or iteration is this one."""
    try:
        return read_fold(path).last.epoch == step
    except DFERError:
        return False


def _table(rows: dict[str, Scores]) -> str:
    cells = [[name, f'{s["WAR"]:.2f}', f'{s["UAR"]:.2f}'] for name, s in rows.items()]
    return plain_table([['', 'WAR', 'UAR'], *cells])


def _write(path: Path, value: Any) -> None:
    if dist.is_main_process():
        with write_aside(path) as temporary:
            Path(temporary).write_text(json.dumps(value, indent=1))
