"""Test cross-validation: its figures, and which folds it runs, skips, repeats and gives up."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import toy

from mmdfer import DFERError
from mmdfer.cli import cross_validate as command_line
from mmdfer.cli.main import main as mmdfer_main
from mmdfer.evaluation.report import Fold, Score, read_fold, synthetic_note
from mmdfer.experiments import cross_validation, runs
from mmdfer.experiments.cross_validation_tables import draw, heading, mean_label, save_tables

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / 'tools'
TREE = 'synthetic tree like TOY'

# ------------------------------------------------------------------ figures, worked by hand


def _score(epoch: int, war: float, uar: float, confusion: list | None) -> Score:
    return Score(epoch, war, uar, None if confusion is None else np.array(confusion))


def _folds(dataset: str = 'DFEW', **second: object) -> list[Fold]:
    """Return the results of two folds, of 12 and of 8 clips."""
    classes = ('happy', 'sad')
    one = Fold(
        1,
        dataset,
        classes,
        last=_score(3, 75, 65, [[8, 2], [1, 1]]),  # 9 of 12 are right; recalls 80 % and 50 %
        best=_score(1, 250 / 3, 70, [[9, 1], [1, 1]]),  # 10 of 12; recalls 90 % and 50 %
    )
    two = Fold(
        2,
        dataset,
        classes,
        last=_score(3, 87.5, 87.5, [[3, 1], [0, 4]]),  # 7 of 8; recalls 75 % and 100 %
        best=_score(2, 100, 100, [[4, 0], [0, 4]]),
    )
    return [one, replace(two, **second)]


def test_mean_deviation_and_pooled_are_those_worked_by_hand(tmp_path: Path) -> None:
    text = save_tables(_folds(), 'toy', tmp_path)
    with (tmp_path / 'cross_validation.csv').open(newline='') as file:
        head, *rows = csv.reader(file)
    assert head == ['', 'WAR, last', 'UAR, last', 'WAR, best', 'UAR, best', 'best epoch']
    assert rows == [
        ['fold 1', '75.0000', '65.0000', '83.3333', '70.0000', '1'],
        ['fold 2', '87.5000', '87.5000', '100.0000', '100.0000', '2'],
        [
            "mean of 2 folds, not the protocol's figure",
            '81.2500',
            '76.2500',
            '91.6667',
            '85.0000',
            '',
        ],
        # The deviation of two values is their difference divided by the square root of 2.
        [
            'standard deviation over folds (n - 1)',
            *('8.8388', '15.9099', '11.7851', '21.2132', ''),
        ],
        # [[11, 3], [1, 5]]: 16 of 20, 11 of 14 and 5 of 6; [[13, 1], [1, 5]]: 18, 13 and 5.
        [
            'pooled: one confusion matrix of all folds',
            *('80.0000', '80.9524', '90.0000', '88.0952', ''),
        ],
    ]
    numbers = json.loads((tmp_path / 'cross_validation.json').read_text())
    assert numbers['pooled']['last']['confusion'] == [[11, 3], [1, 5]]
    assert numbers['pooled']['best']['confusion'] == [[13, 1], [1, 5]]
    assert numbers['pooled']['best']['recalls'] == pytest.approx(dict(happy=1300 / 14, sad=500 / 6))
    assert numbers['mean']['best']['WAR'] == pytest.approx(275 / 3)
    assert numbers['folds']['1']['last']['confusion'] == [[8, 2], [1, 1]]
    assert (tmp_path / 'cross_validation.txt').read_text() == text + '\n'
    markdown = ' '.join((tmp_path / 'cross_validation.md').read_text().split())
    assert "| **mean of 2 folds, not the protocol's figure** | **81.25** | **76.25** |" in markdown
    assert 'folds 1 2, in percent; last: epoch 3' in text and 'toy on DFEW' in text
    picture = cv2.imread(str(tmp_path / 'cross_validation.png'))
    assert picture.shape[0] > 500 and picture.std() > 10  # drawn, not blank


def test_only_all_five_folds_make_the_protocols_figure() -> None:
    folds = [_folds(number=number)[1] for number in (1, 2, 3, 4, 5)]
    assert mean_label(folds) == "mean of 5 folds, the protocol's figure"
    assert mean_label(folds[:4]) == "mean of 4 folds, not the protocol's figure"
    assert mean_label(folds[1:2]) == "mean of 1 fold, not the protocol's figure"


def test_missing_results_of_a_fold_are_not_replaced_by_the_mean_of_the_others(
    tmp_path: Path,
) -> None:
    figures = save_tables(_folds(best=None), 'toy', tmp_path).splitlines()
    assert figures[-4].split() == ['fold', '2', '87.50', '87.50', '-', '-']
    assert figures[-3].split()[-4:] == ['81.25', '76.25', '-', '-']
    assert figures[-1].split()[-4:] == ['80.00', '80.95', '-', '-']
    without = save_tables(_folds(last=_score(3, 87.5, 87.5, None)), 'toy', tmp_path).splitlines()
    assert without[-3].split()[-4:] == ['81.25', '76.25', '91.67', '85.00']
    assert without[-1].split()[-4:] == ['-', '-', '90.00', '88.10']


@pytest.mark.parametrize('dataset', [TREE, 'TOY (synthetic)', 'Synthetic TOY'])
def test_synthetic_figures_are_marked_in_every_file(dataset: str, tmp_path: Path) -> None:
    note = 'synthetic data: not results on TOY'
    assert synthetic_note(dataset) == note
    folds = _folds(dataset)
    if dataset == TREE:
        save_tables(folds, 'toy', tmp_path)
        for suffix in ('txt', 'md', 'json'):
            assert note in (tmp_path / f'cross_validation.{suffix}').read_text()
        rows = (tmp_path / 'cross_validation.csv').read_text().splitlines()
        assert len(rows) == 6 and all(row.endswith(note) for row in rows[1:])
        assert draw(folds, heading(folds, 'toy')).subfigs[0].get_suptitle().startswith(note)
    assert synthetic_note('DFEW') == synthetic_note(None) == ''


@pytest.mark.parametrize(
    'other',
    [dict(dataset='MAFW'), dict(classes=('sad', 'happy')), dict(last=_score(4, 1, 1, None))],
)
def test_folds_that_are_not_alike_make_no_table(other: dict, tmp_path: Path) -> None:
    one, two = _folds()
    with pytest.raises(DFERError, match='fold 2 has .*, but fold 1 has .*cannot share a table'):
        save_tables([one, replace(two, **other)], 'toy', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    'text',
    [
        '',
        '{"last epoch (2)": {"WAR": 1, "UAR": 1}}',
        '{"classes": ["a", "b"], "last": null, "best": null}',
        '{"classes": ["a"], "last": {"epoch": 1, "WAR": 1, "UAR": 1, "confusion": [[1, 0]]},'
        ' "best": null}',
    ],
)
def test_an_incomplete_report_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / 'report.json').write_text(text)
    with pytest.raises(DFERError, match='report.json: the report is incomplete'):
        read_fold(tmp_path / 'report.json')


# ------------------------------------------------------------------ running


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv('LOCAL_RANK', '0')
    folders = [str(ROOT), str(ROOT / 'tests'), os.environ.get('PYTHONPATH', '')]
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(folders))
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    monkeypatch.delenv('GPUS_PER_NODE', raising=False)
    monkeypatch.chdir(tmp_path)
    base = str(ROOT / 'configs/_base_/default_runtime.py')
    text = toy.CONFIG.format(base=base).replace("'ToyClips',", "'ToyClips', fold=1,")
    named = text.replace('test_mode=True,', f'test_mode=True, metainfo=dict(dataset={TREE!r}),')
    Path('toy folds.py').write_text(named)
    Path('one_split.py').write_text(toy.CONFIG.format(base=base))


@pytest.fixture
def cross_validate(monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    """Return a function that runs the command in this process.

    The function returns the exit status and the commands that were started.
    """

    def call(*arguments: str, run: Callable[[list[str]], int] = _train_here) -> tuple:
        ran = []
        monkeypatch.setattr(cross_validation, 'run_command', lambda c: ran.append(c) or run(c))
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as exit_:
            command_line.main(arguments)
        signal.signal(signal.SIGTERM, before)
        return exit_.value.code, ran

    return call


def _train_here(command: list[str]) -> int:
    """Run a command of `mmdfer train` in this process."""
    assert command[:4] == [sys.executable, '-m', 'mmdfer', 'train']
    try:
        mmdfer_main(command[3:])
    except SystemExit as exit_:
        print(exit_.code, file=sys.stderr)
        return 1
    return 0


def _times(folder: str, name: str = '*') -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in Path(folder).rglob(name) if p.is_file()}


TWO = ('toy folds.py', '--work-dir', 'out', '--folds', '1', '2')


def test_folds_are_run_skipped_and_redone_each_by_itself(cross_validate: Callable) -> None:
    status, ran = cross_validate(*TWO)
    assert status == 0 and len(ran) == 2
    text = Path('out/cross_validation.txt').read_text()
    # One of the test clips of fold 1 (0 to 6) is mislabelled, and none of fold 2 (1 to 7).
    rows = [line.split() for line in text.splitlines()]
    assert rows[0] == ['synthetic', 'data:', 'not', 'results', 'on', 'TOY']
    assert rows[-5][:4] == ['fold', '1', '85.71', '87.50']
    assert rows[-4][:4] == ['fold', '2', '100.00', '100.00']
    assert rows[-3][-4:-2] == ['92.86', '93.75']
    assert rows[-1][-4:-2] == ['92.86', '93.75']  # [[6, 0], [1, 7]]
    numbers = json.loads(Path('out/cross_validation.json').read_text())
    assert numbers['pooled']['last']['confusion'] == [[6, 0], [1, 7]]
    report = json.loads(Path('out/fold_1/report.json').read_text())
    assert report['classes'] == ['rising', 'falling'] and report['dataset'] == TREE
    assert report['last']['epoch'] == 2 and report['last']['recalls']['falling'] == 75
    assert report['last epoch (2)']['WAR'] == report['last']['WAR']

    assert cross_validate(*TWO) == (0, [])  # nothing to do
    assert Path('out/cross_validation.txt').read_text() == text

    shutil.rmtree('out/fold_2')
    others = _times('out/fold_1')
    status, ran = cross_validate('toy folds.py', '--work-dir', 'out', '--folds', '2')
    assert status == 0 and [shlex.join(c).count('fold_2') for c in ran] == [1]
    assert _times('out/fold_1') == others
    assert Path('out/cross_validation.txt').read_text() == text  # has both folds again

    # A fold that lacks only its report is not trained again.
    Path('out/fold_1/report.json').unlink()
    checkpoints = _times('out/fold_1', '*.pth')
    status, ran = cross_validate(*TWO)
    assert status == 0 and [shlex.join(c).count('fold_1') for c in ran] == [1]
    assert len(checkpoints) == 3 and _times('out/fold_1', '*.pth') == checkpoints
    assert json.loads(Path('out/fold_1/report.json').read_text()) == report


def test_a_report_is_rebuilt_from_what_is_left_of_the_history(cross_validate: Callable) -> None:
    arguments = ('toy folds.py', '--work-dir', 'out', '--folds', '1')
    assert cross_validate(*arguments)[0] == 0
    fold = Path('out/fold_1')
    report = json.loads((fold / 'report.json').read_text())
    assert report['best']['epoch'] == 1  # the second epoch is equally good
    history = json.loads((fold / 'history.json').read_text())

    history.pop('confusion')  # as an older version wrote it
    (fold / 'history.json').write_text(json.dumps(history))
    (fold / 'report.json').write_text('{')
    assert cross_validate(*arguments)[0] == 0
    old = json.loads((fold / 'report.json').read_text())
    assert old['last'] == report['last']
    assert old['best'] == {**report['best'], 'confusion': None}

    (fold / 'history.json').unlink()
    (fold / 'report.json').unlink()
    assert cross_validate(*arguments)[0] == 0
    validated = json.loads((fold / 'report.json').read_text())
    assert validated['last'] == report['last']
    assert validated['best'] is None  # the best checkpoint is of epoch 1, not the last


def test_a_fold_that_fails_leaves_the_others_and_says_how_to_resume(
    cross_validate: Callable, capfd: pytest.CaptureFixture
) -> None:
    dataset = 'train_dataloader.dataset'
    broken = [f'{dataset}.broken=3', f'{dataset}.broken_fold=1']
    status, ran = cross_validate(*TWO, '--cfg-options', *broken)
    assert status == 1 and len(ran) == 2  # fold 2 ran after the failure of fold 1
    assert read_fold('out/fold_2/report.json').last.war == 100
    out, err = capfd.readouterr()
    assert "mean of 1 fold, not the protocol's figure" in out and 'fold 2, in percent' in out
    assert 'error: clip3.mp4: cannot be read' in err
    *_, said, command = err.splitlines()
    assert said == 'fold 1 failed (exit status 1); resume it with'
    assert shlex.split(command) == ran[0]
    assert ran[0][4:8] == ['toy folds.py', '--resume', '--work-dir', 'out/fold_1']
    # Fold 1 was not trained yet, so it may have other settings. Fold 2 would mix two settings.
    others = _times('out/fold_2')
    status, ran = cross_validate(*TWO)
    assert status.startswith('error: out/fold_2: the fold was started with other settings')
    assert f'{dataset}.broken was 3, is now not set and 1 more' in status
    assert ran == [] and _times('out/fold_2') == others
    longer = ['train_dataloader.num_workers=1', 'train_cfg.max_epochs=3']
    status, ran = cross_validate(*TWO, '--cfg-options', *broken, *longer)
    assert 'train_cfg.max_epochs was 2, is now 3)' in status and ran == []
    Path('out/fold_2/settings.json').unlink()  # as if train.py had been started by hand
    status, ran = cross_validate(*TWO, '--cfg-options', 'train_cfg.max_epochs=1')
    assert 'the report is of epoch 2, but the config ends with epoch 1' in status and ran == []


def test_a_fold_that_stops_early_is_done(cross_validate: Callable) -> None:
    Path('early.py').write_text(
        Path('toy folds.py').read_text()
        + "custom_hooks = [dict(type='EarlyStoppingHook', monitor='WAR', patience=1)]\n"
        + "optim_wrapper['optimizer']['lr'] = 0.0\ntrain_cfg['max_epochs'] = 5\n"
    )
    flags = ('early.py', '--work-dir', 'out', '--folds', '1')
    status, ran = cross_validate(*flags)
    assert status == 0 and len(ran) == 1
    assert json.loads(Path('out/fold_1/report.json').read_text())['last']['epoch'] == 2
    assert 'last: epoch 2, stopped early' in Path('out/cross_validation.txt').read_text()
    assert cross_validate(*flags) == (0, [])


def test_in_a_process_of_its_own(cross_validate: Callable) -> None:
    status, _ = cross_validate(
        'toy folds.py', '--work-dir', 'o ut', '--folds', '3', run=runs.run_command
    )
    assert status == 0
    assert read_fold('o ut/fold_3/report.json').last.confusion.tolist() == [[4, 0], [0, 3]]


@pytest.fixture
def _ctrl_c_interrupts() -> Iterator[None]:
    """Handle Ctrl-C as at a terminal, also in a background shell where it is ignored (nohup)."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures('_ctrl_c_interrupts')
