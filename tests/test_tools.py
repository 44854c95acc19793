"""Test the command-line tools on short runs, and their flags against MMAction2's."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import runpy
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import mmengine
import pytest
import torch
import toy
from forked import run_forked
from mmengine.config import Config

import mmaction

import mmdfer
from mmdfer.cli import test, train
from mmdfer.cli.flags import read_run_config
from mmdfer.engine.runner.build import build_runner
from mmdfer.errors import DFERError, one_line_errors

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / 'tools'


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Restore the environment after each test, and let started processes import the toy."""
    monkeypatch.setenv('LOCAL_RANK', '0')
    folders = [str(ROOT), str(ROOT / 'tests'), os.environ.get('PYTHONPATH', '')]
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(folders))
    monkeypatch.setenv('PATH', str(Path(sys.executable).parent) + os.pathsep + os.environ['PATH'])
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    monkeypatch.chdir(tmp_path)  # runs write to the current folder


@pytest.fixture(scope='module')
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the toy's config in a folder with a space in its name."""
    path = tmp_path_factory.mktemp('a folder') / 'toy_run.py'
    path.write_text(toy.CONFIG.format(base=str(ROOT / 'configs/_base_/default_runtime.py')))
    return path


@pytest.fixture(scope='module')
def trained(config: Path) -> Path:
    """Train by tools/train.py and return the work directory."""
    work_dir = config.parent / 'trained'
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv('LOCAL_RANK', '0')
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
        _call(monkeypatch, 'train.py', config, '--work-dir', work_dir)
    return work_dir


def _call(monkeypatch: pytest.MonkeyPatch, tool: str, *arguments: object) -> None:
    """Run a tool in this process."""
    monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
    runpy.run_path(str(TOOLS / tool), run_name='__main__')


def _tested(work_dir: Path) -> dict[str, float]:
    """Read the metrics of the newest test in a work directory, as mmengine writes them."""
    found = [p for p in work_dir.glob('*/*.json') if p.name != 'confusion_matrix.json']
    return json.loads(max(found, key=lambda path: path.stat().st_mtime_ns).read_text())


def _losses(work_dir: Path) -> list[float]:
    """Read the logged training losses of a run."""
    lines = next(work_dir.glob('*/vis_data/scalars.json')).read_text().splitlines()
    return [row['loss'] for row in map(json.loads, lines) if 'loss' in row]


# ------------------------------------------------------------------ flags


@pytest.mark.parametrize('tool', ['train.py', 'test.py'])
def test_the_flags_are_mmaction2s(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = _parser(dict(train=train, test=test)[Path(tool).stem].parse_args, monkeypatch)
    theirs = runpy.run_path(str(Path(mmaction.__file__).parent / '.mim' / 'tools' / tool))
    theirs = _parser(theirs['parse_args'], monkeypatch)
    assert len(theirs) > 8
    assert {name: ours.get(name) for name in theirs} == theirs
    more = {'--shuffle-frames'} if tool == 'test.py' else {'--on', '--on-options'}
    assert set(ours) - set(theirs) == {'--bank', *more}


def _parser(parse: Callable, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple]:
    """Return the argparse settings of each flag and positional argument of a tool."""
    parsers = []
    with monkeypatch.context() as patch:
        patch.setattr(
            argparse.ArgumentParser,
            'parse_args',
            lambda self, *_: (
                parsers.append(self) or argparse.Namespace(local_rank=0, on=None, on_options=None)
            ),
        )
        parse()
    return {
        name: (type(a).__name__, a.dest, a.nargs, a.const, a.default, a.type or str, a.choices)
        for a in parsers[0]._actions
        for name in (a.option_strings or [a.dest])
    }


def _train_flags(config: Path, *flags: str, **settings: object) -> Config:
    """Return the toy's config after the flags of train.py are applied."""
    args = train.parse_args([str(config), *flags])
    cfg = read_run_config(args)
    cfg.merge_from_dict(settings)
    train.apply_flags(cfg, args)
    return cfg


def test_seed_flags_win_over_the_config(config: Path) -> None:
    given = _train_flags(config, '--seed', '3', '--deterministic').randomness
    assert given == dict(seed=3, diff_rank_seed=False, deterministic=True)
    default = _train_flags(config).randomness
    assert default == dict(seed=0, diff_rank_seed=False, deterministic=False)


def test_a_seed_of_zero_wins_too(config: Path) -> None:
    cfg = _train_flags(config, '--seed', '0', **{'randomness.seed': 5})
    assert cfg.randomness.seed == 0


def test_amp_on_the_cpu_takes_our_wrapper(config: Path) -> None:
    settings = {'optim_wrapper.type': 'AmpOptimWrapper', 'optim_wrapper.loss_scale': 'dynamic'}
    wrapper = _train_flags(config, '--amp', **settings).optim_wrapper
    assert wrapper.type == 'AutocastOptimWrapper' and 'loss_scale' not in wrapper
    with pytest.raises(DFERError, match='OtherWrapper'):
        _train_flags(config, '--amp', **{'optim_wrapper.type': 'OtherWrapper'})


def test_amp_on_a_gpu_is_bfloat16_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, 'get_device', lambda: 'cuda')
    for given, taken in (('OptimWrapper', 'Autocast'), ('AmpOptimWrapper', 'Amp')):
        cfg = Config(dict(optim_wrapper=dict(type=given)))
        train.use_amp(cfg)  # a config that names mmengine's wrapper (float16) keeps it
        assert cfg.optim_wrapper.type == f'{taken}OptimWrapper'


