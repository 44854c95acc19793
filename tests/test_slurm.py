"""Test the Slurm scripts with a real Slurm of one node, which the tests start and stop."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import toy

from mmdfer.compat import load_from_local

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / 'tools'
DAEMONS = ('munged', 'slurmctld', 'slurmd')
CLIENTS = ('sbatch', 'scancel', 'scontrol', 'sinfo', 'squeue', 'srun')
SBIN = os.pathsep.join([os.environ.get('PATH', ''), '/usr/sbin', '/sbin'])
TWO_CPU_RANKS = dict(GPUS='2', GPUS_PER_NODE='0', CPUS_PER_TASK='1')

CONF = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
KillWait=1
SchedulerParameters=batch_sched_delay=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=cpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def _why_not() -> str | None:
    """Return why Slurm cannot be started here, or None if it can."""
    missing = [name for name in (*DAEMONS, *CLIENTS) if shutil.which(name, path=SBIN) is None]
    if missing:
        return f'{", ".join(missing)} not found: apt-get install slurm-wlm munge'
    if os.geteuid() != 0:
        return 'the Slurm daemons are started as root'
    return None


pytestmark = pytest.mark.skipif(_why_not() is not None, reason=_why_not() or 'Slurm starts')


def _free_ports(count: int) -> list[int]:
    """Return different ports that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind(('127.0.0.1', 0))
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


class Cluster:
    """Run a Slurm cluster of one node with four CPUs and no GPU.

    Args:
        folder: An empty folder for the configuration, the state and the logs.

    Attributes:
        env: The environment in which Slurm's commands find this cluster.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith('SLURM')},
            'PATH': os.pathsep.join([str(Path(sys.executable).parent), SBIN]),
            'PYTHONPATH': os.pathsep.join([str(ROOT), str(ROOT / 'tests')]),
            'SLURM_CONF': str(folder / 'slurm.conf'),
            'OMP_NUM_THREADS': '1',
            'CUDA_VISIBLE_DEVICES': '',
        }
        self._daemons: list[subprocess.Popen] = []

    def start(self) -> None:
        """Start the daemons and wait until the node is idle."""
        host, (ctld, slurmd) = socket.gethostname().split('.')[0], _free_ports(2)
        text = CONF.format(host=host, folder=self.folder, ctld_port=ctld, slurmd_port=slurmd)
        (self.folder / 'slurm.conf').write_text(text)
        for name in ('state', 'spool'):
            (self.folder / name).mkdir()
        key = self.folder / 'munge.key'
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        munge = {'key-file': key, 'socket': 'munge.socket', 'pid-file': 'munge.pid'}
        munge.update({'log-file': 'munged.log', 'seed-file': 'munge.seed'})
        options = [f'--{name}={self.folder / value}' for name, value in munge.items()]
        self._start('munged', '--foreground', '--force', *options)
        self._start('slurmctld', '-D', '-f', self.env['SLURM_CONF'])
        self._start('slurmd', '-D', '-f', self.env['SLURM_CONF'], '-N', host)
        self._wait(('sinfo', '--noheader', '--format=%t'), until='idle', seconds=30)

    def _start(self, *command: str) -> None:
        with (self.folder / f'{command[0]}.out').open('wb') as out:
            # A killed test process must not leave daemons behind.
            bound = ['setpriv', '--pdeathsig', 'TERM'] if shutil.which('setpriv') else []
            self._daemons.append(
                subprocess.Popen(
                    [*bound, *command], env=self.env, stdout=out, stderr=subprocess.STDOUT
                )
            )

    def stop(self) -> None:
        """Cancel all jobs, then stop the daemons in reverse order."""
        if len(self._daemons) == len(DAEMONS) and self._daemons[1].poll() is None:
            subprocess.run(['scancel', '--user=root'], env=self.env, timeout=20)
            self._wait(('squeue', '--noheader'), until='', seconds=20)
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in reversed(self._daemons):
            try:
                daemon.wait(timeout=10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def _wait(self, command: tuple[str, ...], until: str, seconds: float) -> None:
        """Wait until a Slurm command prints this text; after the time limit, fail with the logs."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            done = subprocess.run(command, env=self.env, capture_output=True, text=True)
            if done.returncode == 0 and done.stdout.strip() == until:
                return
            time.sleep(0.1)
        logs = [f'{p.name}: {p.read_text()[-1000:]}' for p in sorted(self.folder.glob('*.out'))]
        pytest.fail('\n'.join([f'{" ".join(command)} never printed {until!r}', *logs]))

    def run(self, *command: object, cwd: Path, **env: str) -> subprocess.CompletedProcess:
        """Run a command in the environment of this cluster, and wait for its end."""
        return subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            timeout=240,
        )

    def submit(self, *command: object, cwd: Path, **env: str) -> tuple[int, str]:
        """Submit a script with 2 tasks, and return its status and what it printed."""
        options = ('--parsable', '--partition=cpu', '--ntasks=2', '--output=job.out')
        submitted = self.run('sbatch', *options, *command, cwd=cwd, **env)
        assert submitted.returncode == 0, submitted.stderr
        job = submitted.stdout.strip()
        # sbatch --wait is slower, since it checks only every ten seconds.
        self._wait(('squeue', '--noheader', f'--jobs={job}'), until='', seconds=240)
        record = self.run('scontrol', '--oneliner', 'show', 'job', job, cwd=cwd).stdout
        status = int(re.search(r' ExitCode=(\d+):', record)[1])
        return status, (cwd / 'job.out').read_text()


