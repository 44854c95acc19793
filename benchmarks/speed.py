"""Compare the speed of mmdfer with two baselines in plain torch, and print one table.

    python tools/benchmark.py --out speed.json
    python tools/benchmark.py --rows steps loading
    python tools/benchmark.py --spread run1.json run2.json run3.json

The strong baseline (``benchmarks/strong.py``) is what a competent user would write: frame vectors
and class vectors are cached. The naive one (``benchmarks/naive.py``) caches nothing. All get the
same weights and data. Each ratio is the median of at least seven pairs of runs that take turns, so
that a busy machine disturbs both sides alike. Each part of the table is measured in a process of
its own. The weights of CLIP are random and the clips are rendered: speed does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import open_clip
import torch
from mmengine.registry import init_default_scope

from benchmarks import strong
from benchmarks.model import ARCHITECTURE, best_image_batch
from benchmarks.parts import PARTS
from benchmarks.schedule import compute_schedule, describe_parts
from benchmarks.settings import Settings
from benchmarks.table import Row, result_table, spread_table
from benchmarks.timing import interleave
from mmdfer.errors import DFERError, one_line_errors
from mmdfer.files import write_aside
from mmdfer.synthetic.releases import make_release

READ_CLIPS = {'extraction', 'decoding', 'start'}  # the parts that read rendered clips
ENCODE_IMAGES = {'steps', 'inference', 'extraction'}
TOOL = Path(__file__).resolve().parents[1] / 'tools' / 'benchmark.py'


def choose_image_settings(s: Settings) -> Settings:
    """Choose how the baselines encode images: the fastest batch size, and the way of bfloat16."""
    if s.small:
        return replace(s, image_batch=2)
    sizes = (16, 32, 64) if s.device == 'cpu' else (64, 256, 1024)
    clip = open_clip.create_model(ARCHITECTURE).eval().requires_grad_(False).to(s.device)
    images = torch.randn(max(sizes), 3, 224, 224, device=s.device)
    batch = best_image_batch(clip, images, sizes)
    runs = {}
    for mode in ('autocast', 'bf16'):
        encode = strong.ImageEncoder(clip, batch, mode)
        runs[mode] = lambda encode=encode: encode(images[:, None])
    times = interleave(runs, 3, s.device)
    return replace(s, image_batch=batch, low_precision=min(runs, key=lambda mode: min(times[mode])))


def run_part(name: str, s: Settings) -> dict[str, Any]:
    """Measure one part in a process of its own, and return its rows and values.

    Raises:
        DFERError: If that process fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, 'part.json')
        command = [sys.executable, str(TOOL), '--part', name, json.dumps(asdict(s))]
        print(f'measuring {name} ...', file=sys.stderr, flush=True)
        start = time.perf_counter()
        done = subprocess.run([*command, '--out', str(out)], stdout=subprocess.DEVNULL)
        if done.returncode:
            raise DFERError(f'tools/benchmark.py: the part {name!r} failed; see the error above')
        seconds = time.perf_counter() - start
        print(f'measured {name} in {seconds:.0f} s', file=sys.stderr, flush=True)
        return dict(json.loads(out.read_text()), seconds=seconds)


def measure_part(name: str, s: Settings, out: str) -> None:
    """Measure one part in this process, and write its rows and values to a file."""
    init_default_scope('mmaction')
    torch.manual_seed(0)
    rows, samples = PARTS[name](s)
    write_json(out, dict(rows=[asdict(row) for row in rows], samples=samples))


def describe_machine(s: Settings) -> dict[str, Any]:
    """Describe the machine, the versions, and how the baselines encode images."""
    cpu = platform.processor() or platform.machine()
    if (info := Path('/proc/cpuinfo')).is_file():
        models = [x for x in info.read_text().splitlines() if x.startswith('model name')]
        cpu = models[0].partition(': ')[2] if models else cpu
    gpu = {'GPU': torch.cuda.get_device_name()} if s.device == 'cuda' else {}
    versions = dict(torch=torch.__version__, open_clip=open_clip.__version__)
    images = {'images in a batch': s.image_batch, 'images in bf16 by': s.low_precision}
    return dict(CPU=cpu, threads=torch.get_num_threads(), **gpu, **versions, **images)


def compare(s: Settings, parts: Sequence[str], out: str | None) -> None:
    """Measure parts of the table, print it, and write it to a file as well."""
    with tempfile.TemporaryDirectory() as folder:
        s = replace(s, data=folder)
        if READ_CLIPS & set(parts):
            make_release('dfew', folder, 35 if s.small else 70, ('frames', 'videos'), size=224)
        if ENCODE_IMAGES & set(parts):
            s = choose_image_settings(s)
        found = {name: run_part(name, s) for name in parts}
    rows = [Row(**row) for part in found.values() for row in part['rows']]
    samples = {name: part['samples'] for name, part in found.items()}
    machine = describe_machine(s)
    print(', '.join(f'{key}: {value}' for key, value in machine.items()) + '\n')
    if {'steps', 'extraction'} <= set(parts):
        rows += compute_schedule(samples)
    print(result_table(rows))
    if {'steps', 'extraction'} <= set(parts):
        print(f'\n{describe_parts(samples)}')
    if out:
        kept = [asdict(row) for row in rows]
        write_json(out, dict(machine=machine, rows=kept, parts=found))


def write_json(path: str, value: Any) -> None:
    """Write a value as JSON, completely or not at all."""
    with write_aside(path) as aside:
        aside.write_text(json.dumps(value, indent=1))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--small', action='store_true', help='tiny sizes, to see that it runs')
    parser.add_argument('--out', metavar='FILE.json', help='also write the results to this file')
    usual = [name for name in PARTS if name != 'compiled']
    parser.add_argument(
        '--rows',
        nargs='+',
        choices=PARTS,
        default=usual,
        help='parts of the table; by default all but "compiled", which needs a C++ compiler',
    )
    parser.add_argument(
        '--device', choices=('cpu', 'cuda'), help='default: cuda where there is a GPU'
    )
    parser.add_argument(
        '--spread', nargs='+', metavar='FILE.json', help='print how ratios spread over saved runs'
    )
    parser.add_argument('--part', nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    args.device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print a table, or compare saved runs."""
    args = parse_args(argv)
    with one_line_errors():
        if args.spread:
            print(spread_table([json.loads(Path(path).read_text()) for path in args.spread]))
        elif args.part:
            name, settings = args.part
            measure_part(name, Settings(**json.loads(settings)), args.out)
        else:
            compare(Settings(args.device, args.small), args.rows, args.out)


if __name__ == '__main__':
    main()
