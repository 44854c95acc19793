"""Define DFERDataset, the base class of all datasets of dynamic facial expressions."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from mmengine.logging import MessageHub
from torch.utils.data import get_worker_info

from mmaction.datasets import BaseActionDataset
from mmaction.registry import DATASETS

from mmdfer.datasets.class_names import match_classes
from mmdfer.datasets.epochs import EpochIndex
from mmdfer.errors import DFERError, UnreadableClipError
from mmdfer.files import read_patiently

try:
    from decord import DECORDError, DECORDLimitReachedError
except ImportError:  # decord has no wheel for ARM, and only MMAction2's transforms need decord
    DECORDError = DECORDLimitReachedError = OSError

# The errors that MMAction2's own transforms raise for a file that is not a complete video.
UNREADABLE = (DECORDError, DECORDLimitReachedError, OSError, IndexError, RuntimeError)


class DFERDataset(BaseActionDataset):
    """Load short clips that are labelled with one expression each, in reproducible views.

    A **view** of a clip is one choice of frames, crop and flip. A view depends only on the seed,
    the clip and the number of the view. It does not depend on the worker, the rank or the order of
    loading.

    - With ``num_views=V``, training cycles through views 0 to V - 1 of each clip, one view in each
      epoch. The first view differs between clips. A frozen image tower then has to encode each
      view only once.
    - With ``num_views=None``, every training epoch shows a new view of each clip.
    - In test mode, each clip has only view 0.

    The sampler passes the epoch to the dataset together with the index; see ``epochs.py``.

    In test mode, a clip that cannot be read is an error, because leaving the clip out would change
    the denominator of the WAR. In training, the next readable clip takes its place, and the
    attribute ``unreadable`` records the clip.

    A subclass defines ``METAINFO['classes']`` and ``load_data_list``. Each entry that
    ``load_data_list`` returns has the keys ``filename``, ``label`` and ``clip``. The value of
    ``clip`` is a name that is unique within the dataset.

    Args:
        ann_file: Path of the annotation file, as in MMAction2's BaseActionDataset.
        pipeline: The data transforms, as in BaseActionDataset.
        num_views: Number of views V of each training clip. None shows a new view in each epoch.
        seed: Random seed from which all views are derived.
        model_classes: Class names of a model that was trained on another dataset, in the order of
            its logits. The labels become indices into these names, by the table in
            ``class_names.py``, and clips of other classes are left out. By default, labels are
            those of the dataset.
        args, kwargs: Further arguments of BaseActionDataset.

    Attributes:
        unreadable: Tensor (clips,) of int32 in memory that is shared with the workers. For each
            clip, the number of requested pictures that could not be read, or ``LOST`` if the whole
            clip could not be read.
        left_out: Number of clips that ``model_classes`` leaves out, by class name.

    Raises:
        DFERError: If ``model_classes`` and the classes of the dataset do not match, or if no clip
            remains.
    """

    #: The value in ``unreadable`` of a clip that could not be read at all.
    LOST = 2**31 - 1
    #: Number of cross-validation folds of the dataset, or 0 if it has a single split.
    FOLDS: ClassVar[int] = 0
    #: Whether the zero-shot test reads the captions of this dataset, if no config decides it.
    TEST_CAPTIONS: ClassVar[bool] = True

    def __init__(
        self,
        ann_file: str,
        pipeline: Sequence[Any],
        *args: Any,
        num_views: int | None = None,
        seed: int = 0,
        model_classes: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        self.model_classes, self.left_out = model_classes, dict[str, int]()
        self.num_views, self.seed, self.pipeline_config = num_views, seed, list(pipeline)
        self._seeds: dict[int, int] = {}
        super().__init__(ann_file, pipeline, *args, **kwargs)

    @classmethod
    def check_root(cls, data_root: str) -> None:
        """Raise DFERError if a folder cannot be the ``data_root`` of this dataset.

        Commands call this method before a model is built, which may take long or download weights.
        By default every folder is accepted.
        """

    def full_init(self) -> None:
        """Read the annotation file. Calls after the first one do nothing."""
        if not self._fully_initialized:
            super().full_init()
            self.unreadable = torch.zeros(len(self), dtype=torch.int32).share_memory_()

    def filter_data(self) -> list[dict[str, Any]]:
        """Return the annotation entries to use; BaseDataset calls this method.

        With ``model_classes``, labels become those of the model, and ``metainfo`` gets its classes
        and the names of the ``shared`` ones.
        """
        if self.model_classes is None:
            return super().filter_data()
        own = self.metainfo['classes']
        match = match_classes(self.model_classes, own)
        self.left_out = dict.fromkeys(match.left_out, 0)
        kept = []
        for entry in self.data_list:
            label = match.labels[entry['label']]
            if label is None:
                self.left_out[own[entry['label']]] += 1
            else:
                kept.append(dict(entry, label=label))
        if not kept:
            raise DFERError(
                f'{type(self).__name__}: no clip has one of the classes {", ".join(match.shared)}; '
                'test on another dataset'
            )
        self._metainfo.update(classes=tuple(self.model_classes), shared=match.shared)
        return kept

    @property
    def source(self) -> dict[str, Any]:
        """Return the settings, as JSON values, on which the pictures of a named clip depend.

        A feature bank stores these settings. Two datasets with the same clip names but different
        pictures must return different values here, so that they never share a bank.
        """
        return dict(dataset=self.metainfo.get('dataset', type(self).__name__))

    def other_splits(self) -> list[DFERDataset]:
        """Return datasets of the clips in the other splits of this fold.

        A feature bank also encodes the clips of these datasets, so that one bank serves all folds.
        By default there are no such datasets.
        """
        return []

    def clip_names(self) -> list[str]:
        """Return the name of each clip, in the order of the dataset."""
        return [self.get_data_info(index)['clip'] for index in range(len(self))]

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the class of a clip as a list of one; ClassBalancedDataset calls this method."""
        return [self.get_data_info(idx)['label']]

    # ------------------------------------------------------------------ views

    def view_at(self, index: int, epoch: int) -> int:
        """Return the number of the view of clip ``index`` that is shown in ``epoch``."""
        if self.test_mode:
            return 0
        if self.num_views is None:
            return epoch
        return (epoch + self._clip_seed(index)) % self.num_views

    def prepare_data(self, idx: int) -> dict[str, Any]:
        """Read clip ``idx`` in the view of the current epoch; mmengine calls this for each item."""
        return self.read_view(int(idx), self.choose_view(idx))

    def read_view(self, index: int, view: int) -> dict[str, Any]:
        """Read one view of one clip, or in training of the next clip if this one is unreadable.

        Args:
            index: Index of the clip in the dataset.
            view: Number of the view.

        Returns:
            The item of the clip: ``inputs``, a uint8 tensor (views, 3, T, H, W), and
            ``data_samples``. The first axis holds the frame sequences that the pipeline returns:
            one, or several if the test pipeline samples several sequences or crops.

        Raises:
            UnreadableClipError: If the clip cannot be read in test mode, or if no clip of the
                dataset can be read in training.
            DFERError: If the video is decoded to a wrong shape.
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
        """Run the pipeline for one view of a clip, with random generators seeded for that view.

        Args:
            info: Annotation entry of the clip, from this dataset or from another one.
            view: Number of the view.
            pipeline: Pipeline to run. By default, the pipeline of this dataset.

        Returns:
            The item, as :meth:`read_view` returns it, and the number of pictures that could not be
            read.

        Raises:
            UnreadableClipError: If the clip cannot be read.
            DFERError: If the video is decoded to a wrong shape.
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
                'restore the file, or leave out the clip'
            ) from error
        if data['inputs'].shape[1] != 3:
            raise DFERError(
                f'{info["filename"]}: the decoded frames have shape {tuple(data["inputs"].shape)}, '
                'not 3 channels, because decord misreads this frame size; use OpenCVInit and '
                'OpenCVDecode in the pipeline'
            )
        return data, len(unreadable)

    def find_substitute(self, index: int) -> int:
        """Return ``index``, or in training the index of the next clip if this one is unreadable.

        Only clips that are already known to be unreadable, which ``unreadable`` marks as ``LOST``,
        are skipped. The search continues from the first clip after the last one.

        Raises:
            UnreadableClipError: If all clips of the dataset are unreadable.
        """
        lost = self.unreadable.numpy()
        if self.test_mode or lost[index] != self.LOST:
            return index
        for clip in chain(range(index, len(self)), range(index)):
            if lost[clip] != self.LOST:
                return clip
        raise UnreadableClipError(
            f'{self.ann_file}: none of its {len(self)} clips can be read; restore the files, or '
            'correct data_root'
        )

    def choose_view(self, index: int) -> int:
        """Return the number of the view to show for an index that a sampler gave.

        Args:
            index: Index of the clip. The epoch is read from an :class:`EpochIndex`. For a plain
                integer, the epoch of the current Runner is used.

        Raises:
            DFERError: If a worker process gets a plain integer in training: workers do not know
                the epoch of the Runner.
        """
        if isinstance(index, EpochIndex):
            return self.view_at(int(index), index.epoch)
        return self.view_at(int(index), 0 if self.test_mode else _get_run_epoch())

    def _clip_seed(self, index: int) -> int:
        """Return the seed of a clip, which is computed once."""
        if index not in self._seeds:
            self._seeds[index] = _derive_seed(self.get_data_info(index))
        return self._seeds[index]


