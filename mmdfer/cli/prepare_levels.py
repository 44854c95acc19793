"""Make landmarks, part masks and captions of the clips of a dataset, which LoadLevels reads.

    mmdfer prepare_levels align_dfer_custom --out levels --landmarks face_landmark.tflite
    mmdfer prepare_levels align_dfer_custom --out levels --captions MODEL

The clips are those of the training, validation and test loaders of the config. docs/levels.md
describes the files. To continue after an interruption, run the same command again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmaction.registry import DATASETS

from mmdfer.cli.flags import (
    add_config,
    add_config_options,
    add_detector_flags,
    command_parser,
)
from mmdfer.cli.resumable import resumable
from mmdfer.datasets.base import DFERDataset, find_datasets
from mmdfer.engine.runner.config import read_config
from mmdfer.errors import DFERError
from mmdfer.faces import PARSERS
from mmdfer.features.dataset_config import LOADERS, without_argument, without_features
from mmdfer.inference.captioner import PROMPT, Captioning
from mmdfer.inference.clip_levels import LEFT_OUT, Clip, Made, prepare_levels
from mmdfer.inference.face_levels import MARGIN, LevelFinding

_SHOWN = 20
_ONLY_WITH = dict(landmarks=('parser', 'detector', 'face_model', 'workers'), captions=('prompt',))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = command_parser('prepare_levels')
    add_config(parser)
    parser.add_argument('--out', required=True, metavar='DIR', help='folder of the levels')
    parser.add_argument(
        '--landmarks',
        metavar='FILE',
        help='make landmarks and part masks with this model file of the 468-point face mesh, '
        'face_landmark.tflite',
    )
    parser.add_argument(
        '--parser',
        choices=PARSERS,
        default=PARSERS[0],
        help='where part masks are from: polygons of the landmarks, or the net of the package '
        'uniface (default: %(default)s)',
    )
    parser.add_argument(
        '--captions',
        metavar='MODEL',
        help='make captions with this image-text-to-text model of transformers: its name on the '
        'Hugging Face hub, or its folder',
    )
    parser.add_argument(
        '--prompt',
        metavar='FILE',
        default=str(PROMPT),
        help='text file with the request to that model (default: caption_prompt.txt of the '
        'package)',
    )
    add_detector_flags(parser)
    parser.add_argument(
        '--workers',
        type=int,
        help='number of processes for landmarks (default: the number of CPUs)',
    )
    add_config_options(parser)
    args = parser.parse_args(argv)
    for flag, names in _ONLY_WITH.items():
        for name in names if getattr(args, flag) is None else ():
            if getattr(args, name) != parser.get_default(name):
                parser.error(f'--{name.replace("_", "-")} has no effect without --{flag}')
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Make the levels, and print how many there are and which clips could not be read."""
    args = parse_args(argv)
    finding = captioning = None
    if args.landmarks is not None:
        finding = LevelFinding(args.landmarks, args.parser, args.detector, args.face_model)
    if args.captions is not None:
        captioning = Captioning(args.captions, args.prompt)
    out = Path(args.out)
    with resumable():
        clips, source = list_clips(read_config(args.config, args.cfg_options))
        made = prepare_levels(clips, out, source, finding, captioning, args.workers)
    print(describe(made, out))


def list_clips(cfg: Config) -> tuple[list[Clip], list[Any]]:
    """Return the clips of all loaders of a config, and what identifies their pictures.

    Args:
        cfg: The config of a run.

    Raises:
        DFERError: If a dataset cannot be read, if it does not name its clips, or if two clips have
            the same name.
    """
    init_default_scope('mmaction')
    clips: dict[str, Clip] = {}
    sources: dict[str, Any] = {}
    for dataset in _build_datasets(cfg):
        sources[json.dumps(dataset.source, sort_keys=True)] = dataset.source
        margin = dataset.metainfo.get('face_crop', {}).get('margin', MARGIN)
        for index in range(len(dataset)):
            info = dataset.get_data_info(index)
            clip = Clip(info['clip'], info['filename'], margin)
            if (other := clips.setdefault(clip.name, clip)).path != clip.path:
                raise DFERError(
                    f'{clip.path}: has the name {clip.name!r} of another clip, {other.path}; make '
                    'the levels of each dataset with a config of its own'
                )
    return list(clips.values()), [sources[key] for key in sorted(sources)]


def _build_datasets(cfg: Config) -> Iterator[DFERDataset]:
    """Yield the datasets of all loaders of a config, without features.

    Their argument ``levels`` is left out, because with it a dataset itself writes levels.
    """
    for loader in LOADERS:
        if cfg.get(loader) is None:
            continue
        clips = without_argument(without_features(cfg[loader].dataset), 'levels')
        dataset = DATASETS.build(clips)
        dataset.full_init()
        inner = list(find_datasets(dataset, DFERDataset))
        if not inner:
            raise DFERError(
                f'{loader}: {type(dataset).__name__} does not name its clips; use a subclass '
                'of DFERDataset'
            )
        yield from inner


def describe(made: Made, out: Path) -> str:
    """Return the numbers of clips, and the clips that could not be read."""
    lines = []
    for key, outcomes in made.outcomes.items():
        read = [outcome for outcome in outcomes if not outcome.reason]
        line = f'{key}: {len(read)} new, {made.finished_before[key]} finished before'
        frames, found = (sum(getattr(o, name) for o in read) for name in ('frames', 'found'))
        if key == 'landmarks' and frames:
            line += f'; a face was found in {found} of {frames} new frames'
        elif found < frames:
            line += f'; the model gave no caption for {frames - found} clips'
        lines.append(line)
    reasons = list(made.unreadable().values())
    lines += [f'left out: {reason}' for reason in reasons[:_SHOWN]]
    if len(reasons) > _SHOWN:
        lines.append(f'... and {len(reasons) - _SHOWN} more; {out / LEFT_OUT} lists all')
    lines.append(f'The levels of {made.clips - len(reasons)} clips are in {out}.')
    return '\n'.join(lines)
