"""Build the leaderboard: train methods with several seeds on one dataset, and compare them."""

from __future__ import annotations

import fnmatch
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import mean
from typing import Any

from mmengine.config import Config

from mmdfer.engine.runner.config import parse_options, read_config
from mmdfer.engine.runner.resume_checkpoint import newest_checkpoint
from mmdfer.errors import DFERError
from mmdfer.evaluation.complexity import Complexity
from mmdfer.evaluation.report import Fold
from mmdfer.experiments.cross_validation_tables import PROTOCOL
from mmdfer.experiments.leaderboard_tables import Row, Run, save_leaderboard
from mmdfer.experiments.model_index import Method, read_methods
from mmdfer.experiments.runs import (
    Failures,
    RunError,
    Training,
    check_reports,
    fold_keys,
    own_command,
    run_command,
)
from mmdfer.experiments.tables import collect_all
from mmdfer.features.dataset_config import uses_features
from mmdfer.files import check_writable, write_aside
from mmdfer.installed import installed


@dataclass(frozen=True)
class Step:
    """Run one command of a leaderboard, and record the result in a folder.

    The folder then contains `<name>.log`, the output of the command, and `<name>.json`, with the
    command, its time in seconds and its exit status.

    Attributes:
        name: The name of the step, such as 'train'.
        folder: The folder of the log and the record.
    """

    name: str
    folder: Path

    def run(self, command: Sequence[str]) -> None:
        """Run the command and wait until it ends.

        The recorded time includes earlier attempts of the same step. The time of an attempt is lost
        if this process was killed during the attempt.

        Args:
            command: The program and its arguments.

        Raises:
            RunError: If the command ends with an exit status other than 0.
        """
        check_writable(self.folder)
        before, start, status = self.seconds() or 0, time.monotonic(), None
        try:
            status = run_command(command, self._path('log'))
        finally:
            seconds = before + time.monotonic() - start
            record = dict(command=command, seconds=seconds, status=status)
            with write_aside(self._path('json')) as aside:
                aside.write_text(json.dumps(record, indent=1))
        if status != 0:
            raise self.error(f'exit status {status}')

    def error(self, reason: str) -> RunError:
        """Return an error with a reason, the last line of output and the path of the log.

        Args:
            reason: What is wrong.
        """
        log = self._path('log')
        lines = log.read_text(errors='replace').splitlines() if log.is_file() else []
        last = next((f' ({line.strip()})' for line in reversed(lines) if line.strip()), '')
        return RunError(f'{self.name}: {reason}{last}, see {log}', self.record()['command'])

    def record(self) -> dict[str, Any]:
        """Return the recorded command, seconds and exit status of the step.

        The dict is empty if the step never ran.
        """
        path = self._path('json')
        return json.loads(path.read_text()) if path.is_file() else {}

    def done(self) -> bool:
        """Return whether the last attempt of the step succeeded."""
        return self.record().get('status') == 0

    def seconds(self) -> float | None:
        """Return the total time of all attempts in seconds, or None if the step never ran."""
        return self.record().get('seconds')

    def _path(self, suffix: str) -> Path:
        """Return the path of a file of the step."""
        return self.folder / f'{self.name}.{suffix}'


@dataclass(frozen=True, eq=False)
class Entry:
    """Hold a method of the leaderboard with its config and its trainings.

    Attributes:
        method: The method's name, config path and published figures.
        cfg: The config, with the options of the command line applied.
        folder: The folder for the runs of the method.
        seeds: The trainings for each seed: a list with one training, or with one for each fold.
    """

    method: Method
    cfg: Config
    folder: Path
    seeds: list[list[Training]]

    @property
    def extraction(self) -> Step:
        """Return the step that fills the feature bank."""
        return Step('extract', self.folder)

    @property
    def measurement(self) -> Step:
        """Return the step that measures parameters, FLOPs and speed."""
        return Step('complexity', self.folder)


