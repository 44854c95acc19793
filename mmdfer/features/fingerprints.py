"""Fingerprints of clips: has a clip the pictures from which its vectors were encoded?

A fingerprint is a hash of contents, so that a copy of a dataset on another disk has the same, and
other pictures under the same names have another, whatever their times and sizes say. Hashing reads
every file. A second table, kept in a file, remembers the fingerprint of files whose status (sizes,
times, inodes) was seen before, and a clip is read again only where that has changed: the status
alone never decides that a clip is another one. For a dataset of a million pictures the status takes
seconds, the contents about a minute from a local disk.
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
_WHOLE = 1 << 17  # up to this many bytes a file is read whole, which takes no longer than a part
_PARTS, _PART = 32, 1 << 12  # of a larger one, a video, this many parts of as many bytes are read
_THREADS = 8  # reading waits for the disk
_MOST = 400_000  # clips that are remembered: ten copies of a large dataset, on several disks

File = tuple[str, str]  # a name that belongs to the contents, and the path


def fingerprint_clips(paths: Sequence[str], known: Path) -> list[str]:
    """Compute the fingerprint of each clip.

    Args:
        paths: A folder of pictures or a video for each clip; it may be missing.
        known: The file that remembers fingerprints by the status of files; made if there is none.

    Returns:
        16 hexadecimal digits for each clip, the same wherever a copy of the clip lies.
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
    """Read the table; a damaged one is made again, since it only saves time."""
    try:
        table = json.loads(known.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}


def _list_files(path: str) -> list[File]:
    """List the pictures of a folder by name, or the video itself; nothing where neither exists."""
    try:
        return [
            (n, os.path.join(path, n)) for n in sorted(os.listdir(path)) if _PICTURE.fullmatch(n)
        ]
    except NotADirectoryError:
        return [('', path)]
    except FileNotFoundError:
        return []


def _hash_status(path: str) -> str:
    """Hash what the system says of a clip's files; links are followed."""
    total = blake2b(digest_size=16)
    for name, file in _list_files(path):
        try:
            s = os.stat(file)
        except OSError:
            total.update(os.fsencode(f'{name}/'))  # a link to nowhere
            continue
        times = f'{s.st_size} {s.st_mtime_ns} {s.st_ctime_ns} {s.st_ino} {s.st_dev}'
        total.update(os.fsencode(f'{name}/{times}/'))
    return total.hexdigest()


def _hash_contents(path: str) -> tuple[str, bool]:
    """Hash the contents of a clip's files.

    Returns:
        The fingerprint, and whether every file could be read.
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
    """Add a file's size and its bytes to a hash; of a large one, parts from beginning to end."""
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
