"""Compute fingerprints of clips, which show whether the pictures of a clip have changed.

A feature bank keeps the fingerprint of the pictures from which each vector was encoded. The
fingerprint is a hash of the contents of the files. A copy of a dataset on another disk therefore
has the same fingerprints, and other pictures under the same names have different ones, even if
their sizes and times are the same.

Hashing has to read every file. To avoid this, a table in a file remembers the fingerprint of each
clip together with the status of its files (sizes, times and inodes). A clip is read again only if
the status has changed. A changed status alone does not change the fingerprint. For a dataset of a
million pictures, reading the status takes seconds, and reading the contents takes about a minute
from a local disk.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path

from tqdm import tqdm

from mmdfer.files import write_aside

_PICTURE = re.compile(r'(?!\.).*\.(?:jpe?g|png|bmp)', re.IGNORECASE)
_WHOLE = 1 << 17  # bytes; a file up to this size is read completely, as fast as a part of it
_PARTS, _PART = 32, 1 << 12  # number and bytes of the parts that are read of a larger file
_THREADS = 8  # several threads, since reading waits for the disk
_MOST = 400_000  # clips in the table: enough for ten copies of a large dataset

File = tuple[str, str]  # the name that is hashed together with the contents, and the path


def fingerprint_clips(paths: Sequence[str], known: Path) -> list[str]:
    """Compute the fingerprint of each clip.

    Args:
        paths: Path of each clip, a folder of pictures or a video, which may be missing.
        known: Path of the table that remembers fingerprints by the status of the files. It is
            created if it does not exist.

    Returns:
        The fingerprint of each clip, 16 hexadecimal digits. Copies of a clip in other places have
        the same fingerprint.
    """
    table = _read(known)
    states = [_hash_status(path) for path in paths]
    new = {state: path for state, path in zip(states, paths) if state not in table}
    if new:
        with ThreadPoolExecutor(_THREADS) as pool:
            hashed = pool.map(_hash_contents, new.values())
            bar = tqdm(hashed, 'Reading clips', len(new), unit='clips', delay=5)
            found = dict(zip(new, bar))
        table |= {state: contents for state, (contents, whole) in found.items() if whole}
        if len(table) > _MOST:
            table = {state: table[state] for state in states if state in table}
        with write_aside(known) as aside:
            aside.write_text(json.dumps(table, indent=0, sort_keys=True))
        table |= {state: contents for state, (contents, _) in found.items()}
    return [table[state] for state in states]


def _read(known: Path) -> dict[str, str]:
    """Read the table of fingerprints, or return an empty table if it is missing or damaged."""
    try:
        table = json.loads(known.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}


def _list_files(path: str) -> list[File]:
    """List the pictures of a clip sorted by name, or its video; empty if the clip is missing."""
    try:
        return [
            (n, os.path.join(path, n)) for n in sorted(os.listdir(path)) if _PICTURE.fullmatch(n)
        ]
    except NotADirectoryError:
        return [('', path)]
    except FileNotFoundError:
        return []


def _hash_status(path: str) -> str:
    """Hash the sizes, times and inodes of a clip's files. Symbolic links are followed."""
    total = blake2b(digest_size=16)
    for name, file in _list_files(path):
        try:
            s = os.stat(file)
        except OSError:
            total.update(os.fsencode(f'{name}/'))  # a broken symbolic link
            continue
        times = f'{s.st_size} {s.st_mtime_ns} {s.st_ctime_ns} {s.st_ino} {s.st_dev}'
        total.update(os.fsencode(f'{name}/{times}/'))
    return total.hexdigest()


def _hash_contents(path: str) -> tuple[str, bool]:
    """Hash the contents of a clip's files.

    Returns:
        The fingerprint, and whether every file could be read. If not, the fingerprint must not be
        remembered.
    """
    total, whole = blake2b(digest_size=8), True
    for name, file in _list_files(path):
        total.update(os.fsencode(f'{name}/'))
        try:
            _add_file(total, file)
        except OSError:
            total.update(b'unreadable')
            whole = False
    return total.hexdigest(), whole


def _add_file(total: blake2b, path: str) -> None:
    """Add the size and the contents of a file to a hash.

    Of a large file, only parts that are evenly distributed over the file are read.
    """
    with open(path, 'rb') as file:
        content = file.read(_WHOLE)
        size = len(content) if len(content) < _WHOLE else os.fstat(file.fileno()).st_size
        total.update(f'{size}/'.encode())
        if size <= _WHOLE:
            total.update(content)
            return
        for part in range(_PARTS):
            file.seek(part * (size - _PART) // (_PARTS - 1))
            total.update(file.read(_PART))