def compare_methods(
    dataset: str,
    methods: Sequence[str] | None = None,
    seeds: int = 3,
    work_dir: str | Path = 'work_dirs/leaderboard',
    model_index: str | Path | None = None,
    options: Sequence[str] = (),
) -> Failures:
    """Run the unfinished trainings of each method and seed, and write a table of the methods.

    Args:
        dataset: The dataset as it is named in the file names of configs: 'synth', 'dfew', 'ferv39k'
            or 'mafw'.
        methods: Names of methods, or patterns such as 'align_dfer*'. The default is all methods
            except ablations.
        seeds: The number of seeds. The seeds are 0, 1, and so on.
        work_dir: The folder for the whole leaderboard. A run is in `<dataset>/<method>/seed_<k>`,
            and for a dataset with folds in the subfolder `fold_<n>` of it.
        model_index: The path of the model index that lists the methods. The default is the model
            index of this package.
        options: Settings that replace those of every config, in the form `key=value`.

    Returns:
        The trainings that failed, with their errors.

    Raises:
        DFERError: If a method or a config does not exist, or if a run was started with other
            settings.
    """
    if seeds < 1:
        raise DFERError(f'--seeds must be at least 1, got {seeds}')
    known = read_methods(model_index or installed('model-index.yml'), dataset)
    folder = Path(work_dir, dataset)
    entries = [
        read_entry(known[name], folder / name, seeds, options)
        for name in choose(known, methods, dataset)
    ]
    jobs = list(list_jobs(entries))
    for _, training in jobs:
        training.check()
    failures = run_all(jobs)
    if rows := read_rows(entries):
        print('\n' + save_leaderboard(rows, folder))
        print(f'saved as {folder / "leaderboard"}.txt, .md, .csv, .json and .png')
    return failures


# ------------------------------------------------------------------ list the trainings


def choose(methods: dict[str, Method], patterns: Sequence[str] | None, dataset: str) -> list[str]:
    """Select the methods that match the given names or patterns.

    Args:
        methods: All methods with a config on the dataset, keyed by name.
        patterns: Names or patterns, or None for all methods except ablations.
        dataset: The name of the dataset, for the error message.

    Returns:
        The names of the selected methods, without duplicates.

    Raises:
        DFERError: If a pattern matches no method.
    """
    if patterns is None:
        return [name for name, method in methods.items() if not method.ablation]
    chosen: dict[str, None] = {}
    for pattern in patterns:
        found = fnmatch.filter(methods, pattern)
        if not found:
            raise DFERError(
                f'--methods {pattern}: no such method has a config on {dataset}. Choose from '
                f'{", ".join(methods)}'
            )
        chosen.update(dict.fromkeys(found))
    return list(chosen)


def read_entry(method: Method, folder: Path, seeds: int, options: Sequence[str]) -> Entry:
    """Read the config of a method, and list its trainings.

    Args:
        method: The method.
        folder: The folder for the runs of the method.
        seeds: The number of seeds.
        options: Settings that replace those of the config, in the form `key=value`.

    Raises:
        DFERError: If the config does not exist, or if its runs would not end with a report.
    """
    cfg = read_config(method.config, parse_options(options))
    check_reports(cfg)
    keys = fold_keys(cfg)

    def training(seed: int, fold: int | None) -> Training:
        """Return the training with a seed on a fold."""
        in_seed, name = folder / f'seed_{seed}', f'{method.name}, seed {seed}'
        return Training(
            name=name if fold is None else f'{name}, fold {fold}',
            cfg=cfg,
            folder=in_seed if fold is None else in_seed / f'fold_{fold}',
            flags={'seed': seed, **({'bank': True} if uses_features(cfg) else {})},
            options=[*options, *(f'{key}={fold}' for key in keys)],
            fold=fold,
        )

    folds = PROTOCOL if keys else (None,)
    return Entry(
        method, cfg, folder, [[training(seed, fold) for fold in folds] for seed in range(seeds)]
    )


def list_jobs(entries: Sequence[Entry]) -> Iterator[tuple[Entry, Training]]:
    """Yield all trainings with their entries, all methods' first seed before any second seed.

    Args:
        entries: The methods.
    """
    for same_seed in zip(*(entry.seeds for entry in entries)):
        for entry, trainings in zip(entries, same_seed):
            for training in trainings:
                yield entry, training


# ------------------------------------------------------------------ run the trainings


def run_all(jobs: Sequence[tuple[Entry, Training]]) -> Failures:
    """Run the unfinished trainings, and print a line for each.

    Args:
        jobs: The trainings with their entries, in order.

    Returns:
        The trainings that failed, with their errors.
    """
    start, failures = time.monotonic(), {}
    for number, (entry, training) in enumerate(jobs, 1):
        print(f'[{number}/{len(jobs)}] {training}: {training.folder}', end=' ', flush=True)
        try:
            last = run_job(entry, training).last
            how = f'WAR {last.war:.2f} UAR {last.uar:.2f}'
        except RunError as error:
            failures[training] = error
            how = f'failed ({error})'
        elapsed, left = time.monotonic() - start, time_left(jobs, number)
        print(f'{how}; {_time(elapsed)} elapsed, {left} left', flush=True)
    return failures


