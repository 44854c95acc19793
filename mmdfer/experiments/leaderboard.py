"""The leaderboard: methods trained with several seeds on one dataset, and one table of them."""

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
from mmdfer.experiments.tables import all_of
from mmdfer.features.dataset_config import uses_features
from mmdfer.files import check_writable, write_aside
from mmdfer.installed import installed


@dataclass(frozen=True)
class Step:
    """A command that a leaderboard runs, and what is kept of it in its folder.

    `<name>.log` has what it prints, `<name>.json` its command, seconds and exit status.
    """

    name: str
    folder: Path

    def run(self, command: Sequence[str]) -> None:
        """Run the command to its end.

        The seconds are added to those of earlier attempts; those of an attempt that was killed
        outright are lost.

        Raises:
            RunError: It did not end well.
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
        """Return an error that names the reason, the step's last line and its log."""
        log = self._path('log')
        lines = log.read_text(errors='replace').splitlines() if log.is_file() else []
        last = next((f' ({line.strip()})' for line in reversed(lines) if line.strip()), '')
        return RunError(f'{self.name}: {reason}{last}, see {log}', self.record()['command'])

    def record(self) -> dict[str, Any]:
        """Return command, seconds and exit status; nothing where it was never run."""
        path = self._path('json')
        return json.loads(path.read_text()) if path.is_file() else {}

    def done(self) -> bool:
        """Return whether it ended well."""
        return self.record().get('status') == 0

    def seconds(self) -> float | None:
        """Return the seconds of all attempts; None where it was never run."""
        return self.record().get('seconds')

    def _path(self, suffix: str) -> Path:
        return self.folder / f'{self.name}.{suffix}'


@dataclass(frozen=True, eq=False)
class Entry:
    """A method as it is run here.

    Attributes:
        method: Its name, config and published figures.
        cfg: The config, with the options of the command line.
        folder: The folder of its runs.
        seeds: The trainings of each seed: one, or one for each fold.
    """

    method: Method
    cfg: Config
    folder: Path
    seeds: list[list[Training]]

    @property
    def extraction(self) -> Step:
        """The encoding of the feature bank."""
        return Step('extract', self.folder)

    @property
    def measurement(self) -> Step:
        """The measurement of parameters, FLOPs and speed."""
        return Step('complexity', self.folder)


def compare_methods(
    dataset: str,
    methods: Sequence[str] | None = None,
    seeds: int = 3,
    work_dir: str | Path = 'work_dirs/leaderboard',
    model_index: str | Path | None = None,
    options: Sequence[str] = (),
) -> Failures:
    """Run what is not done of each method and seed, and write the table of the methods.

    Args:
        dataset: As it stands in the names of configs: 'synth', 'dfew', 'ferv39k' or 'mafw'.
        methods: Names or patterns such as 'align_dfer*'; by default all but the ablations.
        seeds: How many; they are 0, 1, ...
        work_dir: The folder for all of it; the runs are in `<dataset>/<method>/seed_<k>`, on a
            dataset with folds in a `fold_<n>` in it.
        model_index: The file that names the methods; by default this package's.
        options: Settings that replace those of every config, as `key=value`.

    Returns:
        The trainings that failed.

    Raises:
        DFERError: A method or a config is missing, or a run was begun with other settings.
    """
    if seeds < 1:
        raise DFERError(f'--seeds {seeds}: at least one is needed')
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


# ------------------------------------------------------------------ what is to be done


def choose(methods: dict[str, Method], patterns: Sequence[str] | None, dataset: str) -> list[str]:
    """Return the names of the methods that are asked for, each once.

    Raises:
        DFERError: A name or pattern fits none.
    """
    if patterns is None:
        return [name for name, method in methods.items() if not method.ablation]
    chosen: dict[str, None] = {}
    for pattern in patterns:
        found = fnmatch.filter(methods, pattern)
        if not found:
            raise DFERError(
                f'--methods {pattern}: no such method has a config on {dataset}; these have: '
                f'{", ".join(methods)}'
            )
        chosen.update(dict.fromkeys(found))
    return list(chosen)


