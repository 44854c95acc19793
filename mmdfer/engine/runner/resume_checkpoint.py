"""Choose the checkpoint from which a run resumes."""

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

POINTER = 'last_checkpoint'  # the file in which mmengine stores the path of the newest checkpoint


def why_unreadable(path: Path) -> str | None:
    """Return the reason why a checkpoint cannot be read completely.

    ``torch.load`` does not verify the checksums that ``torch.save`` writes, so this function
    verifies those of the zip file.

    Args:
        path: The path of the checkpoint.

    Returns:
        The reason, such as "it does not exist", or None if the checkpoint is intact.
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
    """Return the checkpoint that the file `last_checkpoint` in a work directory names.

    mmengine writes an absolute path to the file. After the work directory was moved or copied, this
    path does not exist or belongs to the original directory. A checkpoint with the same file name
    in the work directory therefore takes precedence.

    Args:
        work_dir: The work directory of a run.

    Returns:
        The path of the checkpoint, or None if the run has not saved any.
    """
    pointer = Path(work_dir, POINTER)
    if not pointer.is_file():
        return None
    named = Path(pointer.read_text().strip() or 'unnamed')
    here = Path(work_dir, named.name)
    return here if here.is_file() else named


def is_finished(cfg: Config, last: int | None) -> bool:
    """Return whether the checkpoint that a run would resume from is that of its last epoch.

    Args:
        cfg: The config of the run, with the flags of the command line applied.
        last: The number of the last epoch, or None if the training loop counts iterations.
    """
    named = cfg.get('load_from') if cfg.get('resume') is True else None
    path = newest_checkpoint(cfg.work_dir) if named is None else Path(named)
    if not cfg.get('resume') or path is None or last is None or why_unreadable(path) is not None:
        return False
    meta = CheckpointLoader.load_checkpoint(str(path), 'cpu').get('meta') or {}
    return meta.get('epoch', 0) >= last


def settle_resume(runner: Runner, hook: CheckpointHook) -> None:
    """Decide whether a run resumes, and from which checkpoint, before a checkpoint is loaded.

    The Runner's `resume` has one of these values:

    - `'auto'`, which tools/train.py sets for `--resume`: the run resumes from the newest checkpoint
      in the work directory. If there is none, the run loads `load_from` and starts from the
      beginning.
    - True without `load_from`: the same. MMAction2's train.py clears `load_from` for `--resume`, so
      `load_from` is read from the config file again.
    - True with `load_from`: the run resumes from that file. If the file contains only weights,
      without the training state, the run cannot resume from it, and the rules of `'auto'` apply.

    Args:
        runner: The Runner, whose `resume` and `load_from` are changed in place. If
            `last_checkpoint` names another file than the chosen checkpoint, the file is rewritten.
        hook: The hook that defines where checkpoints are saved and how they are named.

    Raises:
        DFERError: If `last_checkpoint` names a checkpoint, but no checkpoint can be read. Every
            rank raises the error.
    """
    if not runner._resume or runner._has_loaded:
        return
    named = runner._load_from if runner._resume is True else None
    if named and has_training_state(CheckpointLoader.load_checkpoint(named, 'cpu')):
        return
    found = [_point_to_readable(runner, hook) if is_main_process() else (None, None)]
    broadcast_object_list(found)  # The other ranks wait here for the result.
    error, newest = found[0]
    if error is not None:
        raise DFERError(error)
    if newest is not None:
        runner._resume, runner._load_from = True, None
        return
    begin = runner._load_from or _read_load_from(runner)
    runner._resume, runner._load_from = begin is None, begin
    if begin is not None:
        runner.logger.info(f'No checkpoint in {runner.work_dir}: training starts from {begin}')


def check_resumable(path: str) -> None:
    """Check that a run can resume from a checkpoint.

    Args:
        path: The path of the checkpoint.

    Raises:
        DFERError: If the checkpoint contains only weights.
    """
    if not has_training_state(CheckpointLoader.load_checkpoint(path, 'cpu')):
        raise DFERError(_not_resumable(path))


def _not_resumable(path: str) -> str:
    """Return the error message for a checkpoint that contains only weights."""
    return (
        f'{path}: the checkpoint has no optimizer state, so training cannot resume from it. Resume '
        'from an epoch_<number>.pth, or set load_from to start a new training with its weights'
    )


def has_training_state(checkpoint: dict[str, Any]) -> bool:
    """Return whether a checkpoint contains everything that mmengine's Runner requires to resume.

    Args:
        checkpoint: The content of the checkpoint file.
    """
    meta = checkpoint.get('meta') or {}
    return {'epoch', 'iter'} <= meta.keys() and {'optimizer', 'message_hub'} <= checkpoint.keys()


def _read_load_from(runner: Runner) -> str | None:
    """Read `load_from` from the config file of a run."""
    name = runner.cfg.filename
    return Config.fromfile(name).get('load_from') if name and Path(name).is_file() else None


def _point_to_readable(runner: Runner, hook: CheckpointHook) -> tuple[str | None, Path | None]:
    """Make `last_checkpoint` name the newest checkpoint that can be read completely.

    Returns:
        An error message and a checkpoint. The message is None unless checkpoints exist and none of
        them can be read. The checkpoint is None if there is no checkpoint to resume from.
    """
    pointer, folder = Path(runner.work_dir, POINTER), _folder(runner, hook)
    named = Path(pointer.read_text().strip() or 'unnamed') if pointer.is_file() else None
    newest = None
    if named is not None:
        newest = folder / named.name
        if not newest.is_file() and Path(runner.work_dir, named.name).is_file():
            newest = Path(runner.work_dir, named.name)  # saved before the hook had an out_dir
    reason = 'it does not exist' if newest is None else why_unreadable(newest)
    if reason is None:
        assert newest is not None and named is not None
        if newest.resolve() != named.resolve():
            runner.logger.warning(f'{pointer} names {named}; resuming from {newest} instead')
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
        # The pointer is missing and no checkpoint can be read: training starts from the beginning.
        return None, None
    elsewhere = '' if newest == named else f' as {newest}'
    return (
        f'{pointer} names {named}, but the run cannot resume from it{elsewhere} ({reason}), and no '
        'earlier checkpoint there can be read completely. Remove the file to train from the '
        'beginning, or name a checkpoint with --resume'
    ), None


def _point(pointer: Path, checkpoint: Path) -> None:
    """Write the path of a checkpoint to the file `last_checkpoint`."""
    with write_aside(pointer) as aside:
        aside.write_text(str(checkpoint))


def _folder(runner: Runner, hook: CheckpointHook) -> Path:
    """Return the folder in which a checkpoint hook saves.

    mmengine's hook computes the same folder in `before_train`, which runs after this function.
    """
    if hook.out_dir is None or str(hook.out_dir) == str(runner.work_dir):
        return Path(runner.work_dir)
    return Path(hook.out_dir, Path(runner.work_dir).name)


def _checkpoints_before(newest: Path | None, folder: Path, hook: CheckpointHook) -> list[Path]:
    """List the checkpoints in a folder that are older than a checkpoint, starting with the latest.

    Args:
        newest: The checkpoint, or None to list all checkpoints.
        folder: The folder of the checkpoints.
        hook: The hook that defines how checkpoints are named.
    """
    pattern = re.compile(re.escape(hook.filename_tmpl).replace(r'\{\}', r'(\d+)'))
    limit = pattern.fullmatch(newest.name) if newest else None
    steps = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        match = pattern.fullmatch(path.name)
        if match and (limit is None or int(match[1]) < int(limit[1])):
            steps[int(match[1])] = path
    return [steps[step] for step in sorted(steps, reverse=True)]