def run_job(entry: Entry, training: Training) -> Fold:
    """Run the unfinished steps of a training.

    The steps are the extraction of the feature bank, the training, the test on shuffled frames, and
    the measurement of the method's cost.

    Args:
        entry: The method.
        training: The training with one seed, on one fold if the dataset has folds.

    Returns:
        The result of the training.

    Raises:
        RunError: If a step fails.
    """
    config, folder = str(entry.cfg.filename), training.folder
    tail = ['--cfg-options', *training.options] if training.options else []
    # Methods with the same frame vectors share a feature bank.
    bank = ['--bank'] if 'bank' in training.flags else []
    if bank and not entry.extraction.done():
        flags = [*bank, '--work-dir', str(entry.folder / 'extract'), *tail]
        entry.extraction.run(own_command('extract_features', config, *flags))
    result = train(training)
    # Methods without training, such as zero-shot CLIP, have no checkpoint to test.
    newest, shuffled = newest_checkpoint(folder), Step('shuffled', folder)
    if newest is not None and not shuffled.done():
        flags = [*bank, '--shuffle-frames', '--work-dir', str(folder / 'shuffled'), *tail]
        shuffled.run(own_command('test', config, str(newest), *flags))
    if not entry.measurement.done():
        out = ['--out', str(_figures(entry))]
        entry.measurement.run(own_command('complexity', config, *out, *tail))
    return result


def train(training: Training) -> Fold:
    """Run a training unless it is finished, and return its result.

    Args:
        training: The training with one seed, on one fold if the dataset has folds.

    Raises:
        RunError: If the training fails.
    """
    result = training.result()
    if result is None:
        step = Step('train', training.folder)
        training.keep_settings()
        step.run(own_command('train', *training.arguments()))
        result = training.result()
        if result is None:
            raise step.error(f'the training ended without a report of epoch {training.last_epoch}')
    return result


def time_left(jobs: Sequence[tuple[Entry, Training]], number: int) -> str:
    """Estimate the remaining time from the times of finished trainings.

    A training is expected to take as long as the mean of the finished trainings of its method, or
    of all methods if its method has none.

    Args:
        jobs: All trainings with their entries, in order.
        number: The number of jobs that have been run.

    Returns:
        The estimate as text.
    """
    taken: dict[Entry, list[float]] = {}
    for entry, training in jobs:
        if training.result() is not None:
            steps = (Step(name, training.folder) for name in ('train', 'shuffled'))
            taken.setdefault(entry, []).append(sum(step.seconds() or 0 for step in steps))
    todo = [entry for entry, training in jobs[number:] if training.result() is None]
    if todo and not taken:
        return 'unknown time'
    every = [seconds for times in taken.values() for seconds in times]
    return f'about {_time(sum(mean(taken.get(entry, every)) for entry in todo))}'


def _time(seconds: float) -> str:
    """Format seconds as hours, minutes and seconds."""
    return str(timedelta(seconds=round(seconds)))


# ------------------------------------------------------------------ the table


def read_rows(entries: Sequence[Entry]) -> list[Row]:
    """Read the results of the methods that have at least one seed finished on all its folds.

    Args:
        entries: The methods.

    Returns:
        A row of the table for each of these methods.
    """
    rows = []
    for entry in entries:
        found = (read_run(seed, trainings) for seed, trainings in enumerate(entry.seeds))
        runs = tuple(run for run in found if run is not None)
        if runs:
            path = _figures(entry)
            measured = Complexity(**json.loads(path.read_text())) if path.is_file() else None
            bank, method = entry.extraction.seconds(), entry.method
            rows.append(Row(method.name, runs, measured, bank, method.published))
    return rows


def _figures(entry: Entry) -> Path:
    """Return the path of the file with the measured cost of a method."""
    return entry.folder / 'complexity' / 'figures.json'


def read_run(seed: int, trainings: Sequence[Training]) -> Run | None:
    """Read the result of a method with one seed.

    Args:
        seed: The seed.
        trainings: The trainings with this seed, one for each fold.

    Returns:
        The result, or None if a fold is not finished.
    """
    folds = collect_all(training.result() for training in trainings)
    if folds is None:
        return None
    shuffled = collect_all(shuffled_war(training.folder) for training in trainings)
    seconds = collect_all(Step('train', training.folder).seconds() for training in trainings)
    return Run(seed, folds, shuffled, None if seconds is None else sum(seconds))


def shuffled_war(folder: Path) -> float | None:
    """Read the WAR of the test on shuffled frames.

    Args:
        folder: The folder of the training.

    Returns:
        WAR in percent, or None if the test is not finished.
    """
    if not Step('shuffled', folder).done():
        return None
    newest = max((folder / 'shuffled').glob('*/confusion_matrix.json'))  # named by start time
    return json.loads(newest.read_text())['WAR']
