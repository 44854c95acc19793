"""Define the checkpoint hook that tolerates a kill at any moment.

A killed process leaves no half-written checkpoint, and a run can resume from the files that the
process left.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, get_file_backend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from mmaction.registry import HOOKS

from mmdfer.engine.runner.progress import progress, train_loop, unit
from mmdfer.engine.runner.resume_checkpoint import (
    POINTER,
    _not_resumable,
    has_training_state,
    settle_resume,
)
from mmdfer.errors import DFERError
from mmdfer.files import clear_leftovers, write_aside


@register_backend('aside', force=True)
class AsideBackend(LocalBackend):
    """Write local files through temporary files, and optionally postpone the removal of files.

    mmengine's CheckpointHook reads and writes through this file backend when it saves to a local
    disk.
    """

    def __init__(self) -> None:
        self._waiting: list[str] | None = None

    def put(self, obj: bytes, filepath: str | os.PathLike) -> None:
        """Write bytes to a file so that the file is always complete or absent.

        Args:
            obj: The content of the file.
            filepath: The path of the file, which is replaced if it exists.
        """
        with write_aside(filepath) as aside:
            aside.write_bytes(obj)

    def remove(self, filepath: str | os.PathLike) -> None:
        """Remove a file now, or at the end of the surrounding `removing_last` block.

        Args:
            filepath: The path of the file.
        """
        if self._waiting is None:
            super().remove(filepath)
        else:
            self._waiting.append(str(filepath))

    @contextmanager
    def removing_last(self, keep: set[str]) -> Iterator[None]:
        """Postpone every removal to the end of the outermost block.

        Args:
            keep: Paths of files that are not removed at all.

        Yields:
            Nothing. The block saves the files that replace the removed ones.
        """
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
    """Save checkpoints so that every file is complete or absent even if the process is killed.

    The hook extends mmengine's CheckpointHook:

    - A checkpoint and the file `last_checkpoint` are written to a temporary file, synced to disk
      and renamed. An outdated checkpoint, or a former best checkpoint, is removed only after
      `last_checkpoint` or the message hub names its successor.
    - On automatic resume (`resume=True` without `load_from`), a newest checkpoint that cannot be
      read completely is replaced by the one before, with a warning that names both. The hook looks
      for checkpoints in the work directory even if the directory was moved or copied; see
      `settle_resume`.
    - mmengine saves a checkpoint before it validates. A kill between the two loses the validation,
      and possibly the best checkpoint. A resumed run therefore repeats a missing validation before
      it continues to train.
    - Only files in the checkpoint folder are removed, regardless of the paths in a resumed
      checkpoint.

    Checkpoints that are not on a local disk are left to mmengine's CheckpointHook.

    Args:
        max_keep_ckpts: The number of checkpoints to keep in addition to the best one. The default
            is 2, so that there is a checkpoint to fall back to.
        kwargs: Other arguments of `mmengine.hooks.CheckpointHook`.
    """

    # CheckpointHook sets these attributes without types.
    by_epoch: bool
    filename_tmpl: str
    backend_args: dict | None
    best_ckpt_path: str | None

    def __init__(self, *args: Any, max_keep_ckpts: int = 2, **kwargs: Any) -> None:
        super().__init__(*args, max_keep_ckpts=max_keep_ckpts, **kwargs)
        self._local = self._training = False

    # ------------------------------------------------------------ before training

    def before_run(self, runner: Runner) -> None:
        """Choose whether to count epochs or iterations, and the checkpoint to resume from.

        Raises:
            DFERError: If checkpoints exist but none of them can be read. Every rank raises the
                error.
        """
        self._choose_backend(runner)
        self._count_iterations(runner)
        if self._local and train_loop(runner) is not None:
            settle_resume(runner, self)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Refuse to resume from a checkpoint that contains only weights.

        Raises:
            DFERError: If the checkpoint lacks the training state. A best checkpoint lacks it.
        """
        resumes = runner._resume and train_loop(runner) is not None
        if resumes and not has_training_state(checkpoint):
            raise DFERError(_not_resumable(runner._load_from or runner.work_dir))

    def _count_iterations(self, runner: Runner) -> None:
        """Save checkpoints by iteration if the training loop counts iterations.

        A checkpoint is then saved each time the loop validates.
        """
        if not (self.by_epoch and unit(runner) == 'iter'):
            return
        self.by_epoch = False
        self.interval = runner.train_loop.val_interval
        if self.filename_tmpl == 'epoch_{}.pth':
            self.filename_tmpl = 'iter_{}.pth'
        runner.logger.warning(
            f'{type(self).__name__}: the training loop counts iterations, so a checkpoint is saved '
            f'every {self.interval} iterations. Set by_epoch=False and interval to change this'
        )

    def _choose_backend(self, runner: Runner) -> None:
        """Use AsideBackend if the checkpoints go to a local disk."""
        if self.file_client_args is not None or self._local:
            return
        backend = get_file_backend(
            str(self.out_dir or runner.work_dir), backend_args=self.backend_args
        )
        if type(backend) is LocalBackend:
            self._local, self.backend_args = True, {'backend': 'aside'}

    def before_train(self, runner: Runner) -> None:
        """Clean up what a killed run left, and repeat the validation that the kill prevented."""
        self._training = True
        self._choose_backend(runner)
        if not self._local:
            super().before_train(runner)
            return
        info = runner.message_hub.runtime_info
        ids = [step for step in info.get('keep_ckpt_ids', []) if isinstance(step, int)]
        if ids:  # They come from a file: only numbers may become part of the paths to remove.
            runner.message_hub.update_info('keep_ckpt_ids', ids)
        super().before_train(runner)
        self._find_best_here(runner)
        if is_main_process():
            self._clear_leftovers(runner)
        if runner._resume and self._lacks_validation(runner):
            runner.logger.info(
                f'Validating {unit(runner)} {progress(runner)}, because its checkpoint was saved '
                'before its validation'
            )
            runner.val_loop.run()

    def _clear_leftovers(self, runner: Runner) -> None:
        """Remove half-written files and outdated checkpoints that a killed run left."""
        folder, template = Path(self.out_dir), Path(self.filename_tmpl.format('*'))
        for stem in (template.stem, f'best_*{template.stem}'):
            for path in folder.glob(f'.{stem}.*.aside{template.suffix}'):
                path.unlink()
        for path in Path(runner.work_dir).glob(f'.{POINTER}.*.aside'):
            path.unlink()
        # Each training and each test also has its own subfolder, named after its starting time.
        # No later run writes to it, so a killed run may have left half-written files there.
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

    def _find_best_here(self, runner: Runner) -> None:
        """Correct the paths of the best checkpoints if the work directory was moved.

        If the run resumes from another folder, the best checkpoints keep their paths in that
        folder, and this run does not remove them.
        """
        folder, source = Path(self.out_dir), runner._load_from
        if not (self.save_best and runner._resume):
            return
        if source is not None and Path(source).resolve().parent != folder.resolve():
            return
        single = len(self.key_indicators) == 1
        for key in self.key_indicators:
            path = self.best_ckpt_path if single else self.best_ckpt_path_dict[key]
            here = folder / Path(path or '').name
            if path and here != Path(path) and here.is_file():
                runner.message_hub.update_info(
                    'best_ckpt' if single else f'best_ckpt_{key}', str(here)
                )
                if single:
                    self.best_ckpt_path = str(here)
                else:
                    self.best_ckpt_path_dict[key] = str(here)

    def _lacks_validation(self, runner: Runner) -> bool:
        """Return whether the last epoch or iteration should have been validated but was not."""
        loop, step, kind = runner.train_loop, progress(runner), unit(runner)
        known = isinstance(loop, (EpochBasedTrainLoop, IterBasedTrainLoop))
        if not known or runner.val_loop is None or step == 0:
            return False
        loop._decide_current_val_interval()
        end = loop.max_iters if kind == 'iter' else loop.max_epochs
        due = step % loop.val_interval == 0 or step == end
        done = runner.message_hub.runtime_info.get(f'last_validated_{kind}') == step
        return step >= loop.val_begin and due and not done

    # ------------------------------------------------------------ saving

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Save the best checkpoint if the validation is part of training.

        A call of ``Runner.val()`` outside training saves nothing.
        """
        if not self._training:
            return
        # The next checkpoint stores this, so that a resumed run does not repeat the validation.
        runner.message_hub.update_info(f'last_validated_{unit(runner)}', progress(runner))
        super().after_val_epoch(runner, metrics)

    def after_run(self, runner: Runner) -> None:
        """Stop saving, so that a validation after training with the same Runner saves nothing."""
        self._training = False

    def _best_paths(self) -> list[str]:
        """List the paths of the current best checkpoints."""
        if not self.save_best:
            return []
        if len(self.key_indicators) == 1:
            paths = [self.best_ckpt_path]
        else:
            paths = list(self.best_ckpt_path_dict.values())
        return [str(path) for path in paths if path]

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """Save a new best checkpoint, and remove the old one only after the new one is complete."""
        if not (self.save_best and self._local):
            super()._save_best_checkpoint(runner, metrics)
            return
        before = self._best_paths()
        # A run that resumes from another folder must not remove the best checkpoint in it.
        folder = Path(self.out_dir).resolve()
        foreign = {path for path in before if Path(path).resolve().parent != folder}
        outdated = [path for path in before if path not in foreign]
        runner.message_hub.update_info('outdated_best_ckpts', outdated)
        with self.file_backend.removing_last(keep=foreign):
            super()._save_best_checkpoint(runner, metrics)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Save a checkpoint, name it in `last_checkpoint`, and then remove outdated checkpoints.

        mmengine removes the outdated checkpoints first.
        """
        if not self._local:
            super()._save_checkpoint_with_step(runner, step, meta)
            return
        outdated = self._outdated_by(runner, step)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(  # mmengine's decorator lets only rank 0 save.
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
        """Count a checkpoint among those to keep, and return the paths that it makes outdated.

        Args:
            runner: The Runner, whose message hub stores the list for a resumed run.
            step: The epoch or iteration of the new checkpoint.

        Returns:
            The paths of the checkpoints to remove.
        """
        if self.max_keep_ckpts <= 0 or (self.keep_ckpt_ids and self.keep_ckpt_ids[-1] == step):
            return []
        kept = [*self.keep_ckpt_ids, step]
        outdated = kept[: -self.max_keep_ckpts]
        # keep_ckpt_ids is a deque of length max_keep_ckpts, so it drops the outdated steps itself.
        self.keep_ckpt_ids.append(step)
        # The checkpoint stores both lists: if the run is killed before it removes the outdated
        # checkpoints, the resumed run removes them.
        runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        runner.message_hub.update_info('outdated_ckpt_ids', outdated)
        join, template = self.file_backend.join_path, self.filename_tmpl
        return [join(self.out_dir, template.format(old)) for old in outdated]