def test_ctrl_c_ends_the_child_too(cross_validate: Callable, capfd) -> None:
    sleep = 'import os, time; open("pid", "w").write(str(os.getpid())); time.sleep(600)'
    run, pid = runs.run_command, Path('pid')

    def interrupted(command: list[str]) -> int:
        def interrupt() -> None:
            while not (pid.is_file() and pid.read_text()):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt).start()
        return run([sys.executable, '-c', sleep])

    status, ran = cross_validate(*TWO, run=interrupted)
    assert status == 130 and len(ran) == 1
    said = capfd.readouterr().err.splitlines()[-1]
    assert said == 'Interrupted. Run the same command again to continue.'
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['nowhere.py'], 'nowhere.py: no such config'),
        (['one_split.py'], 'one_split.py: no dataset has a fold, .* use tools/train.py'),
        (['toy folds.py', '--launcher', 'pytorch'], 'Add --gpus N'),
        (['toy folds.py', '--launcher', 'slurm'], 'Add --partition NAME'),
        (['toy folds.py', '--folds', '0'], '--folds must be 1 or greater, got 0'),
        (['toy folds.py', '--cfg-options', 'default_hooks.report=None'], 'would write no report'),
        (
            ['one_split.py', '--cfg-options', 'train_dataloader.dataset.fold=1'],
            'val_dataloader.dataset has no fold',
        ),
    ],
)
def test_bad_input_ends_in_one_line_before_anything_runs(
    arguments: list[str], said: str, cross_validate: Callable
) -> None:
    status, ran = cross_validate(*arguments)
    assert status.startswith('error: ') and '\n' not in status and ran == []
    with pytest.raises(DFERError, match=said):
        raise DFERError(status)


