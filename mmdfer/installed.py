"""Find the configs, scripts, weights and the index of methods that are installed with the package.

A wheel contains the configs and the scripts in `mmdfer/.mim`, as OpenMMLab's packages do. An
editable install reads them from the repository. The weights are part of the package itself.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from mmdfer.errors import DFERError

PACKAGE = Path(__file__).parent
PREFIX = 'mmdfer::'  # as mmengine writes `package::config`


def installed(name: str) -> Path:
    """Return the path of an installed file or folder.

    Args:
        name: `'configs'`, `'tools'` or `'model-index.yml'`.
    """
    in_wheel = PACKAGE / '.mim'
    return (in_wheel if in_wheel.is_dir() else PACKAGE.parent) / name


def find_config(name: str | Path) -> Path:
    """Return the path of a config, which is a file of the user or is installed with the package.

    Args:
        name: The path of a config file. If no such file exists, `name` is the name of an installed
            config, as `find_installed_config` takes it.

    Raises:
        DFERError: If there is no such config, or if several installed configs have this name.
    """
    return Path(name) if Path(name).is_file() else find_installed_config(str(name))


def find_installed_config(name: str) -> Path:
    """Return the path of a config that is installed with the package.

    Args:
        name: The path below `configs/`, such as `coop/coop_synth.py`, or the end of that path, such
            as `coop_synth.py`. The suffix `.py` and the prefix `mmdfer::` are optional.

    Raises:
        DFERError: If there is no such config, or if several configs have this name.
    """
    configs = installed('configs')
    below = name.removeprefix(PREFIX)
    wanted = Path(below if below.endswith('.py') else f'{below}.py')
    if (configs / wanted).is_file():
        return configs / wanted
    known = [p.relative_to(configs) for p in sorted(configs.rglob('*.py'))]
    known = [path for path in known if path.parts[0] != '_base_']
    # A leading `configs`, as in `configs/align_dfer_synth.py`, is not part of the path to compare.
    ending = wanted.parts[wanted.parts[:1] == ('configs',) :]
    found = [path for path in known if path.parts[-len(ending) :] == ending]
    if len(found) == 1:
        return configs / found[0]
    if found:
        several = ', '.join(map(str, found))
        raise DFERError(
            f'{name}: several configs below {configs} have this name; give one of: {several}'
        )
    near = get_close_matches(wanted.stem, sorted({path.stem for path in known}))
    names = f'; similar names: {", ".join(near)}' if near else ''
    raise DFERError(f'{name}: no such config; check the path, or look below {configs}{names}')


def list_installed_weights() -> list[str]:
    """Return the names of the trained weights in `mmdfer/weights`."""
    return sorted(path.stem for path in (PACKAGE / 'weights').glob('*.safetensors'))


def find_installed_weights(name: str) -> Path:
    """Return the path of trained weights in `mmdfer/weights`.

    Args:
        name: The name of the weights, with or without the prefix `mmdfer::`.

    Raises:
        DFERError: If the package has no weights of this name.
    """
    known, stem = list_installed_weights(), name.removeprefix(PREFIX)
    if stem not in known:
        raise DFERError(
            f'{PREFIX}{stem}: the package has no weights of this name; choose one of '
            f'{", ".join(known)}, or give the path of a file'
        )
    return PACKAGE / 'weights' / f'{stem}.safetensors'
