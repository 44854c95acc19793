"""Find what is installed beside the package: configs, scripts and the index of the methods.

A wheel has them in `mmdfer/.mim`, where OpenMMLab's packages have theirs. An editable install
reads them from the repository.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from mmdfer.errors import DFERError

PACKAGE = Path(__file__).parent
PREFIX = 'mmdfer::'  # as mmengine writes `package::config`


def installed(name: str) -> Path:
    """Return the path of `configs`, `tools` or `model-index.yml`."""
    in_wheel = PACKAGE / '.mim'
    return (in_wheel if in_wheel.is_dir() else PACKAGE.parent) / name


def find_config(name: str | Path) -> Path:
    """Return the path of a config, which is a file or is installed with the package.

    Args:
        name: The path of a file. Where there is none, what `find_installed_config` takes.

    Raises:
        DFERError: There is no such config, or several installed ones have this name.
    """
    return Path(name) if Path(name).is_file() else find_installed_config(str(name))


def find_installed_config(name: str) -> Path:
    """Return the path of a config that is installed with the package.

    Args:
        name: The path below `configs/`, such as `coop/coop_synth.py`, or the end of that path, such
            as `coop_synth.py`. The suffix `.py` may be left out, and `mmdfer::` may come first.

    Raises:
        DFERError: There is no such config, or several have this name.
    """
    configs = installed('configs')
    below = name.removeprefix(PREFIX)
    wanted = Path(below if below.endswith('.py') else f'{below}.py')
    if (configs / wanted).is_file():
        return configs / wanted
    known = [p.relative_to(configs) for p in sorted(configs.rglob('*.py'))]
    known = [path for path in known if path.parts[0] != '_base_']
    ending = wanted.parts[wanted.parts[:1] == ('configs',) :]  # as in `configs/align_dfer_synth.py`
    found = [path for path in known if path.parts[-len(ending) :] == ending]
    if len(found) == 1:
        return configs / found[0]
    if found:
        several = ', '.join(map(str, found))
        raise DFERError(f'{name}: several configs below {configs} have this name: {several}')
    near = get_close_matches(wanted.stem, sorted({path.stem for path in known}))
    names = f'; similar names: {", ".join(near)}' if near else ''
    raise DFERError(f'{name}: no such config; check the path, or look below {configs}{names}')
