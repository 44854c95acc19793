"""Run benchmarks/speed.py, which is in the repository but not in the package."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.speed import main  # noqa: E402

if __name__ == '__main__':
    main()
