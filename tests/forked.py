"""Run scripts in processes that have torch, MMAction2 and mmdfer imported already.

A new interpreter imports them for 5 to 8 seconds. These processes are forks of one that has
imported them, and has done nothing else. Use a new interpreter (`subprocess`) where a test is about
what a script imports, about variables that libraries read when they are imported, or about signals.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

_context = get_context('forkserver')
_context.set_forkserver_preload(['mmdfer.cli', 'mmaction.apis'])


def run_forked(
    command: Sequence[object], cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a Python script or module as `subprocess.run` does, and return its status and output.

    Args:
        command: The path of a script, or `-m` and a module, and then its arguments.
        cwd: The folder in which it runs, by default the current one.
        env: Its environment, by default that of this process.

    Returns:
        The finished process, with stdout and stderr as text.
    """
    words = list(map(str, command))
    with TemporaryDirectory() as scratch:
        files = [Path(scratch, name) for name in ('stdout', 'stderr')]
        process = _context.Process(
            target=_run, args=(words, cwd or Path.cwd(), dict(env or os.environ), files)
        )
        process.start()
        process.join(timeout=600)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f'{words} is still running after 600 seconds')
        texts = [file.read_text() if file.exists() else '' for file in files]
    return subprocess.CompletedProcess(words, process.exitcode, *texts)


def _run(words: Sequence[str], cwd: Path, env: Mapping[str, str], files: Sequence[Path]) -> None:
    """Become the script: in its folder and environment, with its arguments and output files."""
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0] = [path for path in env.get('PYTHONPATH', '').split(os.pathsep) if path]
    if words[0] == '-m':
        sys.argv = list(words[1:])
        sys.path.insert(0, str(cwd))
        runpy.run_module(words[1], run_name='__main__', alter_sys=True)
    else:
        sys.argv = list(words)
        sys.path.insert(0, str(Path(words[0]).parent))
        runpy.run_path(words[0], run_name='__main__')
