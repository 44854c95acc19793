"""How long it takes to build the datasets over full-size trees, and what memory they hold.

    python tools/make_synthetic.py --layout dfew data/full/DFEW        # and FERV39k, MAFW
    python benchmarks/datasets.py data/full

Each dataset is built in a process of its own, twice: the second time the folders are in the
system's file cache.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from pathlib import Path

from mmengine.registry import init_default_scope

from mmaction.registry import DATASETS

from mmdfer.errors import DFERError, one_line_errors

NAMES = ('DFEW', 'FERV39k', 'MAFW')


def build(name: str, root: str) -> tuple[int, float, float]:
    """Builds both splits; returns their clips, the seconds, and the MB that this added."""
    init_default_scope('mmaction')
    before, start = _peak(), time.perf_counter()
    splits = [
        DATASETS.build(
            dict(type=name, data_root=root, split=split, test_mode=split == 'test', pipeline=[])
        )
        for split in ('train', 'test')
    ]
    return sum(map(len, splits)), time.perf_counter() - start, _peak() - before


def _peak() -> float:
    """The process's peak memory in MB."""
    scale = 1e6 if sys.platform == 'darwin' else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description='Time and memory of building the datasets')
    parser.add_argument('root', help='the folder that holds DFEW, FERV39k and MAFW')
    root = Path(parser.parse_args().root)
    print(f'{"":8}  {"clips":>6}  {"seconds":>7}  {"MB":>5}')
    with one_line_errors():
        for name in NAMES:
            if not (root / name).is_dir():
                raise DFERError(f'{root / name}: no such folder; make it with make_synthetic.py')
            for _ in range(2):
                with multiprocessing.get_context('fork').Pool(1) as pool:
                    clips, seconds, megabytes = pool.apply(build, (name, str(root / name)))
            print(f'{name:8}  {clips:6}  {seconds:7.2f}  {megabytes:5.0f}', flush=True)


if __name__ == '__main__':
    import mmdfer  # noqa: F401  once, before the processes that are measured

    main()