def test_other_train_flags(config: Path) -> None:
    cfg = _train_flags(
        config, '--no-validate', '--resume', '--cfg-options', 'train_cfg.max_epochs=5'
    )
    assert cfg.val_cfg is cfg.val_dataloader is cfg.val_evaluator is None
    assert cfg.resume is True and cfg.get('load_from') is None
    assert cfg.train_cfg.max_epochs == 5
    assert cfg.work_dir == os.path.join('work_dirs', 'toy_run')
    assert _train_flags(config, '--work-dir', 'here').work_dir == 'here'
    resumed = _train_flags(config, '--resume', str(config))  # any existing file
    assert resumed.resume is True and resumed.load_from == str(config)
    scaled = _train_flags(config, '--auto-scale-lr', auto_scale_lr=dict(base_batch_size=64))
    assert scaled.auto_scale_lr.enable is True


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ('tool', 'arguments', 'said'),
    [
        ('train.py', ['nowhere.py'], 'nowhere.py: no such config'),
        ('train.py', ['{config}', '--resume', 'gone.pth'], 'gone.pth: no such checkpoint'),
        ('train.py', ['{config}', '--cfg-options', 'load_from=gone.pth'], 'gone.pth: no such'),
        ('train.py', ['{config}', '--auto-scale-lr'], 'auto_scale_lr=dict'),
        ('test.py', ['nowhere.py', 'gone.pth'], 'nowhere.py: no such config'),
        ('test.py', ['{config}', 'gone.pth'], 'gone.pth: no such checkpoint'),
        ('test.py', ['{config}', '{config}', '--dump', 'out.txt'], 'must end in .pkl'),
        (
            'test.py',
            ['{config}', '{config}', '--shuffle-frames']
            + ['--cfg-options', 'test_dataloader.dataset.pipeline=[]'],
            'has no sampler',
        ),
        ('publish_model.py', ['gone.pth', 'out.pth'], 'gone.pth: no such checkpoint'),
    ],
)
def test_bad_input_ends_in_one_line(
    tool: str,
    arguments: list[str],
    said: str,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(SystemExit) as exit_:
        _call(monkeypatch, tool, *(a.format(config=config) for a in arguments))
    # sys.exit prints a text to stderr and sets the exit status to 1.
    assert exit_.value.code.startswith('error: ') and said in exit_.value.code
    assert '\n' not in exit_.value.code


def test_a_config_with_a_missing_base_ends_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'orphan.py').write_text("_base_ = ['gone.py']")
    with pytest.raises(SystemExit, match='(?s)orphan.py.*gone.py.*check its _base_'):
        _call(monkeypatch, 'train.py', 'orphan.py')


