"""Convert a checkpoint that the authors of a method publish, so that every command can use it.

    mmdfer import-checkpoint dfer_clip DFEW-set1-model_best.pth --dataset dfew --out dfer_clip_dfew
    mmdfer test dfer_clip_dfew/config.py dfer_clip_dfew/checkpoint.pth

The command writes a folder with a config, a checkpoint and, for DFER-CLIP, the weights of CLIP. It
downloads nothing, and executes no code from the file.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmdfer.cli.flags import command_parser
from mmdfer.converters import DATASETS, METHODS, Imported, import_checkpoint
from mmdfer.errors import one_line_errors


def main(argv: Sequence[str] | None = None) -> None:
    """Convert a checkpoint, and print what the file says and what was written."""
    parser = command_parser('import_checkpoint')
    parser.add_argument('method', choices=METHODS, help='method of the checkpoint')
    parser.add_argument('file', help="path of the authors' file")
    parser.add_argument(
        '--dataset',
        choices=DATASETS,
        required=True,
        help='dataset on which the authors trained, whose order of classes the file has',
    )
    parser.add_argument(
        '--out', required=True, metavar='DIR', help='folder to write to, empty or missing'
    )
    args = parser.parse_args(argv)
    with one_line_errors():
        print_report(import_checkpoint(args.method, args.file, args.dataset, args.out))


def print_report(done: Imported) -> None:
    """Print the classes and texts of an imported checkpoint, what is known of it, and its files."""
    for name in done.classes:
        print(f'{name}: {done.texts[name]}' if done.texts else name)
    if done.epoch is not None and done.best_accuracy is not None:
        print(
            f'epoch {done.epoch}, best accuracy {done.best_accuracy:.2f} %, according to the file'
        )
    for path in filter(None, (done.config, done.checkpoint, done.clip)):
        print(path)
