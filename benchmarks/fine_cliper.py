"""Make the tables of FineCLIPER on the synthetic benchmark.

    python -m benchmarks.fine_cliper
    python -m benchmarks.fine_cliper --tables levels adapters --jobs 1

The tables compare levels, texts and adapters of FineCLIPER, and test methods on the domain of the
benchmark on which they were not trained. They are written to `<work dir>/tables.md`, with all runs
that are finished. All methods use the small ViT CLIP and 8 frames of 64 pixels, and all rows of
FineCLIPER have the same epochs.

Each training is a run of `mmdfer train` in `<work dir>/<row>/seed_<k>`, with its output in
`train.log`. To continue after an interruption, run the same command again: an interrupted run
continues from its last checkpoint, and finished runs are not repeated. Tables share their runs, and
runs over the same frozen frame vectors share a feature bank.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from itertools import islice
from multiprocessing import active_children
from pathlib import Path
from statistics import mean
from typing import Any

from tqdm import tqdm

from benchmarks.captions import measure_captions
from mmdfer.cli.resumable import resumable
from mmdfer.compat import load_from_local
from mmdfer.cpus import count_cpus
from mmdfer.engine.runner.resume_checkpoint import newest_checkpoint
from mmdfer.experiments.leaderboard import Step, read_entry, train
from mmdfer.experiments.model_index import Method, read_methods
from mmdfer.experiments.runs import RunError, Training, own_command
from mmdfer.experiments.tables import mean_deviation
from mmdfer.files import write_text
from mmdfer.installed import installed
from mmdfer.models.recognizers import fine_cliper
from mmdfer.synthetic import make_specs
from mmdfer.synthetic.levels import describe_clips
from mmdfer.tables import markdown_table

SEEDS = 3
DOMAINS = ('synth', 'synth_comic')
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
VIT = ('model.backbone.arch=synth-clip-vit',)
BFLOAT16 = ('optim_wrapper.type=AutocastOptimWrapper',)  # as FineCLIPER computes there


@dataclass(frozen=True)
class Row:
    """Describe a row of a table: a method, its settings and the domain on which it is trained.

    Attributes:
        name: The folder of the runs.
        title: The name of the row in the table.
        method: The name of the method in the model index.
        seeds: The number of seeds.
        options: Settings that replace those of the config, in the form `key=value`.
        domain: The domain of the benchmark.
    """

    name: str
    title: str
    method: str
    seeds: int = 1
    options: tuple[str, ...] = ()
    domain: str = DOMAINS[0]

    def trainings(self, work_dir: Path) -> list[Training]:
        """Return the training of each seed."""
        method = methods()[self.method]
        entry = read_entry(method, work_dir / self.name, self.seeds, self.options)
        on = {} if self.domain == DOMAINS[0] else {'on': self.domain}
        return [replace(training, flags={**training.flags, **on}) for (training,) in entry.seeds]


@cache
def methods() -> dict[str, Method]:
    """Read the methods that have a config on the synthetic benchmark, keyed by name."""
    return read_methods(installed('model-index.yml'), DOMAINS[0])


def shuffled(*loaders: str) -> tuple[str, ...]:
    """Return the options with which the clips of loaders have captions of other clips."""
    return tuple(f'{loader}.dataset.pipeline.3.shuffle_captions=0' for loader in loaders)


def eight_frames(dataset: str = 'dataset', neck: bool = True) -> tuple[str, ...]:
    """Return the options with which a method that has 16 frames has 8, as FineCLIPER has.

    Args:
        dataset: The key of the dataset with the pipeline, in a loader.
        neck: Whether the method has a neck.
    """
    sampled = tuple(f'{loader}.{dataset}.pipeline.1.clip_len=8' for loader in LOADERS)
    return (*sampled, 'model.neck.num_frames=8') if neck else sampled


FRAMES = Row('frames', 'frames', 'fine_cliper_frames', SEEDS)
ALL = Row('all', 'frames, parts, captions', 'fine_cliper', SEEDS)
ALIGN_DFER = Row(
    'align_dfer',
    'Align-DFER over the same tower',
    'align_dfer_vit',
    SEEDS,
    eight_frames('dataset.dataset'),
)
DFER_CLIP = Row(
    'dfer_clip',
    'DFER-CLIP over the same tower',
    'dfer_clip',
    options=VIT + BFLOAT16 + eight_frames(),
)
CLIP = Row(
    'clip_zero_shot',
    'zero-shot CLIP, the same tower',
    'clip_zero_shot',
    options=VIT + eight_frames(neck=False),
)
TABLES: dict[str, tuple[Row, ...]] = {
    'levels': (
        FRAMES,
        Row('frames_parts', 'frames, parts', 'fine_cliper_frames_parts'),
        ALL,
        Row('caption', 'captions', 'fine_cliper_caption'),
        Row('shuffled', 'frames, parts, captions shuffled', ALL.method, SEEDS, shuffled(*LOADERS)),
        ALIGN_DFER,
    ),
    'texts': (
        replace(ALL, title='positive and negative texts'),
        Row('positive', 'positive texts alone', 'fine_cliper_positive'),
    ),
    'adapters': (
        replace(ALL, title='AIM'),
        Row('lora', 'LoRA', 'fine_cliper_lora'),
        Row('fru', 'FRU', 'fine_cliper_fru'),
        Row('mat', 'AIM, with MAT', 'fine_cliper_mat'),
        Row('mat_jas', 'AIM, with MAT and JAS', 'fine_cliper_mat_jas'),
    ),
    'domains': tuple(
        replace(row, name=f'{row.name}{suffix}', title=title, domain=domain)
        for domain, suffix in zip(DOMAINS, ('', '_comic'))
        for row, title in (
            (ALL, 'FineCLIPER'),
            (ALIGN_DFER, 'Align-DFER'),
            (DFER_CLIP, 'DFER-CLIP'),
            (CLIP, 'zero-shot CLIP'),
        )
    ),
}
LEVELS = {level: 'captions' if level == 'caption' else level for level in fine_cliper.LEVELS}
ELSEWHERE = 'on_the_other_domain'
# More tests of the models with all levels: the title of the row, and the options of the test. The
# form of the weights affects the training of the levels through the clipping of gradients only, so
# one training serves all forms.
TESTS: dict[str, tuple[str, Sequence[str]]] = {
    'captions_shuffled': ('captions shuffled in test only', shuffled(LOADERS[2])),
    **{
        f'{level}_alone': (f'tested on {title} alone', (f'model.levels=[{level}]',))
        for level, title in LEVELS.items()
    },
    'margin_fusion': ('tested with weights by the margin', ('model.fusion=margin',)),
    'mean_fusion': ('tested with equal weights', ('model.fusion=mean',)),
}


# ------------------------------------------------------------------ run


def run_seed(row: Row, seed: int, work_dir: Path) -> str | None:
    """Train a row with one seed and test it in other ways, unless this is done.

    Args:
        row: The row.
        seed: The seed.
        work_dir: The folder of all runs.

    Returns:
        What failed, or None.
    """
    training = row.trainings(work_dir)[seed]
    try:
        train(training)
        if row.name == ALL.name:
            for name, (_, options) in TESTS.items():
                run_test(training, name, 'test', options=options)
        if any(row.name == other.name for other in TABLES['domains']):
            other = DOMAINS[row.domain == DOMAINS[0]]
            bank = ['--bank'] if 'bank' in training.flags else []
            run_test(training, ELSEWHERE, 'zero_shot', ['--on', other, *bank])
    except RunError as error:
        return f'{training} failed ({error})'
    except KeyboardInterrupt:
        return f'{training} was interrupted'
    return None


def end_workers(*_: Any) -> None:
    """Handle a termination signal: end the workers, and then this process, as Ctrl-C does."""
    for worker in active_children():
        worker.terminate()
    raise KeyboardInterrupt


def run_test(
    training: Training,
    name: str,
    command: str,
    flags: Sequence[str] = (),
    options: Sequence[str] = (),
) -> None:
    """Test the checkpoint of a training by a command of mmdfer, unless this is done."""
    step, folder = Step(name, training.folder), training.folder / name
    if step.done():
        return
    checkpoint = newest_checkpoint(training.folder)  # zero-shot CLIP has none
    words = [str(training.cfg.filename), *([] if checkpoint is None else [str(checkpoint)])]
    words += [*flags, '--work-dir', str(folder)]
    if options := [*training.options, *options]:
        words += ['--cfg-options', *options]
    step.run(own_command(command, *words))


def run_all(rows: Sequence[Row], work_dir: Path, jobs: int) -> list[str]:
    """Run all seeds of all rows, several at the same time, and return what failed.

    Args:
        rows: The rows. The first seed of each row runs before any second seed.
        work_dir: The folder of all runs.
        jobs: The number of trainings that run at the same time. They share the CPUs.
    """
    for row in rows:
        for training in row.trainings(work_dir):
            training.check()
    os.environ['OMP_NUM_THREADS'] = str(max(1, count_cpus() // jobs))
    todo = [(row, seed) for seed in range(SEEDS) for row in rows if seed < row.seeds]
    waiting, failures = iter(todo), []
    # Work is handed out only to free workers. So no training starts after an interruption. Ctrl-C
    # reaches the workers too, but a termination signal has to be passed on.
    signal.signal(signal.SIGTERM, end_workers)
    interruptible = dict(initializer=signal.signal, initargs=(signal.SIGTERM, end_workers))
    pool = ProcessPoolExecutor(jobs, **interruptible)
    with pool, tqdm(desc='trainings', total=len(todo)) as bar:
        running = {pool.submit(run_seed, *job, work_dir) for job in islice(waiting, jobs)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            failures += [failed for run in done if (failed := run.result()) is not None]
            running |= {pool.submit(run_seed, *job, work_dir) for job in islice(waiting, len(done))}
            bar.update(len(done))
    return failures


# ------------------------------------------------------------------ tables


def read_scores(training: Training, name: str | None = None) -> dict[str, float] | None:
    """Read WAR and UAR of a training, or of one of its tests. None if it is not finished."""
    if name is None:
        result = training.result()
        return None if result is None else dict(WAR=result.last.war, UAR=result.last.uar)
    if not Step(name, training.folder).done():
        return None
    folder = training.folder / name
    if (folder / 'report.json').is_file():
        return json.loads((folder / 'report.json').read_text())['last']
    newest = max(folder.glob('*/confusion_matrix.json'))  # the folders are named by their time
    return json.loads(newest.read_text())


def cell(scores: Sequence[dict[str, float]], metric: str) -> str:
    """Format the mean and the standard deviation of a metric over the seeds."""
    middle, deviation = mean_deviation([score[metric] for score in scores])
    return f'{middle:.2f}' if deviation is None else f'{middle:.2f} ± {deviation:.2f}'


def collect(row: Row, work_dir: Path, name: str | None = None) -> list[dict[str, float]]:
    """Read the scores of the seeds of a row that are finished."""
    found = (read_scores(training, name) for training in row.trainings(work_dir))
    return [scores for scores in found if scores is not None]


def time_of(row: Row, work_dir: Path) -> str:
    """Return the mean time of the finished trainings of a row."""
    finished = [run.folder for run in row.trainings(work_dir) if run.result() is not None]
    seconds = mean(Step('train', folder).seconds() or 0.0 for folder in finished)
    return str(timedelta(seconds=round(seconds)))


def make_rows(rows: Sequence[Row], work_dir: Path) -> Iterator[list[str]]:
    """Yield the lines of a table that compares rows on the test people of their domain."""
    yield ['', 'seeds', 'WAR', 'UAR', 'time of a training']
    for row in rows:
        if scores := collect(row, work_dir):
            cells = [cell(scores, 'WAR'), cell(scores, 'UAR'), time_of(row, work_dir)]
            yield [row.title, str(len(scores)), *cells]
        if row != ALL:
            continue
        for name, (title, _) in TESTS.items():
            if scores := collect(row, work_dir, name):
                cells = [cell(scores, 'WAR'), cell(scores, 'UAR'), '']
                yield [f'{row.title}; {title}', str(len(scores)), *cells]


def make_domain_rows(rows: Sequence[Row], work_dir: Path) -> Iterator[list[str]]:
    """Yield the lines of the table of the tests on the other domain."""
    where = ('same domain', 'other domain')
    yield ['', 'trained on', 'seeds', *(f'{place}: WAR / UAR' for place in where)]
    for row in rows:
        here, there = (collect(row, work_dir, name) for name in (None, ELSEWHERE))
        if here and there:
            cells = [f'{cell(scores, "WAR")} / {cell(scores, "UAR")}' for scores in (here, there)]
            yield [row.title, row.domain, str(len(there)), *cells]


def read_weights(work_dir: Path) -> str:
    """Return a sentence with the learned weights of the levels, as means over the seeds."""
    runs = [run.folder for run in ALL.trainings(work_dir) if run.result() is not None]
    weights = [
        load_from_local(path)['state_dict']['level_scalars'].exp().tolist()
        for path in map(newest_checkpoint, runs)
        if path is not None
    ]
    named = (f'{title} {mean(of):.2f}' for title, of in zip(LEVELS.values(), zip(*weights)))
    return f'Learned weights of the levels: {", ".join(named)}.\n' if weights else ''


@cache
def classify_captions() -> list[str]:
    """Return title, seeds, WAR and UAR of a classifier of captions, which each table contains."""
    specs = make_specs(1400, 700, 140, 70, 0)
    scores = measure_captions(specs, describe_clips(specs), 'test people')
    name, best = max(scores.items(), key=lambda item: item[1]['WAR'])
    title = f'captions, logistic regression on {name}'
    return [title, '1', f'{best["WAR"]:.2f}', f'{best["UAR"]:.2f}']


def make_tables(names: Sequence[str], work_dir: Path) -> str:
    """Return the chosen tables in Markdown, and write them to `tables.md` in the work directory."""
    parts = []
    for name in names:
        rows = TABLES[name]
        if name == 'domains':
            title, seeds, *scores = classify_captions()
            captions = [title, DOMAINS[0], seeds, ' / '.join(scores), '']
            table = [*make_domain_rows(rows, work_dir), captions]
        else:
            table = [*make_rows(rows, work_dir), [*classify_captions(), '']]
        parts.append(f'## {name}\n\n{markdown_table(table)}\n')
        if name == 'levels':
            parts.append(read_weights(work_dir))
    text = 'Synthetic data: not results on real faces.\n\n' + '\n'.join(parts)
    write_text(work_dir / 'tables.md', text)
    return text


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Make the tables of FineCLIPER.')
    parser.add_argument(
        '--tables', nargs='+', choices=TABLES, default=list(TABLES), help='default: all'
    )
    parser.add_argument(
        '--jobs',
        type=int,
        default=count_cpus(),
        help='trainings that run at the same time and share the CPUs (default: %(default)s)',
    )
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/fine_cliper_tables'))
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is not finished, and print the tables."""
    args = parse_args(argv)
    rows = {row.name: row for name in args.tables for row in TABLES[name]}
    with resumable():
        failures = run_all(list(rows.values()), args.work_dir, args.jobs)
        print(make_tables(args.tables, args.work_dir))
    if failures:
        sys.exit('\n'.join(failures))


if __name__ == '__main__':
    main()
