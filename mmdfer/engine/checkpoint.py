"""Saving that survives a kill at any instant, and resuming from what such a kill left."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.fileio import LocalBackend, get_file_backend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmaction.registry import HOOKS

from mmdfer.compat import load_from_local
from mmdfer.errors import DFERError
from mmdfer.files import clear_leftovers, write_aside

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


@register_backend('aside', force=True)
class AsideBackend(LocalBackend):
    """Local files, written aside; what is to be removed can be made to wait."""

    def __init__(self) -> None:
        self._waiting: list[str] | None = None

    def put(self, obj: bytes, filepath: str | os.PathLike) -> None:
        """Writes bytes so that the file is whole or absent."""
        with write_aside(filepath) as aside:
            aside.write_bytes(obj)

    def remove(self, filepath: str | os.PathLike) -> None:
        """Removes a file, at once or when `removing_last` ends."""
        if self._waiting is None:
            super().remove(filepath)
        else:
            self._waiting.append(str(filepath))

    @contextmanager
    def removing_last(self, keep: set[str]) -> Iterator[None]:
        """Puts off every removal to the end of the outermost block, but for files in `keep`."""
        if self._waiting is not None:
            yield
            return
        self._waiting = []
        try:
            yield
            outdated = [path for path in self._waiting if path not in keep and self.isfile(path)]
        finally:
            self._waiting = None
        for path in outdated:
            super().remove(path)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook, with every file whole or absent whenever the process dies.

    - A checkpoint and the file `last_checkpoint` are written aside, synced and renamed;
      outdated and formerly best checkpoints are removed once their successors are named.
    - On automatic resume (`resume=True`, no `load_from`), a newest checkpoint that does not
      read completely gives way to the one before, with a warning that names both.
    - mmengine saves before it validates, so a kill in between would lose that validation, and
      with it perhaps the best checkpoint: a resumed run makes up for it before it trains on.
    - Only files in the checkpoint folder are removed, whatever paths a resumed file names.

    Files elsewhere than on a local disk are left to mmengine as they are.

    Args:
        max_keep_ckpts: how many checkpoints to keep besides the best; two, so that there is
            one to fall back to.
        kwargs: as for `mmengine.hooks.CheckpointHook`.
    """

    def __init__(self, *args: Any, max_keep_ckpts: int = 2, **kwargs: Any) -> None:
        super().__init__(*args, max_keep_ckpts=max_keep_ckpts, **kwargs)
        self._local = False

    # ------------------------------------------------------------ before training

    def before_run(self, runner: Runner) -> None:
        """Points an automatic resume to the newest checkpoint that reads completely.

        Raises:
            DFERError: on every rank, if no checkpoint does.
        """
        self._choose_backend(runner)
        automatic = runner._resume and runner._load_from is None and not runner._has_loaded
        if not (self._local and automatic):
            return
        problem = [self._point_to_readable(runner) if is_main_process() else None]
        broadcast_object_list(problem)  # the other ranks wait here until the pointer is right
        if problem[0] is not None:
            raise DFERError(problem[0])

    def _choose_backend(self, runner: Runner) -> None:
        if self.file_client_args is not None or self._local:
            return
        backend = get_file_backend(
            str(self.out_dir or runner.work_dir), backend_args=self.backend_args
        )
        if type(backend) is LocalBackend:
            self._local, self.backend_args = True, {'backend': 'aside'}

    def _point_to_readable(self, runner: Runner) -> str | None:
        """Rewrites `last_checkpoint` if it has to; returns an error line if none reads."""
        pointer = Path(runner.work_dir, POINTER)
        if not pointer.is_file():
            return None  # nothing was saved: mmengine starts from the beginning
        newest = Path(pointer.read_text().strip() or 'unnamed')
        reason = why_unreadable(newest)
        if reason is None:
            return None
        for older in self._checkpoints_before(newest, self._folder(runner)):
            if why_unreadable(older) is None:
                runner.logger.warning(
                    f'{newest} cannot be resumed from ({reason}); falling back to {older}'
                )
                with write_aside(pointer) as aside:
                    aside.write_text(str(older))
                return None
        return (
            f'{pointer}: names {newest}, which cannot be resumed from ({reason}), and no earlier '
            'checkpoint reads completely; remove the file to train from the beginning'
        )

    def _folder(self, runner: Runner) -> Path:
        """Where this hook saves, by mmengine's rule (`before_train` puts it into `out_dir`)."""
        if self.out_dir is None or str(self.out_dir) == str(runner.work_dir):
            return Path(runner.work_dir)
        return Path(self.out_dir, Path(runner.work_dir).name)

    def _checkpoints_before(self, newest: Path, folder: Path) -> list[Path]:
        """The folder's checkpoints of an earlier step than `newest`, the latest first."""
        pattern = re.compile(re.escape(self.filename_tmpl).replace(r'\{\}', r'(\d+)'))
        limit = pattern.fullmatch(newest.name)
        steps = {}
        for path in folder.iterdir() if folder.is_dir() else ():
            match = pattern.fullmatch(path.name)
            if match and (limit is None or int(match[1]) < int(limit[1])):
                steps[int(match[1])] = path
        return [steps[step] for step in sorted(steps, reverse=True)]

    def before_train(self, runner: Runner) -> None:
        """Clears what a kill left, and makes up for the validation that it cut off."""
        self._choose_backend(runner)
        if not self._local:
            super().before_train(runner)
            return
        info = runner.message_hub.runtime_info
        ids = [step for step in info.get('keep_ckpt_ids', []) if isinstance(step, int)]
        if ids:  # from a file: no more than numbers goes into the names of what is removed
            runner.message_hub.update_info('keep_ckpt_ids', ids)
        super().before_train(runner)
        if is_main_process():
            self._clear_leftovers(runner)
        if runner._resume and self._lacks_validation(runner):
            runner.logger.info(f'Validating epoch {runner.epoch}, which the last run did not save')
            runner.val_loop.run()

    def _clear_leftovers(self, runner: Runner) -> None:
        """Removes half-written files, and what was outdated when the last run was killed."""
        folder, template = Path(self.out_dir), Path(self.filename_tmpl.format('*'))
        for stem in (template.stem, f'best_*{template.stem}'):
            for path in folder.glob(f'.{stem}.*.aside{template.suffix}'):
                path.unlink()
        for path in Path(runner.work_dir).glob(f'.{POINTER}.*.aside'):
            path.unlink()
        # Below it, each training and each test has a folder of its own that is named after its
        # start: what a killed one was drawing or writing there nobody will write again.
        begun = [path for path in Path(runner.work_dir).glob('[0-9]*_[0-9]*') if path.is_dir()]
        for place in (folder, Path(runner.work_dir), *begun):
            clear_leftovers(place)
        info = runner.message_hub.runtime_info
        outdated = [
            folder / self.filename_tmpl.format(step)
            for step in info.get('outdated_ckpt_ids', [])
            if isinstance(step, int)
        ]
        best = [Path(path).name for path in info.get('outdated_best_ckpts', [])]
        outdated += [folder / name for name in best if name.startswith('best_')]
        current = {Path(path).name for path in self._best_paths()}
        for path in outdated:
            if path.name not in current and path.is_file():
                path.unlink()

    def _lacks_validation(self, runner: Runner) -> bool:
        loop, epoch = runner.train_loop, runner.epoch
        if not isinstance(loop, EpochBasedTrainLoop) or runner.val_loop is None or epoch == 0:
            return False
        loop._decide_current_val_interval()
        due = epoch % loop.val_interval == 0 or epoch == loop.max_epochs
        done = runner.message_hub.runtime_info.get('last_validated_epoch') == epoch
        return epoch >= loop.val_begin and due and not done

    # ------------------------------------------------------------ saving

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Saves the best checkpoint; its successor in the folder knows of this validation."""
        runner.message_hub.update_info('last_validated_epoch', runner.epoch)
        super().after_val_epoch(runner, metrics)

    def _best_paths(self) -> list[str]:
        if not self.save_best:
            return []
        if len(self.key_indicators) == 1:
            paths = [self.best_ckpt_path]
        else:
            paths = list(self.best_ckpt_path_dict.values())
        return [str(path) for path in paths if path]

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """mmengine's, whose removal of the old best waits until the new one is in place."""
        if not (self.save_best and self._local):
            super()._save_best_checkpoint(runner, metrics)
            return
        before = self._best_paths()
        # A run resumed elsewhere must not remove the best checkpoint of the run it came from.
        folder = Path(self.out_dir).resolve()
        foreign = {path for path in before if Path(path).resolve().parent != folder}
        outdated = [path for path in before if path not in foreign]
        runner.message_hub.update_info('outdated_best_ckpts', outdated)
        with self.file_backend.removing_last(keep=foreign):
            super()._save_best_checkpoint(runner, metrics)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Write, name in `last_checkpoint`, then remove: mmengine removes first."""
        if not self._local:
            super()._save_checkpoint_with_step(runner, step, meta)
            return
        outdated = self._outdated_by(runner, step)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(  # on rank 0 only, by its own decorator
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if not is_main_process():
            return
        with write_aside(Path(runner.work_dir, POINTER)) as aside:
            aside.write_text(self.last_ckpt)
        for path in outdated:
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)

    def _outdated_by(self, runner: Runner, step: int) -> list[str]:
        """Counts `step` among the kept, and returns the paths of those it pushes out."""
        if self.max_keep_ckpts <= 0 or (self.keep_ckpt_ids and self.keep_ckpt_ids[-1] == step):
            return []
        kept = [*self.keep_ckpt_ids, step]
        outdated = kept[: -self.max_keep_ckpts]
        self.keep_ckpt_ids.append(step)  # a deque of that length: it drops the same
        # Saved with the checkpoint, so that a run killed before it removes them does so later.
        runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        runner.message_hub.update_info('outdated_ckpt_ids', outdated)
        join, template = self.file_backend.join_path, self.filename_tmpl
        return [join(self.out_dir, template.format(old)) for old in outdated]
