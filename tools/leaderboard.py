"""Train and test methods on one dataset with several seeds, and put them into one table.

    python tools/leaderboard.py --dataset synth
    python tools/leaderboard.py --dataset synth --methods align_dfer coop 'cl*' --seeds 1

The methods are those of ``model-index.yml``; left out, all but the ablations. Each run is one of
train.py in ``<work dir>/<dataset>/<method>/seed_<k>``, on a dataset with folds in a ``fold_<n>`` in
it for each of the five; what it prints goes to ``train.log`` there. Where the image tower is frozen
the runs read one feature bank, encoded before the first. Afterwards a run is tested on shuffled
frames, and each method's parameters, FLOPs and clips/s are measured once. What is done is not done
again, and what was interrupted goes on where it stopped: so the same command continues, and
deleting a run's ``report.json``, or its folder, redoes it alone. A run that fails does not keep the
others from running.

The table is of the methods named, written to ``<work dir>/<dataset>/leaderboard.txt``, ``.md``,
``.csv``, ``.json`` and ``.png``.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import mean
from typing import Any

from mmengine.config import Config

from mmdfer.engine.runner.config import uses_features
from mmdfer.engine.runner.loops import last_epoch
from mmdfer.engine.runner.resume import newest_checkpoint
from mmdfer.errors import DFERError, one_line_errors
from mmdfer.evaluation.complexity import Complexity
from mmdfer.experiments.cross_validation import PROTOCOL
from mmdfer.experiments.leaderboard_tables import Row, Run, save_leaderboard
from mmdfer.experiments.model_index import Method, read_methods
from mmdfer.experiments.runs import (
    check_reports,
    check_settings,
    decisive_settings,
    finished,
    fold_keys,
    keep_settings,
    read_as_train,
    resume_flag,
    run_command,
)
from mmdfer.files import check_writable, write_aside

TOOLS = Path(__file__).resolve().parent


@dataclass(frozen=True, eq=False)
class Entry:
    """A method as it is run here.

    Attributes:
        method: Its name, config and published figures.
        cfg: The config, with the options of the command line.
        folder: For its runs.
        fold_keys: Where the config names the fold; none where the dataset has one split.
    """

    method: Method
    cfg: Config
    folder: Path
    fold_keys: list[str]

    @property
    def bank(self) -> bool:
        """Return whether the method trains on features, which are encoded before."""
        return uses_features(self.cfg)

    @property
    def epochs(self) -> int:
        """The last epoch's number."""
        return last_epoch(self.cfg)


@dataclass(frozen=True, eq=False)
class Job:
    """One training: a method, a seed and, where there are folds, a fold."""

    entry: Entry
    seed: int
    fold: int | None

    @property
    def folder(self) -> Path:
        """Of the run."""
        seed = self.entry.folder / f'seed_{self.seed}'
        return seed if self.fold is None else seed / f'fold_{self.fold}'

    def __str__(self) -> str:
        fold = '' if self.fold is None else f', fold {self.fold}'
        return f'{self.entry.method.name}, seed {self.seed}{fold}'


class StepError(Exception):
    """A part of a run ended otherwise than it should."""

    def __init__(self, name: str, folder: Path, why: str) -> None:
        super().__init__(f'{name}: {why}{_last_line(folder / name)}, see {folder / name}.log')
        self.command = kept(name, folder)['command']


def _last_line(path: Path) -> str:
    """What a step said last, which is why it failed; '' where it said nothing."""
    log = path.with_suffix('.log')
    said = log.read_text(errors='replace').split('\n') if log.is_file() else []
    return next((f' ({line.strip()})' for line in reversed(said) if line.strip()), '')


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description='Train and test methods, and compare them')
    parser.add_argument(
        '--dataset', required=True, help="as in the configs' names: synth, dfew, ferv39k, mafw"
    )
    parser.add_argument(
        '--methods',
        nargs='+',
        metavar='METHOD',
        help="names, or patterns such as 'align_dfer*'; default: all but the ablations",
    )
    parser.add_argument('--seeds', type=int, default=3, help='how many; they are 0, 1, ...')
    parser.add_argument('--work-dir', default='work_dirs/leaderboard', help='folder for all of it')
    parser.add_argument(
        '--model-index',
        default=str(TOOLS.parent / 'model-index.yml'),
        help="the file that names the methods; default: this package's",
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        default=[],
        metavar='KEY=VALUE',
        help='settings that replace those of every config, as for train.py',
    )
    return parser.parse_args()