D = TypeVar('D')


def find_datasets(dataset: Any, kind: type[D]) -> Iterator[D]:
    """Yield all datasets of a class inside nested dataset wrappers.

    Args:
        dataset: A dataset, or a wrapper such as mmengine's RepeatDataset or ConcatDataset.
        kind: The class to find. If a dataset of this class is itself a wrapper, the datasets that
            it wraps are not searched.
    """
    if isinstance(dataset, kind):
        yield dataset
        return
    for inner in list_wrapped(dataset):
        yield from find_datasets(inner, kind)


def check_roots(part: Any) -> None:
    """Check the ``data_root`` of each dataset in the config of a loader.

    Args:
        part: The config, or a part of it. Datasets of other packages are not checked.

    Raises:
        DFERError: If a folder cannot be that of its dataset.
    """
    if isinstance(part, (list, tuple)):
        for value in part:
            check_roots(value)
    elif isinstance(part, dict):
        for value in part.values():
            check_roots(value)
        kind = find_dataset_class(part)
        if part.get('data_root') and kind is not None:
            kind.check_root(part['data_root'])


def find_dataset_class(part: Mapping[str, Any]) -> type[DFERDataset] | None:
    """Return the class of the dataset that a config describes.

    Args:
        part: The config.

    Returns:
        The class, or None if the config has no ``type``, or one that is not a DFERDataset.
    """
    kind = part.get('type')
    kind = DATASETS.get(kind) if isinstance(kind, str) else kind
    return kind if isinstance(kind, type) and issubclass(kind, DFERDataset) else None


def list_wrapped(dataset: Any) -> list[Any]:
    """Return the datasets that a wrapper holds, or an empty list if `dataset` is not a wrapper."""
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    return [part for part in inner if part is not None]


def _get_run_epoch() -> int:
    """Return the current epoch of the Runner, or 0 if no Runner is training.

    Raises:
        DFERError: If a worker process calls this function during training: the epoch that a worker
            knows is the one in which it was started.
    """
    epoch = MessageHub.get_current_instance().runtime_info.get('epoch')
    if epoch is not None and get_worker_info() is not None:
        raise DFERError(
            'the sampler of train_dataloader does not tell the epoch to the dataset, but the views '
            "of a clip depend on the epoch; derive the sampler from mmengine's DefaultSampler, or "
            'make it yield mmdfer.datasets.EpochIndex(index, epoch), or set num_workers=0'
        )
    return int(epoch or 0)


def _derive_seed(info: dict[str, Any]) -> int:
    """Derive the seed of a clip from its name."""
    return zlib.crc32(info['clip'].encode())


@contextmanager
def _seeded(*entropy: int) -> Iterator[None]:
    """Seed the random generators of Python, NumPy and PyTorch, and restore their states at exit."""
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
