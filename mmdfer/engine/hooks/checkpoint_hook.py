"""Saving that survives a kill at any instant, and resuming from what such a kill left."""

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
      read completely gives way to the one before, with a warning that names both. Checkpoints
      are looked for in the work dir, wherever it was moved or copied to; see `settle_resume`.
    - mmengine saves before it validates, so a kill in between would lose that validation, and
      with it perhaps the best checkpoint: a resumed run makes up for it before it trains on.
    - Only files in the checkpoint folder are removed, whatever paths a resumed file names.

    Files elsewhere than on a local disk are left to mmengine as they are.

    Args:
        max_keep_ckpts: how many checkpoints to keep besides the best; two, so that there is
            one to fall back to.
        kwargs: as for `mmengine.hooks.CheckpointHook`.
    """

    # Set by CheckpointHook, which has no types, and here.
    by_epoch: bool
    filename_tmpl: str
    backend_args: dict | None
    best_ckpt_path: str | None

    def __init__(self, *args: Any, max_keep_ckpts: int = 2, **kwargs: Any) -> None:
        super().__init__(*args, max_keep_ckpts=max_keep_ckpts, **kwargs)
        self._local = self._training = False

    # ------------------------------------------------------------ before training

    def before_run(self, runner: Runner) -> None:
        """Count as the training loop does, and decide from what to resume.

        Raises:
            DFERError: Checkpoints exist, but none of them can be read. Every rank raises it.
        """
        self._choose_backend(runner)
        self._count_iterations(runner)
        if self._local and train_loop(runner) is not None:
            settle_resume(runner, self)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Refuse to resume from weights alone.

        Raises:
            DFERError: The checkpoint lacks what training needs, as a best checkpoint does.
        """
        resumes = runner._resume and train_loop(runner) is not None
        if resumes and not has_training_state(checkpoint):
            raise DFERError(_not_resumable(runner._load_from or runner.work_dir))

    def _count_iterations(self, runner: Runner) -> None:
        """Save by iterations, each time the loop validates, where the loop has no epochs."""
        if not (self.by_epoch and unit(runner) == 'iter'):
            return
        self.by_epoch = False
        self.interval = runner.train_loop.val_interval
        if self.filename_tmpl == 'epoch_{}.pth':
            self.filename_tmpl = 'iter_{}.pth'
        runner.logger.warning(
            f'{type(self).__name__}: the training loop counts iterations, so checkpoints are saved '
            f'every {self.interval} iterations; set by_epoch=False and interval to choose'
        )

    def _choose_backend(self, runner: Runner) -> None:
        if self.file_client_args is not None or self._local:
            return
        backend = get_file_backend(
            str(self.out_dir or runner.work_dir), backend_args=self.backend_args
        )
        if type(backend) is LocalBackend:
            self._local, self.backend_args = True, {'backend': 'aside'}

    def before_train(self, runner: Runner) -> None:
        """Clears what a kill left, and makes up for the validation that it cut off."""
        self._training = True
        self._choose_backend(runner)
        if not self._local:
            super().before_train(runner)
            return
        info = runner.message_hub.runtime_info
        ids = [step for step in info.get('keep_ckpt_ids', []) if isinstance(step, int)]
        if ids:  # from a file: no more than numbers goes into the names of what is removed
            runner.message_hub.update_info('keep_ckpt_ids', ids)
        super().before_train(runner)
        self._find_best_here(runner)
        if is_main_process():
            self._clear_leftovers(runner)
        if runner._resume and self._lacks_validation(runner):
            runner.logger.info(
                f'Validating {unit(runner)} {progress(runner)}, which the last run did not save'
            )
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

    def _find_best_here(self, runner: Runner) -> None:
        """Look for the best checkpoints beside the one resumed from, if the folder was moved.

        Those of a run that is resumed elsewhere stay named where they are, and are not removed.
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
        """Save the best checkpoint, in training; ``Runner.val()`` alone saves nothing."""
        if not self._training:
            return
        # Saved with the next checkpoint, so that a resumed run does not repeat this validation.
        runner.message_hub.update_info(f'last_validated_{unit(runner)}', progress(runner))
        super().after_val_epoch(runner, metrics)

    def after_run(self, runner: Runner) -> None:
        """Save nothing at a validation that the same Runner makes after its training."""
        self._training = False

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