def test_the_status_is_1_and_the_line_on_stderr(tmp_path: Path) -> None:
    done = run_forked([TOOLS / 'train.py', 'nowhere.py'])
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        'error: nowhere.py: no such config; check the path, or look below '
    )
    assert 'Traceback' not in done.stderr


@pytest.mark.parametrize('workers', [0, 1])
def test_a_broken_clip_ends_in_one_line(
    workers: int, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ['train_dataloader.dataset.broken=3', f'train_dataloader.num_workers={workers}']
    with pytest.raises(SystemExit) as exit_:
        _call(monkeypatch, 'train.py', config, '--work-dir', 'broken', '--cfg-options', *options)
    assert exit_.value.code == 'error: clip3.mp4: cannot be read; restore the file'


def test_a_programming_error_keeps_its_traceback() -> None:
    with pytest.raises(ValueError, match='a bug'), one_line_errors():
        raise ValueError('a bug')


def test_among_several_ranks_the_line_names_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('WORLD_SIZE', '2')
    monkeypatch.setenv('RANK', '1')
    with pytest.raises(SystemExit, match=r'^error \(rank 1\): a line$'), one_line_errors():
        raise DFERError('a line')


# ------------------------------------------------------------------ training and testing


def test_clips_that_fill_no_batch_are_refused(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ['train_dataloader.batch_size=17', 'train_dataloader.drop_last=True']
    message = 'error: train_dataloader: 16 clips do not fill a batch of 17.*drop_last=False'
    with pytest.raises(SystemExit, match=message):
        _call(monkeypatch, 'train.py', config, '--work-dir', tmp_path, '--cfg-options', *options)


def test_training_keeps_the_best_and_writes_the_confusion_matrix(trained: Path) -> None:
    assert (trained / 'epoch_2.pth').is_file()
    assert len(list(trained.glob('best_WAR_epoch_*.pth'))) == 1
    assert len(list(trained.glob('*/confusion_matrix.png'))) == 1


def test_runs_begun_in_the_same_second_keep_their_figures_apart(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('time.time', lambda: 1.8e9)
    runners = []
    for name in ('a', 'b'):
        cfg = Config.fromfile(config)
        cfg.merge_from_dict(dict(launcher='none', work_dir=str(tmp_path / name)))
        runners.append(build_runner(cfg))
    folders = [runner.visualizer.get_backend('LocalVisBackend')._save_dir for runner in runners]
    assert [Path(folder).relative_to(tmp_path).parts[0] for folder in folders] == ['a', 'b']
    assert runners[0].message_hub is not runners[1].message_hub


def test_testing_gives_the_figures_of_validation(
    config: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _call(monkeypatch, 'test.py', config, trained / 'epoch_2.pth', '--work-dir', tmp_path / 'out')
    tested = _tested(tmp_path / 'out')
    lines = next(trained.glob('*/vis_data/scalars.json')).read_text().splitlines()
    validated = [json.loads(line) for line in lines if 'WAR' in line][-1]
    # Six of seven clips are right. The mislabelled clip rises, so three of the four clips with the
    # label "falling" are right.
    assert tested['WAR'] == validated['WAR'] == pytest.approx(600 / 7)
    assert tested['UAR'] == validated['UAR'] == pytest.approx(87.5)
    assert tested['recall/rising'] == 100 and tested['recall/falling'] == 75
    drawn = next((tmp_path / 'out').glob('*/confusion_matrix.csv')).with_suffix('.png')
    log = next((tmp_path / 'out').glob('*/*.log')).read_text()
    assert f'The confusion matrix is saved as {drawn}, .csv and .json' in log
    assert 'random order' not in log


@pytest.mark.parametrize('tool', ['train.py', 'test.py'])
def test_a_missing_dataset_is_refused_before_the_model_is_built(
    tool: str, trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr('mmdfer.models.FrozenCLIP.__init__', None)  # a call would fail
    config = str(ROOT / 'configs' / 'align_dfer_dfew.py')
    paths = [config] if tool == 'train.py' else [config, str(trained / 'epoch_2.pth')]
    with pytest.raises(SystemExit, match=r'DFEW: no such folder; give the folder'):
        _call(monkeypatch, tool, *paths, '--work-dir', tmp_path)


def test_shuffled_frames_take_away_what_order_gave(
    config: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arguments = [config, trained / 'epoch_2.pth', '--work-dir', tmp_path / 'out']
    more = ['--shuffle-frames', '--cfg-options', 'test_dataloader.dataset.length=41']
    _call(monkeypatch, 'test.py', *arguments, *more)
    assert _tested(tmp_path / 'out')['WAR'] < 80  # 98 with the frames in order
    log = next((tmp_path / 'out').glob('*/*.log')).read_text()
    assert 'in random order (--shuffle-frames)' in log


def test_frames_are_shuffled_behind_each_sampler() -> None:
    sampler, shuffle = dict(type='UniformSample'), dict(type='ShuffleFrames', seed=0)
    view = dict(type='View', transforms=[dict(type='DecordInit'), sampler, dict(type='Resize')])
    inner = dict(type='A', pipeline=[view, dict(type='Pack')])
    dataset = dict(type='Concat', datasets=[inner, dict(type='B', pipeline=[sampler])])
    assert test.shuffle_frames(dataset) == 2
    assert view['transforms'] == [
        dict(type='DecordInit'),
        sampler,
        shuffle,
        dict(type='Resize'),
    ]
    assert dataset['datasets'][1]['pipeline'] == [sampler, shuffle]


def test_dump_and_show(
    config: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    flags = ['--dump', 'predictions.pkl', '--show-dir', 'shown', '--interval', '3']
    checkpoint = trained / 'epoch_2.pth'
    _call(monkeypatch, 'test.py', config, checkpoint, '--work-dir', 'out', *flags)
    predictions = mmengine.load(tmp_path / 'predictions.pkl')
    assert [int(p['gt_label']) for p in predictions] == [1, 1, 0, 1, 0, 1, 0]
    shown = sorted(path.name for path in (tmp_path / 'shown').iterdir())
    assert shown == ['00000.png', '00003.png', '00006.png']
    rising, falling = (cv2.imread(str(tmp_path / 'shown' / f'{n}.png')) for n in ('00006', '00003'))
    middle = rising.shape[0] - rising.shape[0] // 3
    brightness = [image[middle, :, 0].astype(int) for image in (rising, falling)]
    inside = slice(rising.shape[1] // 10, -rising.shape[1] // 10)
    assert (brightness[0][inside][0] < brightness[0][inside][-1]) and (
        brightness[1][inside][0] > brightness[1][inside][-1]
    )  # eight frames side by side: rising gets brighter, falling gets darker


# ------------------------------------------------------------------ ranks on the CPU


def _free_port() -> str:
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return str(sock.getsockname()[1])


def _run(*command: object, **env: str) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, 'OMP_NUM_THREADS': '1', **env},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def test_two_ranks_train_what_one_does_and_count_each_clip_once(
    config: Path, trained: Path, tmp_path: Path
) -> None:
    options = ['--cfg-options', 'train_dataloader.batch_size=2']
    work_dir = tmp_path / 'two ranks'
    _run(TOOLS / 'dist_train.sh', config, 2, '--work-dir', work_dir, *options, PORT=_free_port())
    checkpoint = work_dir / 'epoch_2.pth'
    one, two = (
        mmdfer.compat.load_from_local(path)['state_dict']
        for path in (trained / 'epoch_2.pth', checkpoint)
    )
    assert all(torch.allclose(two[name], tensor, rtol=1e-5) for name, tensor in one.items())
    # The logged loss is the mean of both ranks, although rank 0 has only half of each batch.
    assert _losses(work_dir) == pytest.approx(_losses(trained), rel=1e-5)
    _run(
        TOOLS / 'dist_test.sh',
        config,
        checkpoint,
        2,
        '--work-dir',
        tmp_path / 'tested',
        PORT=_free_port(),
    )
    # The sampler repeats clip 0, which is mislabelled, for two ranks. Counted twice, the result
    # would be 6 of 8 instead of 6 of 7.
    matrix = json.loads(next((tmp_path / 'tested').glob('*/confusion_matrix.json')).read_text())
    assert matrix['confusion'] == [[3, 0], [1, 3]]
    assert _tested(tmp_path / 'tested')['WAR'] == pytest.approx(600 / 7)


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh'])
def test_a_taken_port_is_one_line(script: str) -> None:
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [TOOLS / script, 'config.py', 'epoch_1.pth', '2'],
            env={**os.environ, 'PORT': port},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr == (
        f'error: PORT={port} is used by another program; set PORT to another port\n'
    )


FAKE_SRUN = """#!/usr/bin/env bash
printf '%s\\n' "$@" > "$SRUN_LOG"
while [ $# -gt 0 ] && [ "$1" != python ]; do
    case "$1" in --ntasks=*) tasks="${1#*=}" ;; esac
    shift
done
export SLURM_NTASKS="$tasks" SLURM_NODELIST='node[1-1]'
for rank in $(seq 0 $((tasks - 1))); do
    SLURM_PROCID=$rank SLURM_LOCALID=$rank "$@" & pids="${pids:-} $!"
done
for pid in $pids; do wait "$pid" || exit 1; done
"""
FAKE_SCONTROL = '#!/usr/bin/env bash\n[ "$1 $2" = "show hostname" ] && echo 127.0.0.1\n'


@pytest.fixture
def slurm(tmp_path: Path) -> Callable[..., list[str]]:
    """Return a function that runs a command with a fake Slurm, and returns srun's arguments."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    for name, text in dict(srun=FAKE_SRUN, scontrol=FAKE_SCONTROL).items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    path = str(folder) + os.pathsep + os.environ['PATH']

    def run(*command: object, **env: str) -> list[str]:
        _run(*command, PATH=path, SRUN_LOG=str(tmp_path / 'log'), **env)
        return (tmp_path / 'log').read_text().splitlines()

    return run


def test_slurm_on_cpu_nodes(
    config: Path, trained: Path, tmp_path: Path, slurm: Callable[..., list[str]]
) -> None:
    checkpoint = trained / 'epoch_2.pth'
    given = slurm(
        TOOLS / 'slurm_test.sh',
        'cpu part',
        'a job',
        config,
        checkpoint,
        '--work-dir',
        tmp_path / 'by slurm',
        GPUS='2',
        GPUS_PER_NODE='0',
        CPUS_PER_TASK='1',
        SRUN_ARGS='--quiet --time=10',
        MASTER_PORT=_free_port(),
    )
    assert given[: given.index('python')] == [
        *('-p', 'cpu part', '--job-name=a job', '--ntasks=2', '--cpus-per-task=1'),
        *('--kill-on-bad-exit=1', '--quiet', '--time=10'),
    ]
    assert _tested(tmp_path / 'by slurm')['WAR'] == pytest.approx(600 / 7)


def test_slurm_asks_for_gpus(tmp_path: Path) -> None:
    (tmp_path / 'srun').write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n')
    (tmp_path / 'srun').chmod(0o755)
    path = str(tmp_path) + os.pathsep + os.environ['PATH']
    train = _run(TOOLS / 'slurm_train.sh', 'gpu', 'job', 'a b.py', '--seed', 3, PATH=path)
    assert train.stdout.splitlines() == [
        *('-p', 'gpu', '--job-name=job', '--ntasks=8', '--cpus-per-task=5'),
        *('--kill-on-bad-exit=1', '--gres=gpu:8', '--ntasks-per-node=8'),
        *('python', '-u', str(TOOLS / 'train.py'), 'a b.py', '--launcher', 'slurm', '--seed', '3'),
    ]


@pytest.mark.parametrize('script', ['slurm_train.sh', 'slurm_test.sh'])
def test_each_variable_of_the_slurm_scripts_is_documented_with_its_default(script: str) -> None:
    table = dict(
        re.findall(r'^\| `(\w+)` \| (.*?) \|', (ROOT / 'docs/clusters.md').read_text(), re.M)
    )
    used = dict(re.findall(r'\$\{(\w+):-(\d*)', (TOOLS / script).read_text()))
    # The variables and defaults of MMAction2, whose scripts have no variable for the port.
    theirs = (Path(mmaction.__file__).parent / '.mim' / 'tools' / script).read_text()
    wanted = dict(re.findall(r'^(\w+)=\$\{\1:-"?(\d*)', theirs, re.M))
    assert len(wanted) == 4 and wanted.items() <= used.items()
    for name, default in {**wanted, 'MASTER_PORT': ''}.items():
        assert name in used and table[name] == (default or table[name])


def test_the_docs_say_what_preemption_costs_and_how_to_go_on() -> None:
    text = ' '.join((ROOT / 'docs/clusters.md').read_text().split())
    assert 'unit of training is the epoch' in text and 'no signal triggers another' in text
    assert re.search(r'sbatch --requeue .*slurm_train\.sh .*--resume --bank', text)
    assert 'GPUS=2 GPUS_PER_NODE=0 CPUS_PER_TASK=1 bash tools/slurm_train.sh' in text
    assert 'docs/clusters.md' in (ROOT / 'README.md').read_text()


@pytest.mark.parametrize('script', sorted(path.name for path in TOOLS.glob('*.sh')))
def test_a_script_without_arguments_says_how_to_call_it(script: str) -> None:
    done = subprocess.run([TOOLS / script], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith('usage: ')


# ------------------------------------------------------------------ publishing


def test_a_published_checkpoint_is_small_named_by_its_digest_and_tests_the_same(
    config: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = trained / 'epoch_2.pth'
    _call(monkeypatch, 'publish_model.py', source, tmp_path / 'to' / 'toy.pth')
    (path,) = (tmp_path / 'to').iterdir()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert re.fullmatch(rf'toy_\d{{8}}-{digest[:8]}\.pth', path.name)
    published = torch.load(path, weights_only=True)  # needs no safe globals
    assert set(published) == {'meta', 'state_dict'}
    assert published['meta']['mmdfer_version'] == mmdfer.__version__
    assert tuple(published['meta']['dataset_meta']['classes']) == ('rising', 'falling')
    assert 'ToyModel' in published['meta']['config_text']
    trained_state = mmdfer.compat.load_from_local(source)['state_dict']
    assert set(published['state_dict']) == set(trained_state)
    assert all(torch.equal(published['state_dict'][k], v) for k, v in trained_state.items())
    _call(monkeypatch, 'test.py', config, path, '--work-dir', 'out')
    assert _tested(tmp_path / 'out')['WAR'] == pytest.approx(600 / 7)


class Reach:
    """Pickle as a call of eval."""

    def __reduce__(self) -> tuple:
        return eval, ('open("executed", "w").close()',)


def test_a_checkpoint_that_reaches_for_eval_is_refused_and_not_executed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.save(dict(state_dict={}, meta=dict(epoch=Reach())), tmp_path / 'evil.pth')
    with pytest.raises(SystemExit, match='error: evil.pth: refused to load .* names .*eval'):
        _call(monkeypatch, 'publish_model.py', 'evil.pth', 'out.pth')
    assert not (tmp_path / 'executed').exists() and not list(tmp_path.glob('out*'))


def test_only_a_checkpoint_is_published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.save(dict(weight=torch.zeros(1)), tmp_path / 'bare.pth')
    with pytest.raises(SystemExit, match='bare.pth: .*has no state_dict'):
        _call(monkeypatch, 'publish_model.py', 'bare.pth', 'out.pth')
