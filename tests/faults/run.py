"""Run the scripts of this folder; each checks that one publicly reported fault is not back.

    python tests/faults/run.py [NAME ...]    # 07, 07_resume_takes_load_from_away, or all of them

A script makes its own input, runs the package that Python finds, and prints one line. Its exit
status is 0 if the package behaves correctly, 1 if the package has the fault, and 2 if the script
cannot run, for example because ffmpeg is missing. Each script runs in its own process and in its
own temporary folder. The exit status of this command is 0 if that of all scripts is 0, otherwise 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
LIMIT = 200  # seconds; most scripts take 5 to 40


def find_scripts(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return all scripts of a folder, or only the named ones, in the order of their numbers.

    Args:
        folder: The folder of the scripts, which are named `<number>_<words>.py`.
        names: Numbers, or names with or without `.py`; an empty list for all scripts.

    Raises:
        SystemExit: If no script has one of the names.
    """
    scripts = sorted(folder.glob('[0-9]*.py'))
    wanted = {name.removesuffix('.py') for name in names}
    known = {key for path in scripts for key in _keys(path)}
    if wanted - known:
        sys.exit(f'{folder}: no script {", ".join(sorted(wanted - known))}')
    return [path for path in scripts if not wanted or wanted & _keys(path)]


def _keys(path: Path) -> set[str]:
    return {path.stem, path.stem.partition('_')[0]}


def run_script(path: Path, limit: float = LIMIT) -> tuple[int | None, str]:
    """Run a script, and kill it and its child processes when the time limit is reached.

    Args:
        path: The path of the script.
        limit: The time limit in seconds.

    Returns:
        The exit status (None for a script that was killed) and the last line that it printed.
    """
    with tempfile.TemporaryDirectory(prefix='faults_') as folder:
        process = subprocess.Popen(
            [sys.executable, path],
            cwd=folder,
            env={**os.environ, 'TMPDIR': folder, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': _paths()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            output = process.communicate(timeout=limit)[0].decode(errors='replace')
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return None, f'still running after {limit:.0f} s'
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        return process.returncode, lines[-1] if lines else 'printed nothing'


def _paths() -> str:
    """Return PYTHONPATH with the absolute folder of the package in front."""
    found = importlib.util.find_spec('mmdfer')
    if found is None or found.origin is None:
        sys.exit('mmdfer is not installed: pip install -e ., or set PYTHONPATH')
    package = Path(found.origin).resolve().parent.parent
    return os.pathsep.join(filter(None, [str(package), os.environ.get('PYTHONPATH')]))


def main(arguments: Sequence[str] | None = None, folder: Path = FOLDER) -> int:
    """Run scripts and print one line for each.

    Args:
        arguments: The arguments of the command line; None for those of this process.
        folder: The folder of the scripts.

    Returns:
        The exit status: 0 if the exit status of each script is 0, otherwise 1.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('names', nargs='*', metavar='NAME', help='a number or a name; default: all')
    failed = 0
    scripts = find_scripts(folder, parser.parse_args(arguments).names)
    for path in scripts:
        start = time.monotonic()
        status, said = run_script(path)
        failed += status != 0
        ended = 'no exit' if status is None else f'exit {status}'
        said = said.removeprefix(f'{path.stem}: ')
        print(f'{path.stem}: {ended}, {time.monotonic() - start:.0f} s: {said}', flush=True)
    print(f'{len(scripts) - failed} of {len(scripts)} scripts end with 0')
    return int(failed > 0)


if __name__ == '__main__':
    sys.exit(main())