# ------------------------------------------------------------------ what is to be done


def choose(methods: dict[str, Method], patterns: Sequence[str] | None, dataset: str) -> list[str]:
    """The names of the methods that are asked for, each once.

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


def read_entries(args: argparse.Namespace) -> list[Entry]:
    """Reads the configs of all methods asked for, before the first is run.

    Raises:
        DFERError: A method or a config is missing, or is none that can be run here.
    """
    if args.seeds < 1:
        raise DFERError(f'--seeds {args.seeds}: at least one is needed')
    methods, root = read_methods(args.model_index, args.dataset), Path(args.work_dir, args.dataset)
    entries = []
    for name in choose(methods, args.methods, args.dataset):
        config = str(methods[name].config)
        cfg = read_as_train(config, args.cfg_options, None)
        check_reports(cfg, config)
        entries.append(Entry(methods[name], cfg, root / name, fold_keys(cfg, config)))
    return entries


def jobs_of(entries: Sequence[Entry], seeds: int) -> list[Job]:
    """All runs, the first seed of every method before the second of any.

    Raises:
        DFERError: A run was begun with other settings.
    """
    jobs = [
        Job(entry, seed, fold)
        for seed in range(seeds)
        for entry in entries
        for fold in (PROTOCOL if entry.fold_keys else (None,))
    ]
    for job in jobs:
        check_settings(job.folder, settings(job), job.entry.epochs)
    return jobs


def settings(job: Job) -> dict[str, str]:
    """What decides a run's result."""
    return decisive_settings(job.entry.cfg, seed=job.seed)


# ------------------------------------------------------------------ running


def do(job: Job, options: Sequence[str]) -> None:
    """Does of a run what is not done: bank, training, test on shuffled frames, complexity.

    Raises:
        StepError: One of these failed.
    """
    entry, folder = job.entry, job.folder
    config = str(entry.method.config)
    options = [*options, *(f'{key}={job.fold}' for key in entry.fold_keys)]
    tail = ['--cfg-options', *options] if options else []
    bank = ['--bank'] * entry.bank  # one for all configs whose vectors are the same
    if bank and not done('extract', entry.folder):
        flags = ['--work-dir', str(entry.folder / 'extract')]
        step('extract', entry.folder, ['extract_features.py', config, *bank, *flags, *tail])
    if finished(folder, entry.epochs) is None:
        keep_settings(folder, settings(job))
        flags = ['--seed', str(job.seed), *resume_flag(entry.cfg, folder)]
        flags += [*bank, '--work-dir', str(folder)]
        step('train', folder, ['train.py', config, *flags, *tail])
        if finished(folder, entry.epochs) is None:
            raise StepError('train', folder, f'no report of epoch {entry.epochs}')
    # What nothing trains, as zero-shot CLIP, has no checkpoint to test.
    newest = newest_checkpoint(folder)
    if newest is not None and not done('shuffled', folder):
        flags = ['--shuffle-frames', '--work-dir', str(folder / 'shuffled')]
        step('shuffled', folder, ['test.py', config, str(newest), *bank, *flags, *tail])
    if not done('complexity', entry.folder):
        out = ['--out', str(entry.folder / 'complexity' / 'figures.json')]
        step('complexity', entry.folder, ['complexity.py', config, *out, *tail])


def step(name: str, folder: Path, arguments: list[str]) -> None:
    """Runs one of our tools, and keeps how it went in ``<folder>/<name>.json``.

    What it prints goes to ``<name>.log``. The seconds are added to those of earlier attempts; those
    of an attempt that was killed outright are lost.

    Raises:
        StepError: It did not end well.
    """
    check_writable(folder)
    command = [sys.executable, str(TOOLS / arguments[0]), *arguments[1:]]
    record = dict(command=command, seconds=kept(name, folder).get('seconds', 0), status=None)
    start = time.monotonic()
    try:
        record['status'] = run_command(command, folder / f'{name}.log')
    finally:
        record['seconds'] += time.monotonic() - start
        with write_aside(folder / f'{name}.json') as aside:
            aside.write_text(json.dumps(record, indent=1))
    if record['status'] != 0:
        raise StepError(name, folder, f'exit status {record["status"]}')


def kept(name: str, folder: Path) -> dict[str, Any]:
    """What a step left behind: command, seconds, exit status; nothing where it was never run."""
    path = folder / f'{name}.json'
    return json.loads(path.read_text()) if path.is_file() else {}


