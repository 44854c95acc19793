"""Measure how long building the datasets takes on trees of full size, and how much memory.

    python tools/make_synthetic.py --layout dfew data/full/DFEW        # and FERV39k, MAFW
    python benchmarks/datasets.py data/full

Each dataset is built twice, each time in a new process. The second time, the folders are in the
operating system's file cache.
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
    """Build the training and the test split of a dataset.

    Args:
        name: The registered name of the dataset class.
        root: The folder of the dataset.

    Returns:
        The number of clips of both splits, the seconds that building them took, and the memory in
        MB that it added to the process.
    """
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
    """Return the peak memory of this process in MB."""
    scale = 1e6 if sys.platform == 'darwin' else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def main() -> None:
    """Measure each dataset and print a table."""
    parser = argparse.ArgumentParser(description='Measure how datasets are built.')
    parser.add_argument('root', help='the folder that holds DFEW, FERV39k and MAFW')
    root = Path(parser.parse_args().root)
    print(f'{"":8}  {"clips":>6}  {"seconds":>7}  {"MB":>5}')
    with one_line_errors():
        for name in NAMES:
            if not (root / name).is_dir():
                raise DFERError(
                    f'{root / name}: there is no such folder; make it with tools/make_synthetic.py'
                )
            for _ in range(2):
                with multiprocessing.get_context('fork').Pool(1) as pool:
                    clips, seconds, megabytes = pool.apply(build, (name, str(root / name)))
            print(f'{name:8}  {clips:6}  {seconds:7.2f}  {megabytes:5.0f}', flush=True)


if __name__ == '__main__':
    import mmdfer  # noqa: F401  once, before the processes that are measured

    main()
