"""Make the files of landmarks, part masks and captions of the clips of a dataset."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmdfer.cpus import count_cpus
from mmdfer.errors import DFERError, UnreadableClipError
from mmdfer.files import append_line, clear_leftovers, read_whole_lines, write_text
from mmdfer.inference.captioner import Captioner, Captioning
from mmdfer.inference.face_levels import MARGIN, LevelFinding, find_levels
from mmdfer.inference.film import open_film
from mmdfer.inference.pool import run_all
from mmdfer.levels import CAPTIONS, format_caption, levels_path, read_captions, write_levels
from mmdfer.locks import lock_file

RECORD = 'prepared_levels.json'  # the settings of the files
#: The clips that the last call could not read, one line "name: reason" for each.
LEFT_OUT = 'left_out.txt'
_LOCK = 'prepare_levels.lock'  # which a process holds while it makes levels


@dataclass(frozen=True)
class Clip:
    """Hold a clip of a dataset.

    Attributes:
        name: Name of the clip in its dataset.
        path: The video or the folder of pictures.
        margin: Margin around the face if the pictures are crops of a face, as a fraction of the
            longer side of its box.
    """

    name: str
    path: str
    margin: float = MARGIN


@dataclass(frozen=True)
class Outcome:
    """Hold what became of a clip.

    Attributes:
        clip: The clip.
        frames: Number of its frames, or 1 for a caption.
        found: Number of frames in which a face was found, or whether there is a caption.
        reason: Why the clip could not be read, or an empty string.
    """

    clip: Clip
    frames: int = 0
    found: int = 0
    reason: str = ''


@dataclass(frozen=True)
class Made:
    """Hold what a call of :func:`prepare_levels` made.

    Attributes:
        clips: Number of clips of the dataset.
        finished_before: Number of clips that were finished before, for ``'landmarks'`` and
            ``'captions'``.
        outcomes: The outcomes of the other clips, for the same keys.
    """

    clips: int
    finished_before: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)

    def unreadable(self) -> dict[str, str]:
        """Return the reason of each clip that could not be read, by the name of the clip."""
        every = (outcome for outcomes in self.outcomes.values() for outcome in outcomes)
        return {outcome.clip.name: outcome.reason for outcome in every if outcome.reason}


def prepare_levels(
    clips: Sequence[Clip],
    out: Path,
    source: Any,
    finding: LevelFinding | None = None,
    captioning: Captioning | None = None,
    workers: int | None = None,
) -> Made:
    """Make landmarks and part masks, or captions, or all of them, of clips.

    ``out`` gets the files that docs/levels.md describes, and the settings in
    ``prepared_levels.json``. A progress bar is shown. Clips that are finished are skipped, so that
    the next call continues after an interruption.

    Args:
        clips: The clips.
        out: The folder of levels.
        source: JSON values that identify the pictures of the clips, see ``DFERDataset.source``.
        finding: How landmarks and parts are found. By default, they are not made.
        captioning: How clips are described. By default, they are not.
        workers: Number of processes for landmarks. By default, the number of usable CPUs.

    Returns:
        What was made.

    Raises:
        DFERError: If a package, a model or a file is missing, if ``out`` contains files of other
            settings or of another origin, or if another process makes levels there.
    """
    if finding is None and captioning is None:
        raise DFERError('nothing to make; give --landmarks FILE, or --captions MODEL, or both')
    paths = {clip.name: levels_path(out, clip.name) for clip in clips}
    captioner = None if captioning is None else _build_captioner(captioning, out)
    settings: dict[str, Any] = dict(dataset=source)
    if finding is not None:
        finding.build()
        settings['landmarks'] = finding.record()
    if captioner is not None:
        settings['captions'] = captioner.record()
    made = Made(len(clips))
    # Two processes would append to one file of captions.
    with lock_file(out / _LOCK, '--out', 'makes levels in this folder', wait=False):
        _check_settings(out, settings)
        if captioner is not None:
            done = _read_done(out / CAPTIONS)
            todo = [clip for clip in clips if clip.name not in done]
            _run(made, 'captions', len(clips) - len(todo), _describe_all(captioner, todo, out))
        if finding is not None:
            for folder in {path.parent for path in paths.values()}:
                clear_leftovers(folder)
            todo = [clip for clip in clips if not paths[clip.name].is_file()]
            work = partial(_find, out=out, finding=finding)
            results = run_all(work, todo, workers or count_cpus(), 'Finding landmarks', 'clip')
            _run(made, 'landmarks', len(clips) - len(todo), results)
        _list_unreadable(out / LEFT_OUT, made.unreadable())
    return made


def _run(made: Made, key: str, finished_before: int, results: Iterator[Outcome]) -> None:
    """Do the work whose outcomes ``results`` yields, and keep the outcomes."""
    made.finished_before[key], made.outcomes[key] = finished_before, list(results)


def _find(clip: Clip, out: Path, finding: LevelFinding) -> Outcome:
    """Write the landmarks and masks of a clip."""
    try:
        levels = find_levels(open_film(Path(clip.path)), finding, clip.margin)
    except UnreadableClipError as error:
        return Outcome(clip, reason=str(error))
    write_levels(levels_path(out, clip.name), levels)
    assert levels.landmarks is not None
    found = ~np.isnan(levels.landmarks).all((1, 2))
    return Outcome(clip, len(found), int(found.sum()))


def _build_captioner(captioning: Captioning, out: Path) -> Captioner:
    """Build the captioner, with the commit of its model that an earlier call for ``out`` used."""
    then = _read_record(out / RECORD).get('captions', {})
    return Captioner(
        captioning, then.get('commit') if then.get('model') == captioning.model else None
    )


def _describe_all(captioner: Captioner, clips: Sequence[Clip], out: Path) -> Iterator[Outcome]:
    """Write the captions of clips, and yield the outcomes."""
    if not clips:
        return
    captioner.load()
    describe: Callable[[Clip], Outcome] = partial(_describe, captioner=captioner, out=out)
    yield from run_all(describe, clips, 1, 'Writing captions', 'clip')


def _describe(clip: Clip, captioner: Captioner, out: Path) -> Outcome:
    """Append the caption of a clip to the file of captions, unless it is empty."""
    try:
        caption = captioner.describe(clip.path)
    except UnreadableClipError as error:
        return Outcome(clip, reason=str(error))
    if caption:
        append_line(out / CAPTIONS, format_caption(clip.name, caption))
    return Outcome(clip, 1, int(bool(caption)))


def _list_unreadable(path: Path, reasons: dict[str, str]) -> None:
    """Write the clips that could not be read and the reasons, or delete the list if all were."""
    if reasons:
        write_text(path, ''.join(f'{name}: {reason}\n' for name, reason in reasons.items()))
    else:
        path.unlink(missing_ok=True)


# ---------------------------------------------------------------- what was made before


def _read_done(path: Path) -> set[str]:
    """Return the names of the clips that have captions, and remove a line that was cut off."""
    return set(read_captions(path)) if read_whole_lines(path) else set()


def _check_settings(out: Path, settings: dict[str, Any]) -> None:
    """Record the settings, or compare them with the record of an earlier call.

    Landmarks and captions may be made by different calls. Settings of a call that did not write any
    file are replaced.

    Raises:
        DFERError: If the folder contains files of other settings or of another origin.
    """
    path = out / RECORD
    recorded = _read_record(path)
    captions = (file for file in out.glob(CAPTIONS) if file.stat().st_size)
    present = dict(landmarks=next(out.rglob('*.npz'), None), captions=next(captions, None))
    ours = any(key in recorded and file for key, file in present.items())
    for key, now in settings.items():
        if key not in recorded:
            if present.get(key):
                raise DFERError(
                    f'{present[key]}: was not made by prepare_levels; give another folder for the '
                    f'new {key}'
                )
        elif recorded[key] != now and present.get(key, ours):
            raise DFERError(
                f'{path}: the folder contains levels with other settings '
                f'({_describe_change(key, recorded[key], now)}); give another folder'
            )
    if recorded | settings != recorded:
        write_text(path, json.dumps(recorded | settings, indent=1, ensure_ascii=False))


def _read_record(path: Path) -> dict[str, Any]:
    """Return the settings of an earlier call, or an empty dict if there was none."""
    try:
        recorded = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        recorded = None
    if not isinstance(recorded, dict):
        raise DFERError(f'{path}: is damaged; give another folder, or make the levels again')
    return recorded


def _describe_change(key: str, then: Any, now: Any) -> str:
    """Return the first setting that has changed, in words."""
    if isinstance(then, dict) and isinstance(now, dict):
        for name in {**then, **now}:
            if then.get(name) != now.get(name):
                return _describe_change(f'{key}.{name}', then.get(name), now.get(name))
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for number, pair in enumerate(zip(then, now, strict=True)):
            if pair[0] != pair[1]:
                return _describe_change(f'{key}[{number}]', *pair)
    return f'{key} was {str(then)[:80]!r} and is {str(now)[:80]!r}'
