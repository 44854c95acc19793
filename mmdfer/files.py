"""Files that are whole or absent, whenever the process dies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def write_aside(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a path to write to, which takes the place of `path` once it is whole on disk.

    Whoever reads `path` sees the old file or the new one, never a part; a kill leaves at most
    a file `.<stem>.<pid>.aside<suffix>` beside it. An error inside the block leaves `path` as
    it was.

    Args:
        path: the file to be written; its folder is made where missing.

    Yields:
        A path in the same folder with the same suffix.

    Example:
        >>> with write_aside('scores.json') as aside:
        ...     aside.write_text('{}')
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f'.{path.stem}.{os.getpid()}.aside{path.suffix}')
    try:
        yield aside
        with aside.open('rb+') as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == 'nt':  # Windows opens no folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