def read_entry(method: Method, folder: Path, seeds: int, options: Sequence[str]) -> Entry:
    """Read a method's config, and list its trainings.

    Raises:
        DFERError: The config is missing, or is none that can be run here.
    """
    cfg = read_config(method.config, parse_options(options))
    check_reports(cfg)
    keys = fold_keys(cfg)

    def training(seed: int, fold: int | None) -> Training:
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
    """Yield all trainings, the first seed of every method before the second of any."""
    for of_seed in zip(*(entry.seeds for entry in entries)):
        for entry, trainings in zip(entries, of_seed):
            for training in trainings:
                yield entry, training


# ------------------------------------------------------------------ running


def run_all(jobs: Sequence[tuple[Entry, Training]]) -> Failures:
    """Run what is not done, with a line for each; return what failed."""
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
    """Do what is not done: bank, training, test on shuffled frames, complexity.

    Returns:
        What the training came to.

    Raises:
        RunError: One of these failed.
    """
    config, folder = str(entry.cfg.filename), training.folder
    tail = ['--cfg-options', *training.options] if training.options else []
    bank = ['--bank'] if 'bank' in training.flags else []  # one for all with the same vectors
    if bank and not entry.extraction.done():
        flags = [*bank, '--work-dir', str(entry.folder / 'extract'), *tail]
        entry.extraction.run(own_command('extract_features', config, *flags))
    result = training.result()
    if result is None:
        step = Step('train', folder)
        training.keep_settings()
        step.run(own_command('train', *training.arguments()))
        result = training.result()
        if result is None:
            raise step.error(f'no report of epoch {training.last_epoch}')
    # What nothing trains, as zero-shot CLIP, has no checkpoint to test.
    newest, shuffled = newest_checkpoint(folder), Step('shuffled', folder)
    if newest is not None and not shuffled.done():
        flags = [*bank, '--shuffle-frames', '--work-dir', str(folder / 'shuffled'), *tail]
        shuffled.run(own_command('test', config, str(newest), *flags))
    if not entry.measurement.done():
        out = ['--out', str(_figures(entry))]
        entry.measurement.run(own_command('complexity', config, *out, *tail))
    return result


def time_left(jobs: Sequence[tuple[Entry, Training]], number: int) -> str:
    """Estimate how long the jobs from a number on will take, as other seeds of their methods did.

    Of a method without a seed that is done, take the mean of all that are.
    """
    taken: dict[Entry, list[float]] = {}
    for entry, training in jobs:
        if training.result() is not None:
            steps = (Step(name, training.folder) for name in ('train', 'shuffled'))
            taken.setdefault(entry, []).append(sum(step.seconds() or 0 for step in steps))
    todo = [entry for entry, training in jobs[number:] if training.result() is None]
    if todo and not taken:
        return 'unknown'
    every = [seconds for times in taken.values() for seconds in times]
    return f'about {_time(sum(mean(taken.get(entry, every)) for entry in todo))}'


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


# ------------------------------------------------------------------ the table


def read_rows(entries: Sequence[Entry]) -> list[Row]:
    """Return the methods of which a seed is done, on all its folds."""
    rows = []
    for entry in entries:
        of_seeds = (read_run(seed, trainings) for seed, trainings in enumerate(entry.seeds))
        runs = tuple(run for run in of_seeds if run is not None)
        if runs:
            path = _figures(entry)
            measured = Complexity(**json.loads(path.read_text())) if path.is_file() else None
            bank, method = entry.extraction.seconds(), entry.method
            rows.append(Row(method.name, runs, measured, bank, method.published))
    return rows


def _figures(entry: Entry) -> Path:
    return entry.folder / 'complexity' / 'figures.json'


def read_run(seed: int, trainings: Sequence[Training]) -> Run | None:
    """Return one seed of a method; None where a fold is not done."""
    folds = all_of(training.result() for training in trainings)
    if folds is None:
        return None
    shuffled = all_of(shuffled_war(training.folder) for training in trainings)
    seconds = all_of(Step('train', training.folder).seconds() for training in trainings)
    return Run(seed, folds, shuffled, None if seconds is None else sum(seconds))


def shuffled_war(folder: Path) -> float | None:
    """Return the WAR in percent that the test on shuffled frames ended with."""
    if not Step('shuffled', folder).done():
        return None
    newest = max((folder / 'shuffled').glob('*/confusion_matrix.json'))  # folders are named by date
    return json.loads(newest.read_text())['WAR']
