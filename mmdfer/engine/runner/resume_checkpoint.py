"""Decide from which checkpoint a run resumes."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import CheckpointLoader, Runner

from mmdfer.compat import load_from_local
from mmdfer.errors import DFERError
from mmdfer.files import write_aside

POINTER = 'last_checkpoint'  # mmengine's name for the file that names the newest checkpoint


def why_unreadable(path: Path) -> str | None:
    """Says why a checkpoint does not read to its last byte, or None where it does.

    torch.load does not check the sums that torch.save writes, so the zip file is checked here.
    """
    if not path.is_file():
        return 'it does not exist'
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as file:
                broken = file.testzip()
        except (zipfile.BadZipFile, EOFError, zlib.error) as error:
            return f'it is damaged: {error}'
        return broken and f'its part {broken} is damaged'
    try:
        load_from_local(path, 'cpu')
    except DFERError as error:
        return str(error)
    return None


def newest_checkpoint(work_dir: str | os.PathLike) -> Path | None:
    """Return the checkpoint that `last_checkpoint` names; None where nothing was saved.

    mmengine writes the whole path there. Once the work dir is moved or copied, that path is
    missing or the original's, so the file of the same name in the work dir comes first.
    """
    pointer = Path(work_dir, POINTER)
    if not pointer.is_file():
        return None
    named = Path(pointer.read_text().strip() or 'unnamed')
    here = Path(work_dir, named.name)
    return here if here.is_file() else named


def is_finished(cfg: Config, last: int | None) -> bool:
    """Return whether the checkpoint that a run resumes from is that of its last epoch.

    Args:
        cfg: The config of the run, its flags applied.
        last: The number of its last epoch; None where it counts iterations.
    """
    named = cfg.get('load_from') if cfg.get('resume') is True else None
    path = newest_checkpoint(cfg.work_dir) if named is None else Path(named)
    if not cfg.get('resume') or path is None or last is None or why_unreadable(path) is not None:
        return False
    meta = CheckpointLoader.load_checkpoint(str(path), 'cpu').get('meta') or {}
    return meta.get('epoch', 0) >= last


def settle_resume(runner: Runner, hook: CheckpointHook) -> None:
    """Decide whether a run resumes, and from which checkpoint, before anything is loaded.

    The Runner's `resume` may be

    - `'auto'`, which tools/train.py sets for `--resume`: resume from the newest checkpoint in the
      work dir; where there is none, load `load_from` and begin;
    - True without `load_from`: the same. MMAction2's train.py clears `load_from` for `--resume`,
      so that of the config file is read again;
    - True with `load_from`: resume from that file. Weights without the state of training cannot
      be resumed from: they are taken as for `'auto'`.

    Args:
        runner: Changed in place, as is the file `last_checkpoint` where it names another file.
        hook: Says where checkpoints are saved, and under which names.

    Raises:
        DFERError: Checkpoints are named, and none can be read. Every rank raises it.
    """
    if not runner._resume or runner._has_loaded:
        return
    named = runner._load_from if runner._resume is True else None
    if named and has_training_state(CheckpointLoader.load_checkpoint(named, 'cpu')):
        return
    found = [_point_to_readable(runner, hook) if is_main_process() else (None, None)]
    broadcast_object_list(found)  # the other ranks wait here until the pointer is right
    error, newest = found[0]
    if error is not None:
        raise DFERError(error)
    if newest is not None:
        runner._resume, runner._load_from = True, None
        return
    begin = runner._load_from or _load_from_of_file(runner)
    runner._resume, runner._load_from = begin is None, begin
    if begin is not None:
        runner.logger.info(f'Nothing to resume from in {runner.work_dir}: beginning with {begin}')


def check_resumable(path: str) -> None:
    """Raise DFERError where a checkpoint holds weights alone."""
    if not has_training_state(CheckpointLoader.load_checkpoint(path, 'cpu')):
        raise DFERError(_not_resumable(path))


def _not_resumable(path: str) -> str:
    return (
        f'{path}: the checkpoint has no state of the optimizer, so no training resumes from it; '
        'resume from an epoch_<number>.pth, or give it as load_from to begin with its weights'
    )


def has_training_state(checkpoint: dict[str, Any]) -> bool:
    """Return whether a checkpoint holds all that mmengine's Runner resumes."""
    meta = checkpoint.get('meta') or {}
    return {'epoch', 'iter'} <= meta.keys() and {'optimizer', 'message_hub'} <= checkpoint.keys()


def _load_from_of_file(runner: Runner) -> str | None:
    """Return the `load_from` of the run's config file."""
    name = runner.cfg.filename
    return Config.fromfile(name).get('load_from') if name and Path(name).is_file() else None


def _point_to_readable(runner: Runner, hook: CheckpointHook) -> tuple[str | None, Path | None]:
    """Have `last_checkpoint` name the newest checkpoint that reads completely.

    Returns:
        An error line, where checkpoints are named and none reads; and the checkpoint, where one is.
    """
    pointer, folder = Path(runner.work_dir, POINTER), _folder(runner, hook)
    named = Path(pointer.read_text().strip() or 'unnamed') if pointer.is_file() else None
    newest = None
    if named is not None:
        newest = folder / named.name
        if not newest.is_file() and Path(runner.work_dir, named.name).is_file():
            newest = Path(runner.work_dir, named.name)  # the hook's out_dir is new
    reason = 'it does not exist' if newest is None else why_unreadable(newest)
    if reason is None:
        assert newest is not None and named is not None
        if newest.resolve() != named.resolve():
            runner.logger.warning(f'{pointer}: names {named}; resuming from {newest} instead')
            _point(pointer, newest)
        return None, newest
    for older in _checkpoints_before(newest, folder, hook):
        if why_unreadable(older) is None:
            runner.logger.warning(
                f'{pointer} is missing; resuming from {older}'
                if newest is None
                else f'{newest} cannot be resumed from ({reason}); falling back to {older}'
            )
            _point(pointer, older)
            return None, older
    if newest is None:
        return None, None  # nothing was saved, or nothing that reads: the run begins
    elsewhere = '' if newest == named else f' as {newest}'
    return (
        f'{pointer}: names {named}, which cannot be resumed from{elsewhere} ({reason}), and no '
        'earlier checkpoint there reads completely; remove the file to train from the beginning, '
        'or name a checkpoint with --resume'
    ), None


def _point(pointer: Path, checkpoint: Path) -> None:
    with write_aside(pointer) as aside:
        aside.write_text(str(checkpoint))


def _folder(runner: Runner, hook: CheckpointHook) -> Path:
    """Return where a hook saves, by mmengine's rule (`before_train` puts it into `out_dir`)."""
    if hook.out_dir is None or str(hook.out_dir) == str(runner.work_dir):
        return Path(runner.work_dir)
    return Path(hook.out_dir, Path(runner.work_dir).name)


def _checkpoints_before(newest: Path | None, folder: Path, hook: CheckpointHook) -> list[Path]:
    """List the folder's checkpoints of an earlier step than `newest`, the latest first."""
    pattern = re.compile(re.escape(hook.filename_tmpl).replace(r'\{\}', r'(\d+)'))
    limit = pattern.fullmatch(newest.name) if newest else None
    steps = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        match = pattern.fullmatch(path.name)
        if match and (limit is None or int(match[1]) < int(limit[1])):
            steps[int(match[1])] = path
    return [steps[step] for step in sorted(steps, reverse=True)]
