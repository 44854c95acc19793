"""Define the hook that reports the last and the best epoch, next to untrained-CLIP baselines."""

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
from mmdfer.evaluation.metrics import score_labels
from mmdfer.evaluation.report import read_fold
from mmdfer.features import EncodedClips
from mmdfer.files import write_aside
from mmdfer.models import FrozenCLIP
from mmdfer.tables import plain_table

Scores = dict[str, float]

# The entries of report.json that are not rows of the printed table.
NO_ROWS = ('dataset', 'classes', 'stopped_early', 'last', 'best')
RECALL = 'recall/'  # the prefix of DFERMetric's recall of each class


@HOOKS.register_module()
class ReportHook(Hook):
    """Record the metrics of each validation, and print and save a report when training ends.

    The report lists the last epoch and the best epoch separately. No DFER dataset has a validation
    split, so the best epoch is chosen on the test set that it is reported on.

    With ``baselines``, the report also contains two classifiers on the mean frame vectors of the
    same frozen CLIP, zero-shot classification and logistic regression, and the accuracy of the last
    epoch on frames in random order. These rows require a training set and a validation set in
    EncodedClips. Otherwise the report is written without them, and a warning says why.

    If the training loop counts iterations (IterBasedTrainLoop), the report lists iterations instead
    of epochs. Calls of ``Runner.val()`` and ``Runner.test()`` outside training write nothing.

    The hook writes two files to the work directory of the run. Values that the history lacks are
    null.

    - ``history.json``, after each validation: the metrics, keyed by the number of the epoch (or by
      ``iter_<number>``), and under ``confusion`` the confusion matrix (C, C) of DFERMetric, with
      the same keys.
    - ``report.json``, at the end: the rows of the printed table, keyed by their names, and
      ``dataset``, ``classes``, ``stopped_early``, ``last`` and ``best``. ``stopped_early`` says
      whether a hook such as EarlyStoppingHook ended training. ``last`` and ``best`` contain
      ``epoch`` (or ``iter``), ``WAR``, ``UAR``, ``recalls`` by class, and ``confusion``.

    Args:
        baselines: Whether to add the baselines and the accuracy on shuffled frames to the report.
        prompt: The sentence of the zero-shot baseline, in which ``{}`` is replaced by the class
            name.
    """

    def __init__(self, baselines: bool = False, prompt: str = 'an expression of {}') -> None:
        self.baselines, self.prompt = baselines, prompt
        self.history: dict[int, Scores] = {}
        self.confusion: dict[int, list[list[int]] | None] = {}
        self._start = 0
        self._unit: Unit = 'epoch'
        self._training = False

    def before_train(self, runner: Runner) -> None:
        """Read the history of the run if training resumes."""
        self._training = True
        self._start, self._unit = progress(runner), unit(runner)
        path = Path(runner.work_dir, 'history.json')
        if self._start > 0 and path.is_file():
            kept = json.loads(path.read_text())
            confusion = kept.pop('confusion', {})  # absent in files of older versions
            self.history = self._until(self._start, kept)
            self.confusion = self._until(self._start, confusion)

    def after_val_epoch(self, runner: Runner, metrics: Scores | None = None) -> None:
        """Record the metrics, keyed by the number of epochs or iterations that are complete.

        A validation outside training is not recorded.
        """
        if not self._training:
            return
        step = progress(runner)
        self.history[step] = {k: float(v) for k, v in (metrics or {}).items()}
        self.confusion[step] = _confusion(runner)
        kept = self._by_key(self.history)
        kept['confusion'] = self._by_key(self.confusion)
        _write(Path(runner.work_dir, 'history.json'), kept)

    def after_run(self, runner: Runner) -> None:
        """Stop recording, so that a validation after training with the same Runner is left out."""
        self._training = False

    def _by_key(self, steps: dict[int, Any]) -> dict[str, Any]:
        """Return the entries under their keys in history.json, such as ``4`` or ``iter_4``."""
        prefix = '' if self._unit == 'epoch' else 'iter_'
        return {f'{prefix}{step}': value for step, value in steps.items()}

    def _until(self, last: int, kept: dict[str, Any]) -> dict[int, Any]:
        """Return the entries of a history file up to and including an epoch or iteration."""
        pattern = re.compile(r'(\d+)' if self._unit == 'epoch' else r'iter_(\d+)')
        steps = {int(m[1]): value for key, value in kept.items() if (m := pattern.fullmatch(key))}
        return {step: value for step, value in steps.items() if step <= last}

    def after_train(self, runner: Runner) -> None:
        """Print and save the report.

        If the run had already finished when it resumed, the report is written only if it is
        missing. Otherwise the saved report is printed.
        """
        if runner.val_loop is None:
            return
        path, step = Path(runner.work_dir, 'report.json'), progress(runner)
        idle = step == self._start
        report = not (idle and _is_complete(path, step))
        todo = [report, report and idle and step not in self.confusion]
        dist.broadcast_object_list(todo)  # Other ranks may not have access to the main rank's disk.
        report, validate = todo
        if validate:
            runner.val_loop.run()
        if not dist.is_main_process():
            return
        if report and self.history:
            self._report(runner, path)
        elif not report:
            kept = json.loads(path.read_text())
            rows = {name: row for name, row in kept.items() if name not in NO_ROWS}
            runner.logger.info(f'The training had ended before. Its {path}:\n{_table(rows)}')

    def _report(self, runner: Runner, path: Path) -> None:
        """Collect the rows of the report, write ``report.json`` and log the table."""
        last, best = max(self.history), self._best(runner)
        missing = _why_no_baselines(runner) if self.baselines else None
        if missing is not None:
            runner.logger.warning(f'{path}: the report is written without the baselines: {missing}')
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
        """Return the epoch or iteration with the highest WAR.

        Returns:
            The number of the step, or None if the history lacks the validation that selected the
            best checkpoint. The history of an interrupted run can be incomplete.
        """
        saved = Path(str(runner.message_hub.runtime_info.get('best_ckpt', ''))).name
        named = re.fullmatch(rf'best_WAR_{self._unit}_(\d+)\.pth', saved)
        if named and int(named[1]) not in self.history:
            runner.logger.warning(
                f'history.json lacks the validation of {saved}, so the report has no best '
                f'{self._unit}. Run tools/test.py on this checkpoint for its metrics'
            )
            return None
        return max(self.history, key=lambda epoch: self.history[epoch]['WAR'])

    def _figures(self, step: int) -> dict[str, Any]:
        """Return the metrics of one validation as ``report.json`` stores them."""
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
        """Return the scores of zero-shot CLIP and logistic regression on mean frame vectors.

        There is no row of zero-shot CLIP if the run trains the text tower.
        """
        model, test = unwrap(runner.model), runner.val_dataloader.dataset
        parts = list(find_datasets(runner.train_dataloader.dataset, EncodedClips))
        vectors, truth = _means(test), _column(test, 'label')
        rows = {}
        if not model.backbone.trains_texts:
            guess = zero_shot(model.backbone, vectors, test.metainfo['classes'], self.prompt)
            rows['CLIP zero-shot, mean frame vector'] = score_labels(guess, truth)
        probe = fit_probe(
            torch.cat([_means(part) for part in parts]),
            np.concatenate([_column(part, 'label') for part in parts]),
            _identities(parts),
        )
        probed = score_labels(probe.predict(vectors.numpy()), truth)
        return rows | {'logistic regression, mean frame vector': probed}

    def _shuffled(self, runner: Runner) -> Scores:
        """Return the last epoch's scores on frames in random order.

        ``tools/test.py --shuffle-frames`` computes the same scores.
        """
        dataset = runner.val_dataloader.dataset
        # This loader gives all clips to the main rank. The run's own loader gives it only a share.
        loader = DataLoader(dataset, runner.val_dataloader.batch_size, collate_fn=pseudo_collate)
        model = unwrap(runner.model).eval()
        dataset.pipeline.transforms.insert(0, ShuffleFrames(seed=0))
        try:
            with torch.no_grad():
                batches = [model.val_step(batch) for batch in loader]
        finally:
            del dataset.pipeline.transforms[0]
        predicted = np.array([int(sample.pred_label) for batch in batches for sample in batch])
        return score_labels(predicted, _column(dataset, 'label'))