def done(name: str, folder: Path) -> bool:
    """Whether a step ended well."""
    return kept(name, folder).get('status') == 0


def run_all(jobs: Sequence[Job], options: Sequence[str]) -> dict[Job, StepError]:
    """Runs what is not done, a line for each; returns those that failed."""
    start, failed = time.monotonic(), {}
    for number, job in enumerate(jobs, 1):
        print(f'[{number}/{len(jobs)}] {job}: {job.folder}', end=' ', flush=True)
        try:
            do(job, options)
        except StepError as error:
            failed[job] = error
        how = f'failed ({failed[job]})' if job in failed else _war(job)
        elapsed, left = time.monotonic() - start, time_left(jobs, number)
        print(f'{how}; {_time(elapsed)} elapsed, {left} left', flush=True)
    return failed


def time_left(jobs: Sequence[Job], number: int) -> str:
    """How long the jobs from a number on will take, as the other seeds of their methods did.

    Of a method without a seed that is done, the mean of all that are.
    """
    taken: dict[Entry, list[float]] = {}
    for job in jobs:
        if finished(job.folder, job.entry.epochs) is not None:
            parts = (kept(name, job.folder).get('seconds', 0) for name in ('train', 'shuffled'))
            taken.setdefault(job.entry, []).append(sum(parts))
    todo = [job for job in jobs[number:] if finished(job.folder, job.entry.epochs) is None]
    if todo and not taken:
        return 'unknown'
    every = [seconds for times in taken.values() for seconds in times]
    return f'about {_time(sum(mean(taken.get(job.entry, every)) for job in todo))}'


def _war(job: Job) -> str:
    last = finished(job.folder).last
    return f'WAR {last.war:.2f} UAR {last.uar:.2f}'


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


# ------------------------------------------------------------------ the table


def read_rows(entries: Sequence[Entry], jobs: Sequence[Job]) -> list[Row]:
    """The methods of which a seed is done, on all its folds."""
    rows = []
    for entry in entries:
        seeds = {job.seed: [] for job in jobs}
        for job in jobs:
            if job.entry is entry:
                seeds[job.seed].append(job)
        runs = [run for of_seed in seeds.values() if (run := read_run(of_seed)) is not None]
        if runs:
            figures = entry.folder / 'complexity' / 'figures.json'
            measured = Complexity(**json.loads(figures.read_text())) if figures.is_file() else None
            bank = kept('extract', entry.folder).get('seconds')
            method = entry.method
            rows.append(Row(method.name, tuple(runs), measured, bank, method.published))
    return rows


def read_run(jobs: Sequence[Job]) -> Run | None:
    """One seed of a method; None where a fold is not done."""
    folds = [finished(job.folder, job.entry.epochs, job.fold or 1) for job in jobs]
    if None in folds:
        return None
    shuffled = [shuffled_war(job.folder) for job in jobs]
    seconds = [kept('train', job.folder).get('seconds') for job in jobs]
    return Run(
        jobs[0].seed,
        tuple(folds),
        None if None in shuffled else tuple(shuffled),
        None if None in seconds else sum(seconds),
    )


def shuffled_war(folder: Path) -> float | None:
    """The WAR in percent that the test on shuffled frames ended with."""
    if not done('shuffled', folder):
        return None
    newest = max((folder / 'shuffled').glob('*/confusion_matrix.json'))  # folders are named by date
    return json.loads(newest.read_text())['WAR']


def main() -> None:
    """Runs, and writes the table."""
    args = parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with one_line_errors():
            status = compare(args)
    except KeyboardInterrupt:
        print('\ninterrupted; the same command continues', file=sys.stderr)
        status = 130
    sys.exit(status)


def compare(args: argparse.Namespace) -> int:
    """Runs what is not done, writes the table, and returns the exit status."""
    entries = read_entries(args)
    jobs = jobs_of(entries, args.seeds)
    failed = run_all(jobs, args.cfg_options)
    folder, rows = Path(args.work_dir, args.dataset), read_rows(entries, jobs)
    if rows:
        print('\n' + save_leaderboard(rows, folder))
        print(f'saved as {folder / "leaderboard"}.txt, .md, .csv, .json and .png')
    for job, error in failed.items():
        command = shlex.join(error.command)
        print(f'{job} failed ({error}); resume it with\n  {command}', file=sys.stderr)
    return 1 if failed else 0


if __name__ == '__main__':
    main()
