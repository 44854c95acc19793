"""Run the scripts of this folder, each of which looks for one fault that was reported in public.

    python tests/faults/run.py [NAME ...]    # 07, 07_resume_takes_load_from_away, or all of them

A script makes its own input, runs the package that Python finds, and prints one line. It ends with
0 where the package behaves rightly, with 1 where it has the fault, and with 2 where the script
itself cannot run, for example without ffmpeg. Each runs in a process and in a temporary folder of
its own. The command ends with 1 unless every script ends with 0.
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
    """Return the scripts of a folder, or those that are named, in the order of their numbers.

    Args:
        folder: Where the scripts are, as `<number>_<words>.py`.
        names: Numbers, or names with or without `.py`; none for all scripts.

    Raises:
        SystemExit: There is no script of such a name.
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
    """Run a script, and end it with all that it started when its time is over.

    Args:
        path: Of the script.
        limit: How many seconds it may take.

    Returns:
        The exit status, which is None for a script that was ended, and the last line it printed.
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
    """Return PYTHONPATH with the folder of the package in front, for any working directory."""
    found = importlib.util.find_spec('mmdfer')
    if found is None or found.origin is None:
        sys.exit('mmdfer is not installed: pip install -e ., or set PYTHONPATH')
    package = Path(found.origin).resolve().parent.parent
    return os.pathsep.join(filter(None, [str(package), os.environ.get('PYTHONPATH')]))


def main(arguments: Sequence[str] | None = None, folder: Path = FOLDER) -> int:
    """Run scripts and print one line for each.

    Args:
        arguments: Of the command line.
        folder: Where the scripts are.

    Returns:
        The exit status: 0 if each script has ended with 0, otherwise 1.
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