def _means(dataset: EncodedClips) -> Tensor:
    """Return the mean frame vector of each clip, averaged over its views and frames.

    The features are read in portions, since those of a feature bank are in a file.

    Returns:
        Vectors of shape (clips, D).
    """
    portions = dataset.rows.split(256)
    return torch.cat([mean_vectors(dataset.features[rows].float()) for rows in portions])


def _why_no_baselines(runner: Runner) -> str | None:
    """Return the reason why the baselines cannot be computed, or None if they can."""
    if not isinstance(unwrap(runner.model).backbone, FrozenCLIP):
        return 'they require a CLIP backbone'
    train, test = runner.train_dataloader.dataset, runner.val_dataloader.dataset
    parts = list(find_datasets(train, EncodedClips))
    encoded = [part.dataset for part in parts]
    if not parts or any(clips not in encoded for clips in find_datasets(train, DFERDataset)):
        return f'they require EncodedClips, but the training set is {type(train).__name__}'
    # The baselines change the validation set's pipeline and read its labels, which only works for
    # a dataset without another wrapper around EncodedClips.
    if not isinstance(test, EncodedClips):
        return f'they require EncodedClips, but the validation set is {type(test).__name__}'
    labels = np.concatenate([_column(part, 'label') for part in parts])
    if len(labels) < PROBE_FOLDS or len(set(labels)) < 2:
        return 'the training set is too small for a logistic regression'
    return None


