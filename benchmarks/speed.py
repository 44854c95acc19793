"""Measure ours against a plain implementation of the same model, and print one table.

    python tools/benchmark.py --out benchmark.json
    python tools/benchmark.py --quick
    python tools/benchmark.py --rows steps loading

The plain one (``benchmarks/plain.py``) gets the same weights and frames, in fp32, in the same run
and in turn with ours. Figures are medians; each part runs in a process of its own, whose peak
memory is its alone. CLIP's weights are random and the data drawn: speed does not depend on them.
``--quick`` measures the plain image pass, the same in every stage, once and not in each step.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import open_clip
import torch
from mmengine.registry import init_default_scope

from benchmarks.parts import COMPUTED, PARTS, Row, Settings, matrix_rates, peak_gb
from mmdfer.errors import DFERError, one_line_errors
from mmdfer.files import write_aside
from mmdfer.tables import markdown_table

TOOL = Path(__file__).resolve().parents[1] / 'tools' / 'benchmark.py'


def run_part(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Measure one part in a process of its own; return its rows, figures and peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, 'part.json')
        flags = [f'--{flag}' for flag in ('quick', 'small') if getattr(args, flag)]
        command = [sys.executable, str(TOOL), '--part', name, '--out', str(out), *flags]
        print(f'measuring {name} ...', file=sys.stderr, flush=True)
        done = subprocess.run([*command, '--device', args.device], stdout=subprocess.DEVNULL)
        if done.returncode:
            raise DFERError(f'tools/benchmark.py: the part {name!r} failed; its error stands above')
        return json.loads(out.read_text())


def measure_part(args: argparse.Namespace) -> None:
    """Measure one part, in such a process, and write what was found."""
    init_default_scope('mmaction')
    torch.manual_seed(0)
    rows, figures = PARTS[args.part](Settings(args.device, args.quick, args.small))
    found = dict(rows=[asdict(row) for row in rows], figures=figures, peak_gb=peak_gb())
    write(args.out, found)


def machine(device: str) -> dict[str, Any]:
    """Describe the machine that the figures are of."""
    cpu = platform.processor() or platform.machine()
    if (info := Path('/proc/cpuinfo')).is_file():
        models = [x for x in info.read_text().splitlines() if x.startswith('model name')]
        cpu = models[0].partition(': ')[2] if models else cpu
    gpu = torch.cuda.get_device_name() if device == 'cuda' else None
    threads, versions = torch.get_num_threads(), dict(torch=torch.__version__)
    return dict(cpu=cpu, threads=threads, gpu=gpu, open_clip=open_clip.__version__, **versions)


def table(rows: list[Row], onednn: bool) -> str:
    """Write the rows as a table in Markdown."""
    lines = [['', 'ours', 'against', 'ratio', 'target', '']]
    for row in rows:
        words, met = row.target(onednn)
        other = '' if row.other is None else f'{row.other:.4g} {row.unit}'
        ratio = '' if row.ratio is None else f'{row.ratio:.3g}'
        verdict = {None: '', True: 'met', False: 'short'}[met]
        note = f' ({row.note})' if row.note else ''
        ours = f'{row.ours:.3g} {row.unit}'
        lines.append([f'{row.name}{note}', ours, other, ratio, words, verdict])
    return markdown_table(lines, 'left')


def write(path: str, value: Any) -> None:
    with write_aside(path) as aside:
        aside.write_text(json.dumps(value, indent=1))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Measure ours against a plain implementation.')
    parser.add_argument('--quick', action='store_true', help='fewer repeats and clips')
    parser.add_argument('--small', action='store_true', help='tiny, to see that it runs')
    parser.add_argument('--out', metavar='FILE.json', help='also written')
    parser.add_argument('--rows', nargs='+', choices=PARTS, default=list(PARTS), help='some only')
    parser.add_argument(
        '--device', choices=('cpu', 'cuda'), help='default: cuda where there is one'
    )
    parser.add_argument('--part', choices=PARTS, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    args.device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    args = parse_args(argv)
    with one_line_errors():
        if args.part:
            measure_part(args)
        else:
            compare(args)


def compare(args: argparse.Namespace) -> None:
    """Measure all parts, and print and write what was found."""
    settings = Settings(args.device, args.quick, args.small)
    rates = matrix_rates(settings, 7504, torch.float32)
    onednn = (rates['oneDNN'] or 0) > 1.1 * rates['torch']
    parts = {name: run_part(name, args) for name in args.rows}
    rows = [Row(**row) for part in parts.values() for row in part['rows']]
    figures = {name: part['figures'] for name, part in parts.items()}
    for needs, compute in COMPUTED.items():
        if set(needs) <= set(parts):
            rows += compute(figures)
    found = machine(args.device)
    print(', '.join(f'{key} {value}' for key, value in found.items() if value is not None))
    use = 'outruns torch' if onednn else 'does not outrun torch: the fp32 targets in brackets hold'
    print(f'oneDNN {use}')
    print(table(rows, onednn))
    if args.out:
        kept = [dict(asdict(row), met=row.target(onednn)[1]) for row in rows]
        parts = {
            name: dict(figures=p['figures'], peak_gb=p['peak_gb']) for name, p in parts.items()
        }
        write(args.out, dict(machine=found, onednn=onednn, rows=kept, parts=parts))
