"""Test the runner of the scripts in tests/faults, and run the fastest of the scripts.

``python tests/faults/run.py`` runs all scripts, which takes too long for this suite.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults import run


def write(folder: Path, **scripts: str) -> Path:
    """Write scripts, given by name, and number their files in the given order."""
    for number, (name, text) in enumerate(scripts.items(), start=1):
        (folder / f'{number:02d}_{name}.py').write_text(text)
    return folder


def test_a_script_that_fails_makes_the_command_fail(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    folder = write(
        tmp_path,
        right="print('01_right: PASS: as it should be')",
        wrong="import sys; print('02_wrong: FAIL: 3 of 4'); sys.exit(1)",
        broken="print('started'); raise ValueError('no ffmpeg')",
        killed='import os, signal; os.kill(os.getpid(), signal.SIGSEGV)',
    )
    assert run.main([], folder) == 1
    printed = re.sub(r', \d+ s: ', ', N s: ', capfd.readouterr().out)
    assert printed.splitlines() == [
        '01_right: exit 0, N s: PASS: as it should be',
        '02_wrong: exit 1, N s: FAIL: 3 of 4',
        '03_broken: exit 1, N s: ValueError: no ffmpeg',
        '04_killed: exit -11, N s: printed nothing',
        '1 of 4 scripts end with 0',
    ]
    assert run.main(['01'], folder) == 0
    assert run.main(['01_right', '02_wrong.py'], folder) == 1
    with pytest.raises(SystemExit, match='no script 05'):
        run.main(['01', '05'], folder)


def test_a_script_that_does_not_end_is_ended_with_what_it_started(tmp_path: Path) -> None:
    mark = tmp_path / 'mark'
    child = f'import time; time.sleep(5); open({str(mark)!r}, "w")'
    text = f'import subprocess, sys; subprocess.run([sys.executable, "-c", {child!r}])'
    (script,) = write(tmp_path, hangs=text).glob('*.py')
    start = time.monotonic()
    assert run.run_script(script, limit=1) == (None, 'still running after 1 s')
    assert time.monotonic() - start < 4
    time.sleep(5)
    assert not mark.exists()


def test_each_script_has_a_folder_of_its_own_that_is_deleted(tmp_path: Path) -> None:
    text = """
import os, tempfile
from mmdfer.version import __version__
made = tempfile.mkdtemp()
assert os.listdir() == [os.path.basename(made)]
print(os.getcwd())
"""
    (script,) = write(tmp_path, own=text).glob('*.py')
    status, folder = run.run_script(script)
    assert status == 0, folder
    assert Path(folder).is_absolute()
    assert not Path(folder).exists()


@pytest.mark.parametrize('name', ['06', '25', '28'])
def test_a_fault_is_not_back(name: str, capfd: pytest.CaptureFixture) -> None:
    assert run.main([name]) == 0
    assert ': PASS: ' in capfd.readouterr().out


def test_pytest_leaves_the_scripts_alone() -> None:
    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:xdist', '-o', 'addopts=']
    root = run.FOLDER.parents[1]
    done = subprocess.run(
        [*command, '--collect-only', run.FOLDER], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 5, done.stdout  # the exit status of pytest when it finds no tests
    assert len(run.find_scripts(run.FOLDER, [])) == 36