def _identities(parts: list[EncodedClips]) -> np.ndarray:
    """Return the identity of the person in each training clip.

    If the annotation lacks the identity of a clip, or has fewer people than the logistic regression
    has folds, each clip counts as a different person.

    Returns:
        Identities of shape (N,).
    """
    who = [part.get_data_info(i).get('identity') for part in parts for i in range(len(part))]
    known = None not in who and len(set(who)) >= PROBE_FOLDS
    return np.array(who) if known else np.arange(len(who))


def _column(dataset: EncodedClips, key: str) -> np.ndarray:
    """Return one entry of the annotation for every clip of a dataset."""
    return np.array([dataset.get_data_info(i)[key] for i in range(len(dataset))])


def _confusion(runner: Runner) -> list[list[int]] | None:
    """Return the confusion matrix (C, C) of the latest validation.

    Returns:
        The counts, or None without a DFERMetric and on other ranks than the main rank.
    """
    for metric in runner.val_evaluator.metrics:
        if isinstance(metric, DFERMetric) and metric.confusion is not None:
            return metric.confusion.tolist()
    return None


def _is_complete(path: Path, step: int) -> bool:
    """Return whether the file is a complete report that ends with this epoch or iteration."""
    try:
        return read_fold(path).last.epoch == step
    except DFERError:
        return False


def _table(rows: dict[str, Scores]) -> str:
    """Format the WAR and the UAR of each row as a text table."""
    cells = [[name, f'{s["WAR"]:.2f}', f'{s["UAR"]:.2f}'] for name, s in rows.items()]
    return plain_table([['', 'WAR', 'UAR'], *cells])


def _write(path: Path, value: Any) -> None:
    """Write a value as JSON on the main rank."""
    if dist.is_main_process():
        with write_aside(path) as temporary:
            Path(temporary).write_text(json.dumps(value, indent=1))