@pytest.fixture(scope='module')
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start a cluster, and stop it after the tests of this module."""
    cluster = Cluster(tmp_path_factory.mktemp('slurm'))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope='module')
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the config of a short run, in a folder with a space in its name."""
    path = tmp_path_factory.mktemp('a folder') / 'toy_run.py'
    path.write_text(toy.CONFIG.format(base=str(ROOT / 'configs/_base_/default_runtime.py')))
    return path


@pytest.fixture(scope='module')
def submitted(cluster: Cluster, config: Path) -> Path:
    """Submit a training on two CPU ranks from another folder, and return the work directory."""
    work_dir = config.parent / 'submitted'
    arguments = (TOOLS / 'slurm_train.sh', 'cpu', 'a job', config, '--work-dir', work_dir)
    epochs = ('--cfg-options', 'train_cfg.max_epochs=1')
    status, printed = cluster.submit(*arguments, *epochs, cwd=config.parent, **TWO_CPU_RANKS)
    assert status == 0, printed
    return work_dir


def test_a_submitted_training_runs_on_two_ranks(submitted: Path) -> None:
    checkpoint = load_from_local(submitted / 'epoch_1.pth')
    # 16 clips in batches of 4: two ranks share them in 2 steps, and one rank takes 4.
    assert checkpoint['meta']['iter'] == 2
    assert list(submitted.glob('*/confusion_matrix.png'))


def test_testing_called_directly_runs_on_two_ranks(
    cluster: Cluster, config: Path, submitted: Path, tmp_path: Path
) -> None:
    done = cluster.run(
        *('bash', TOOLS / 'slurm_test.sh', 'cpu', 'a job', config, submitted / 'epoch_1.pth'),
        *('--work-dir', tmp_path / 'tested'),
        cwd=tmp_path,
        **TWO_CPU_RANKS,
        SRUN_ARGS='--quiet --time=5',
    )
    assert done.returncode == 0, done.stderr
    # The sampler repeats one of the seven clips for two ranks, but the clip counts once.
    (matrix,) = (tmp_path / 'tested').glob('*/confusion_matrix.json')
    assert sum(map(sum, json.loads(matrix.read_text())['confusion'])) == 7


# ------------------------------------------------------------------ which train.py is run

ARGUMENTS = {
    'train': ('cpu', 'job', 'my config.py', '-x'),
    'test': ('cpu', 'job', 'my config.py', 'a checkpoint.pth', '-x'),
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Write a folder with the Slurm scripts, and a train.py and test.py that print arguments."""
    tools = tmp_path / 'a project' / 'tools'
    tools.mkdir(parents=True)
    for verb in ARGUMENTS:
        shutil.copy(TOOLS / f'slurm_{verb}.sh', tools)
        (tools / f'{verb}.py').write_text('import sys\nprint(sys.argv)\n')
    return tools.parent


def _printed(project: Path, verb: str) -> list[str]:
    """Return what two ranks of the fixture's train.py or test.py print."""
    *given, flag = ARGUMENTS[verb][2:]
    path = str(project / 'tools' / f'{verb}.py')
    return 2 * [str([path, *given, '--launcher', 'slurm', flag])]


@pytest.mark.parametrize('verb', ['train', 'test'])
@pytest.mark.parametrize('place', ['the project', 'elsewhere', 'under another name'])
def test_the_tool_is_found_from_where_the_script_is_submitted(
    place: str, verb: str, cluster: Cluster, project: Path
) -> None:
    script, cwd = f'tools/slurm_{verb}.sh', project
    if place == 'elsewhere':
        script, cwd = f'{project.name}/{script}', project.parent
    if place == 'under another name':  # then the job's record does not name slurm_train.sh
        shutil.copy(project / script, project / 'mine.sh')
        script = 'mine.sh'
    status, printed = cluster.submit(script, *ARGUMENTS[verb], cwd=cwd, **TWO_CPU_RANKS)
    assert status == 0, printed
    assert printed.splitlines() == _printed(project, verb)


def test_training_called_directly_allocates(cluster: Cluster, project: Path) -> None:
    command = ('bash', 'tools/slurm_train.sh', *ARGUMENTS['train'])
    done = cluster.run(*command, cwd=project, **TWO_CPU_RANKS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == _printed(project, 'train')


def test_a_script_without_its_tool_says_where_to_submit_from(
    cluster: Cluster, project: Path
) -> None:
    (project / 'tools' / 'train.py').unlink()
    script = ('tools/slurm_train.sh', *ARGUMENTS['train'])
    status, printed = cluster.submit(*script, cwd=project, **TWO_CPU_RANKS)
    assert status == 1
    assert printed.strip() == (
        f'error: {project}/tools/train.py does not exist; '
        'submit from the folder that contains tools/'
    )
