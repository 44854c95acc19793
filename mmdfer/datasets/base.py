"""What all DFER datasets share: named classes, views that are pure functions, and their vectors."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from mmengine.logging import MessageHub
from torch.utils.data import get_worker_info

from mmaction.datasets import BaseActionDataset

from mmdfer.datasets.epochs import EpochIndex
from mmdfer.errors import DFERError, UnreadableClipError
from mmdfer.files import read_patiently

try:
    from decord import DECORDError, DECORDLimitReachedError
except ImportError:  # it has no wheel for ARM, and only MMAction2's transforms need it
    DECORDError = DECORDLimitReachedError = OSError

# What MMAction2's own transforms raise on a file that is no whole video.
UNREADABLE = (DECORDError, DECORDLimitReachedError, OSError, IndexError, RuntimeError)


class DFERDataset(BaseActionDataset):
    """A dataset of short clips, one expression each.

    A **view** of a clip is one choice of frames, crop and flip: a pure function of the seed, the
    clip and the view's number, whatever the worker, the rank or the order. With ``num_views=V``
    training shows views 0 to V - 1 of a clip in turn, starting from a view of its own, so that a
    frozen tower need encode each only once; without, every epoch shows a new view. In test mode
    there is view 0 alone. The epoch reaches the dataset with the index: see ``epochs.py``.

    A clip that cannot be read is an error in test mode, where leaving it out would change WAR's
    denominator. In training the next clip takes its place; see ``unreadable``.

    A subclass gives ``METAINFO['classes']``, and ``load_data_list``, whose entries hold
    ``filename``, ``label`` and ``clip``, the clip's name within the dataset.

    Args:
        ann_file: As for MMAction2's BaseActionDataset.
        pipeline: As there.
        num_views: V. None for a new view in each epoch.
        seed: Of the views.
        args, kwargs: As for BaseActionDataset.

    Attributes:
        unreadable: (clips,) int32, shared with the workers: how many pictures of each clip that
            were asked for could not be read, ``LOST`` where the whole clip could not.
    """

    LOST = 2**31 - 1
    #: Folds of the dataset, whose clips are trained on in one and tested on in another; or 0.
    FOLDS: ClassVar[int] = 0

    def __init__(
        self,
        ann_file: str,
        pipeline: Sequence[Any],
        *args: Any,
        num_views: int | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        self.num_views, self.seed, self.pipeline_config = num_views, seed, list(pipeline)
        self._seeds: dict[int, int] = {}
        super().__init__(ann_file, pipeline, *args, **kwargs)

    def full_init(self) -> None:
        """Reads the annotation, once."""
        if not self._fully_initialized:
            super().full_init()
            self.unreadable = torch.zeros(len(self), dtype=torch.int32).share_memory_()

    @property
    def source(self) -> dict[str, Any]:
        """What tells this dataset's clips from others of the same names; JSON values."""
        return dict(dataset=self.metainfo.get('dataset', type(self).__name__))

    def other_splits(self) -> list[DFERDataset]:
        """Return the clips that this fold leaves to another split, as datasets; none by default."""
        return []

    def clip_names(self) -> list[str]:
        """The name of each clip within the dataset."""
        return [self.get_data_info(index)['clip'] for index in range(len(self))]

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the classes of a clip, by which ClassBalancedDataset samples."""
        return [self.get_data_info(idx)['label']]

    # ------------------------------------------------------------------ views

    def view_at(self, index: int, epoch: int) -> int:
        """The number of the view that ``epoch`` shows of clip ``index``."""
        if self.test_mode:
            return 0
        if self.num_views is None:
            return epoch
        return (epoch + self._clip_seed(index)) % self.num_views

    def prepare_data(self, idx: int) -> dict[str, Any]:
        """Reads the view of clip ``idx`` that the epoch shows."""
        return self.read_view(int(idx), self.choose_view(idx))

    def read_view(self, index: int, view: int) -> dict[str, Any]:
        """Reads one view of one clip; in training, of the next clip where it cannot be read.

        Returns:
            ``inputs``, uint8 (views, 3, T, H, W), and ``data_samples``.

        Raises:
            UnreadableClipError: In test mode; in training if no clip can be read.
            DFERError: The video is decoded to a wrong shape.
        """
        while True:
            clip = self.find_substitute(index)
            try:
                data, unreadable = self.read_frames(self.get_data_info(clip), view)
            except UnreadableClipError:
                if self.test_mode:
                    raise
                self.unreadable[clip] = self.LOST
                continue
            self.unreadable[clip] = max(unreadable, int(self.unreadable[clip]))
            return data

    def read_frames(
        self, info: dict[str, Any], view: int, pipeline: Callable | None = None
    ) -> tuple[dict[str, Any], int]:
        """Runs the pipeline, or another, for one view of a clip.

        Args:
            info: An entry of the annotation, this dataset's or another's.
            view: The view's number.
            pipeline: In place of the dataset's own.

        Returns:
            As :meth:`read_view`, and how many pictures could not be read.

        Raises:
            UnreadableClipError: The clip cannot be read.
            DFERError: The video is decoded to a wrong shape.
        """
        unreadable: list[str] = []

        def run() -> dict[str, Any]:
            with _seeded(self.seed, _derive_seed(info), view):
                return (pipeline or self.pipeline)(dict(info, unreadable=unreadable))

        try:
            data = read_patiently(run, info['filename'])
        except UNREADABLE as error:
            reason = f'{type(error).__name__}: {str(error).strip().splitlines()[-1]}'
            raise UnreadableClipError(
                f'{info["filename"]}: cannot be read as a video ({reason}); '
                'restore the file, or take the clip off the list'
            ) from error
        if data['inputs'].shape[1] != 3:
            raise DFERError(
                f'{info["filename"]}: decoded to {tuple(data["inputs"].shape)}, not to 3 channels: '
                'decord misreads this frame size; decode with OpenCVInit and OpenCVDecode'
            )
        return data, len(unreadable)

    def find_substitute(self, index: int) -> int:
        """Return the clip itself; in training the next one that is not lost.

        Raises:
            UnreadableClipError: All clips are lost.
        """
        lost = self.unreadable.numpy()
        if self.test_mode or lost[index] != self.LOST:
            return index
        for clip in chain(range(index, len(self)), range(index)):
            if lost[clip] != self.LOST:
                return clip
        raise UnreadableClipError(f'{self.ann_file}: none of its {len(self)} clips can be read')

    def choose_view(self, index: int) -> int:
        """Return the number of the view that an index shows, which carries the epoch.

        Raises:
            DFERError: The index does not carry the epoch, and a worker does not learn of it.
        """
        if isinstance(index, EpochIndex):
            return self.view_at(int(index), index.epoch)
        return self.view_at(int(index), 0 if self.test_mode else _get_run_epoch())

    def _clip_seed(self, index: int) -> int:
        if index not in self._seeds:
            self._seeds[index] = _derive_seed(self.get_data_info(index))
        return self._seeds[index]


D = TypeVar('D')


def find_datasets(dataset: Any, kind: type[D]) -> Iterator[D]:
    """Yield the datasets of a class among a dataset and what it wraps.

    Args:
        dataset: A dataset, or a wrapper such as mmengine's RepeatDataset or ConcatDataset.
        kind: The class. What a dataset of this class wraps is not looked into.
    """
    if isinstance(dataset, kind):
        yield dataset
        return
    for inner in list_wrapped(dataset):
        yield from find_datasets(inner, kind)


def list_wrapped(dataset: Any) -> list[Any]:
    """Return the datasets that a wrapper holds, once each; none of what is no wrapper."""
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    return [part for part in inner if part is not None]


def _get_run_epoch() -> int:
    """Return the epoch that a Runner trains, for an index that does not carry it; 0 without one.

    Raises:
        DFERError: In a worker, which does not learn of the next epoch.
    """
    epoch = MessageHub.get_current_instance().runtime_info.get('epoch')
    if epoch is not None and get_worker_info() is not None:
        raise DFERError(
            'the sampler of train_dataloader does not tell the epoch, on which the views of a clip '
            "depend; derive it from mmengine's DefaultSampler, have it yield "
            'mmdfer.datasets.EpochIndex(index, epoch), or set num_workers=0'
        )
    return int(epoch or 0)


def _derive_seed(info: dict[str, Any]) -> int:
    return zlib.crc32(info['clip'].encode())


@contextmanager
def _seeded(*entropy: int) -> Iterator[None]:
    """Seeds the generators that transforms draw from, and puts them back."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
