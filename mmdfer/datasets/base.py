"""What all DFER datasets share: named classes, views that are pure functions, and their vectors."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import decord
import numpy as np
import torch
from mmengine.dataset import DefaultSampler
from torch import Tensor

from mmaction.datasets import BaseActionDataset
from mmaction.registry import DATA_SAMPLERS

from mmdfer.datasets.frames import UnreadableClipError
from mmdfer.errors import DFERError

# What decord and MMAction2's transforms raise on a file that is no whole video.
UNREADABLE = (decord.DECORDError, decord.DECORDLimitReachedError, OSError, IndexError, RuntimeError)


class DFERDataset(BaseActionDataset):
    """A dataset of short clips, one expression each.

    A **view** of a clip is one choice of frames, crop and flip: a pure function of the seed, the
    clip and the view's number, whatever the worker, the rank or the order. With ``num_views=V``
    training shows views 0 to V - 1 of a clip in turn, starting from a view of its own, so that a
    frozen tower need encode each only once; without, every epoch shows a new view. In test mode
    there is view 0 alone. The epoch reaches the dataset with the index: see :class:`EpochSampler`.

    A clip that cannot be read is an error in test mode, where leaving it out would change WAR's
    denominator. In training the next clip takes its place; see ``unreadable``.

    A subclass gives ``METAINFO['classes']``, and ``load_data_list``, whose entries hold
    ``filename``, ``label`` and ``clip``, the clip's name within the dataset.

    Args:
        num_views: V. None for a new view in each epoch.
        seed: Of the views.
        kwargs: As for MMAction2's BaseActionDataset.

    Attributes:
        vectors: (clips, V, views of the test pipeline, T, D) frame vectors, once a hook has
            encoded them: the pipeline is then no longer run.
        unreadable: (clips,) int32, shared with the workers: how many pictures of each clip that
            were asked for could not be read, ``LOST`` where the whole clip could not.
    """

    LOST = 2**31 - 1

    def __init__(self, *args: Any, num_views: int | None = None, seed: int = 0, **kw: Any) -> None:
        self.num_views, self.seed = num_views, seed
        self.vectors: Tensor | None = None
        super().__init__(*args, **kw)

    def full_init(self) -> None:
        """Reads the annotation, once."""
        if not self._fully_initialized:
            super().full_init()
            self.unreadable = torch.zeros(len(self), dtype=torch.int32).share_memory_()

    def prepare_data(self, idx: int) -> dict[str, Any]:
        """Reads the view of clip ``idx`` that the epoch shows."""
        index, epoch = int(idx), getattr(idx, 'epoch', 0)
        return self.read_view(index, self.view_at(index, epoch))

    def view_at(self, index: int, epoch: int) -> int:
        """The number of the view that ``epoch`` shows of clip ``index``."""
        if self.test_mode:
            return 0
        if self.num_views is None:
            return epoch
        return (epoch + self._clip_seed(index)) % self.num_views

    def read_view(self, index: int, view: int) -> dict[str, Any]:
        """Reads one view of one clip; in training, of the next clip where it cannot be read.

        Returns:
            ``inputs``, uint8 (views, 3, T, H, W) or encoded (views, T, D), and ``data_samples``.

        Raises:
            UnreadableClipError: In test mode; in training if no clip can be read.
            DFERError: The video is decoded to a wrong shape.
        """
        if self.test_mode:
            return self._read_view(index, view)
        for clip in (*range(index, len(self)), *range(index)):
            if self.unreadable[clip] == self.LOST:
                continue
            try:
                return self._read_view(clip, view)
            except UnreadableClipError:
                self.unreadable[clip] = self.LOST
        raise UnreadableClipError(f'{self.ann_file}: none of its {len(self)} clips can be read')

    def _read_view(self, index: int, view: int) -> dict[str, Any]:
        info = self.get_data_info(index)
        if self.vectors is not None:
            return self.pipeline.transforms[-1](dict(info, imgs=self.vectors[index, view]))
        info['unreadable'] = unreadable = []
        try:
            with _seeded(self.seed, self._clip_seed(index), view):
                data = self.pipeline(info)
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
        self.unreadable[index] = max(len(unreadable), int(self.unreadable[index]))
        return data

    def _clip_seed(self, index: int) -> int:
        return zlib.crc32(self.get_data_info(index)['clip'].encode())


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


class EpochIndex(int):
    """An index that knows its epoch, also in a worker that outlives epochs."""

    def __new__(cls, index: int, epoch: int) -> EpochIndex:
        self = super().__new__(cls, index)
        self.epoch = epoch
        return self

    def __getnewargs__(self) -> tuple[int, int]:
        return int(self), self.epoch


@DATA_SAMPLERS.register_module()
class EpochSampler(DefaultSampler):
    """mmengine's DefaultSampler, whose indices carry the epoch to the dataset."""

    def __iter__(self) -> Iterator[int]:
        """Yields :class:`EpochIndex`."""
        for index in super().__iter__():
            yield EpochIndex(index, self.epoch)