def test_every_fold_key_is_written_also_in_wrapped_datasets(cross_validate: Callable) -> None:
    inner = "dict(type='A',fold=1)"
    wrapped = f"train_dataloader.dataset=dict(type='R',dataset=dict(datasets=[{inner},{inner}]))"
    Path('wrapped.py').write_text(
        Path('toy folds.py').read_text()
        + f"train_dataloader['dataset'] = {wrapped.partition('=')[2]}\n"
        + "load_from = 'start.pth'\n"
    )
    _, ran = cross_validate('wrapped.py', '--folds', '4', '--seed', '0', run=lambda _: 1)
    loaders = ('train_dataloader.dataset.dataset.datasets', 'val_dataloader', 'test_dataloader')
    assert ran[0][4:] == [
        # Without --resume, which would remove `load_from` where there is no checkpoint yet.
        *('wrapped.py', '--seed', '0', '--work-dir', 'work_dirs/wrapped/fold_4', '--cfg-options'),
        *(f'{loaders[0]}.{i}.fold=4' for i in (0, 1)),
        *(f'{loader}.dataset.fold=4' for loader in loaders[1:]),
    ]


def test_the_launchers_scripts_get_their_arguments_in_order(
    cross_validate: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ('srun', 'python'):
        (tmp_path / name).write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path) + os.pathsep + os.environ['PATH'])
    flags = ('toy folds.py', '--folds', '2', '--work-dir', 'out', '--amp', '--gpus', '4')
    _, (torch,) = cross_validate(*flags, '--launcher', 'pytorch', run=lambda _: 1)
    _, (slurm,) = cross_validate(
        *flags, '--launcher', 'slurm', '--partition', 'gpu', run=lambda _: 1
    )
    torch, slurm = (
        subprocess.run(c, capture_output=True, text=True, check=True).stdout.splitlines()
        for c in (torch, slurm)
    )
    rest = ['--resume', '--amp', '--work-dir', 'out/fold_2', '--cfg-options']
    rest += [f'{loader}_dataloader.dataset.fold=2' for loader in ('train', 'val', 'test')]
    train = str(TOOLS / 'train.py')
    assert '--nproc_per_node=4' in torch and torch[:2] == ['-m', 'torch.distributed.run']
    begin = [Path(word).resolve() for word in torch].index(Path(train))
    assert torch[begin + 1 :] == ['toy folds.py', '--launcher', 'pytorch', *rest]
    assert slurm[:4] == ['-p', 'gpu', '--job-name=toy folds_fold_2', '--ntasks=4']
    assert '--gres=gpu:4' in slurm
    assert slurm[-len(rest) - 3 :] == ['toy folds.py', '--launcher', 'slurm', *rest]
