"""The dataset wrapper that encodes the views of its clips once, and serves their features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from mmengine.dataset import Compose
from torch import Tensor
from torch.utils.data import Dataset

from mmaction.registry import DATASETS
from mmaction.structures import ActionDataSample

from mmdfer.datasets import DFERDataset
from mmdfer.datasets.transforms.shuffle_frames import ShuffleFrames
from mmdfer.errors import DFERError, UnreadableClipError
from mmdfer.features.bank import map_vectors
from mmdfer.features.encoder import FeatureEncoder, shared_encoder
from mmdfer.features.extraction import Extractor, Views, encode_to_memory, fill_bank, list_clips
from mmdfer.models.data_preprocessors.clip_preprocessor import check_blending


@DATASETS.register_module()
class EncodedClips(Dataset):
    """Serve the frame features of a dataset's clips, each view encoded once by a frozen CLIP.

    ::

        dataset=dict(type='EncodedClips', dataset=dict(type='DFEW', num_views=8, ...))

    ``full_init``, which mmengine calls in the main process of every rank when it builds the loader,
    decodes and encodes the V views of each training clip, or the test view of each test clip. The
    ranks share the clips, and each ends with the features of all. Without a bank these are kept in
    memory in float32, for this run; in a bank they are kept on disk in half precision, for every
    run, fold and text head over the same views and weights. Clips whose files have changed since
    are encoded again.

    An item is ``features``, the vectors (views, T, D) of one view of one clip; ``encoder``, the
    digest of what has encoded them; and ``data_samples``. Repeating, balancing and concatenating
    wrappers go around this one.

    Args:
        dataset: Config of a DFERDataset, or a dataset. In training it needs ``num_views``.
        encoder: Arguments of :class:`FeatureEncoder`: ``backbone`` and ``data_preprocessor``; or
            one that is built. By default those of the model that the Runner trains or tests.
        bank: A folder, in which the banks are ``train`` and ``test``; True for a folder below
            ``work_dirs/banks`` that is named after what the vectors depend on; None keeps them in
            memory.
        batch_size: Views in a pass through the encoder.
        num_workers: Processes that decode.
        misplaced: Options of the inner dataset, which are refused here.

    Attributes:
        features: (rows, V, views of the test pipeline, T, D); encoded by ``full_init``.
        rows: (clips,) the row of each clip in ``features``.

    Raises:
        DFERError: The inner dataset is not a DFERDataset or shows a new view in each epoch, an
            option belongs to it, or training batches are to be mixed (MixUp, CutMix).
    """

    def __init__(
        self,
        dataset: Mapping[str, Any] | DFERDataset,
        encoder: Mapping[str, Any] | FeatureEncoder | None = None,
        bank: str | Literal[True] | None = None,
        batch_size: int = 16,
        num_workers: int = 2,
        **misplaced: Any,
    ) -> None:
        if misplaced:
            key = next(iter(misplaced))
            raise DFERError(
                f'EncodedClips has no option {key!r}: an option of the clips belongs to the '
                f'dataset inside, for example train_dataloader.dataset.dataset.{key}'
            )
        built = dataset if isinstance(dataset, Dataset) else DATASETS.build(dataset)
        if not isinstance(built, DFERDataset):
            raise DFERError(
                f"EncodedClips: encodes the clips of mmdfer's datasets, not a "
                f'{type(built).__name__}: put EncodedClips around each dataset, and other wrappers '
                'around EncodedClips'
            )
        if not built.test_mode and built.num_views is None:
            raise DFERError(
                'EncodedClips: the training set shows a new view each epoch: set its num_views'
            )
        self.dataset, self.encoder, self.bank = built, encoder, bank
        self.batch_size, self.num_workers = batch_size, num_workers
        self._features: Tensor | None = None
        self._mapped: tuple[Path, tuple[int, ...]] | None = None  # the file that features map
        self.rows = torch.arange(len(built))
        self._digest = ''
        self._samples: dict[int, ActionDataSample] = {}
        if isinstance(encoder, Mapping) and not built.test_mode:
            check_blending(encoder.get('data_preprocessor'))

    # ---------------------------------------------------------------- the inner dataset

    @property
    def metainfo(self) -> dict[str, Any]:
        """Return the meta information of the dataset inside."""
        return self.dataset.metainfo

    @property
    def test_mode(self) -> bool:
        """Return whether the dataset inside shows test views."""
        return self.dataset.test_mode

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.dataset)

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Return the annotation of a clip."""
        return self.dataset.get_data_info(idx)

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the classes of a clip, by which ClassBalancedDataset samples."""
        return self.dataset.get_cat_ids(idx)

    # ---------------------------------------------------------------- encoding

    @property
    def features(self) -> Tensor:
        """Return the features of all clips.

        Raises:
            DFERError: They are not encoded yet. A worker must not do so.
        """
        if self._features is None:
            raise DFERError(
                'EncodedClips: the clips are not encoded yet: call full_init() first, as mmengine '
                'does when it builds a loader'
            )
        return self._features

    @features.setter
    def features(self, features: Tensor) -> None:
        self._features, self._mapped = features, None

    def full_init(self) -> None:
        """Encode the views, once. Every rank has to call this.

        Raises:
            DFERError: No encoder is known, the bank is of other settings, or in test mode a clip
                cannot be read.
        """
        if self._features is not None:
            return
        if self.encoder is None:
            raise DFERError(
                'EncodedClips: no model has been built from whose config the encoder follows: give '
                "encoder=dict(backbone=dict(type='FrozenCLIP', arch=...))"
            )
        given = self.encoder
        encoder = given if isinstance(given, FeatureEncoder) else shared_encoder(given)
        self._digest = encoder.digest
        extractor = Extractor(encoder, self.batch_size, self.num_workers)
        kind = 'test' if self.test_mode else 'train'
        if self.bank is None:
            views = Views(self.dataset, list_clips([self.dataset]))
            self._features, unreadable = encode_to_memory(extractor, views, kind)
        else:
            self._features, unreadable = self._read_bank(extractor, self.bank, kind)
        for index, clip in enumerate(self.dataset.clip_names()):
            self.dataset.unreadable[index] = unreadable.get(clip, 0)
        self._check_lost()

    def _read_bank(
        self, extractor: Extractor, bank: str | Literal[True], kind: str
    ) -> tuple[Tensor, dict[str, int]]:
        """Return a bank's vectors, and of each clip how many pictures could not be read.

        The bank holds the clips of all folds, so that it is encoded once for all of them.
        """
        views = Views(self.dataset, list_clips([self.dataset, *self.dataset.other_splits()]))
        opened, names = fill_bank(extractor, views, bank, kind)
        rows, counts = opened.rows, opened.unreadable
        self.rows = torch.tensor([rows[names[clip]] for clip in self.dataset.clip_names()])
        vectors = opened.vectors
        self._mapped = opened.file, tuple(vectors.shape)
        return vectors, {clip: counts.get(name, 0) for clip, name in names.items()}

    def _check_lost(self) -> None:
        """Raise UnreadableClipError where a test clip was lost when its features were encoded."""
        lost = (self.dataset.unreadable == DFERDataset.LOST).nonzero().flatten().tolist()
        if lost and self.test_mode:
            name = self.get_data_info(lost[0])['filename']
            raise UnreadableClipError(
                f'{name}: could not be read when the bank was encoded; restore the file, or delete '
                'the bank if the file is whole'
            )

    # ---------------------------------------------------------------- workers

    def __getstate__(self) -> dict[str, Any]:
        """Return what a worker needs that does not share this process's memory: no encoder.

        A map of a bank cannot be sent, and a copy of it would fill the memory: see below.
        """
        state = dict(vars(self))
        if self._features is not None:
            state['encoder'] = None
        if self._mapped is not None:
            state['_features'] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map the bank again."""
        vars(self).update(state)
        if self._mapped is not None:
            self._features = map_vectors(*self._mapped)

    # ---------------------------------------------------------------- serving

    def __getitem__(self, idx: int) -> dict[str, Any]:
        """Return the view of a clip that the epoch shows; the index carries the epoch."""
        return self.__getitems__([idx])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return a batch, which torch's DataLoader asks for at once: its features in one gather.

        The samples are the same objects each time: the model's preprocessor copies them.
        """
        return self.read_views([(int(i), self.dataset.choose_view(i)) for i in indices])

    def read_views(self, shown: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
        """Return the items of some clips and views.

        Args:
            shown: The index of each clip, and the number of its view. In training the next clip
                stands in for one that cannot be read.
        """
        clips = [self.dataset.find_substitute(index) for index, _ in shown]
        places = self.rows.numpy()[clips] * self.features.shape[1] + [view for _, view in shown]
        # By numpy: torch's threads would take longer to meet than the copy lasts.
        gathered = np.take(self.features.flatten(0, 1).numpy(), places, axis=0)
        vectors = torch.from_numpy(gathered)  # (B, views, T, D)
        # The only transform of the pipeline that changes nothing within a frame.
        shuffles = [t for t in self.pipeline.transforms if isinstance(t, ShuffleFrames)]
        return [
            self._item(clip, features, shuffles)
            for clip, features in zip(clips, vectors.unbind(), strict=True)
        ]

    def _item(
        self, clip: int, features: Tensor, shuffles: Sequence[ShuffleFrames]
    ) -> dict[str, Any]:
        for shuffle in shuffles:
            info = dict(self.get_data_info(clip), features=features)
            features = shuffle(info)['features']
        return dict(features=features, encoder=self._digest, data_samples=self._sample(clip))

    def _sample(self, clip: int) -> ActionDataSample:
        """Return the annotation of a clip as the pipeline packs it, packed once."""
        if clip not in self._samples:
            packed = self.pipeline.transforms[-1](
                dict(self.get_data_info(clip), imgs=torch.empty(0))
            )
            self._samples[clip] = packed['data_samples']
        return self._samples[clip]

    @property
    def pipeline(self) -> Compose:
        """Return the pipeline of the dataset inside, of which only ShuffleFrames is run here."""
        return self.dataset.pipeline
