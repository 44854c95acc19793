"""Define EncodedClips, a dataset wrapper that encodes each view once and serves its features."""

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
from mmdfer.datasets.transforms.pack_levels import PackLevels
from mmdfer.datasets.transforms.shuffle_frames import ShuffleFrames
from mmdfer.errors import DFERError, UnreadableClipError
from mmdfer.features.bank import map_vectors
from mmdfer.features.encoder import FeatureEncoder, shared_encoder
from mmdfer.features.extraction import Extractor, Views, encode_to_memory, fill_bank, list_clips
from mmdfer.models.data_preprocessors.clip_preprocessor import check_blending
from mmdfer.models.heads.text_head import check_class_count


@DATASETS.register_module()
class EncodedClips(Dataset):
    """Encode each view of a dataset's clips once with a frozen CLIP, and serve the frame features.

    ::

        dataset=dict(type='EncodedClips', dataset=dict(type='DFEW', num_views=8, ...))

    mmengine calls ``full_init`` in the main process of every rank when it builds the loader.
    ``full_init`` decodes and encodes the V views of each training clip, or the test view of each
    test clip. The ranks divide the clips among them, and then every rank gets the features of all
    clips.

    Without a feature bank, the features are kept in memory in float32, for this run only. In a
    feature bank, they are kept on disk in half precision. All runs, folds and text heads that use
    the same views and the same backbone weights share a bank. Clips whose files have changed since
    they were encoded are encoded again.

    An item of this dataset has the keys ``features``, the vectors (views, T, D) of one view of one
    clip; ``encoder``, the digest of the encoder; and ``data_samples``. mmengine's RepeatDataset,
    ClassBalancedDataset and ConcatDataset can wrap this class, but cannot be wrapped by this class.

    Args:
        dataset: A DFERDataset or its config. For training, its ``num_views`` must be set.
        encoder: A :class:`FeatureEncoder`, or its arguments ``backbone`` and ``data_preprocessor``.
            By default, those of the model that the Runner trains or tests.
        bank: Folder of the feature banks, which are its subfolders ``train`` and ``test``. True
            uses a folder below ``work_dirs/banks`` that is named after the settings on which the
            vectors depend. None keeps the features in memory.
        batch_size: Number of views in one pass through the encoder.
        num_workers: Number of processes that decode clips.
        num_classes: Number of classes of the model's head, which the Runner fills in. A dataset
            with another number is then refused before its clips are encoded.
        misplaced: Any other argument raises an error, since it belongs to the inner dataset.

    Attributes:
        features: Features of all clips, (rows, V, views, T, D), with the axes that ``bank.py``
            describes. They are available after ``full_init``.
        rows: Tensor (clips,), the row of each clip in ``features``.

    Raises:
        DFERError: If the inner dataset is not a DFERDataset or has another number of classes than
            ``num_classes``, if its pipeline packs levels, if it shows a new view in each training
            epoch, if an argument belongs to the inner dataset, or if the data preprocessor is to
            mix training batches (MixUp, CutMix).
    """

    def __init__(
        self,
        dataset: Mapping[str, Any] | DFERDataset,
        encoder: Mapping[str, Any] | FeatureEncoder | None = None,
        bank: str | Literal[True] | None = None,
        batch_size: int = 16,
        num_workers: int = 2,
        num_classes: int | None = None,
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
                'EncodedClips: the inner dataset must be a DFERDataset, got '
                f'{type(built).__name__}; put EncodedClips around each DFERDataset, and other '
                'wrappers around EncodedClips'
            )
        if any(isinstance(transform, PackLevels) for transform in built.pipeline.transforms):
            raise DFERError(
                'EncodedClips: the pipeline packs masks, landmarks and captions, which cannot be '
                'encoded: leave out LoadLevels and use PackActionInputs in place of PackLevels, or '
                'do without EncodedClips and --bank'
            )
        if not built.test_mode and built.num_views is None:
            raise DFERError(
                'EncodedClips: the training dataset shows a new view in each epoch; set its '
                'num_views'
            )
        if num_classes is not None and built.metainfo.get('classes'):
            check_class_count(built.metainfo['classes'], num_classes)
        self.dataset, self.encoder, self.bank = built, encoder, bank
        self.batch_size, self.num_workers = batch_size, num_workers
        self._features: Tensor | None = None
        self._mapped: tuple[Path, tuple[int, ...]] | None = None  # file and shape of the bank
        self.rows = torch.arange(len(built))
        self._digest = ''
        self._samples: dict[int, ActionDataSample] = {}
        if isinstance(encoder, Mapping) and not built.test_mode:
            check_blending(encoder.get('data_preprocessor'))

    # ---------------------------------------------------------------- the inner dataset

    @property
    def metainfo(self) -> dict[str, Any]:
        """Return the meta information of the inner dataset."""
        return self.dataset.metainfo

    @property
    def test_mode(self) -> bool:
        """Return whether the inner dataset shows test views."""
        return self.dataset.test_mode

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.dataset)

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Return the annotation of a clip."""
        return self.dataset.get_data_info(idx)

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the class of a clip as a list of one; ClassBalancedDataset calls this method."""
        return self.dataset.get_cat_ids(idx)

    # ---------------------------------------------------------------- encoding

    @property
    def features(self) -> Tensor:
        """Return the features of all clips, (rows, V, views, T, D).

        Raises:
            DFERError: If the clips are not encoded yet. This property never encodes them itself,
                because a worker process must not do so.
        """
        if self._features is None:
            raise DFERError(
                'EncodedClips: features were requested before the clips were encoded; call '
                'full_init() first, as mmengine does when it builds a loader'
            )
        return self._features

    @features.setter
    def features(self, features: Tensor) -> None:
        self._features, self._mapped = features, None

    def full_init(self) -> None:
        """Encode all views. Every rank must call this method; calls after the first do nothing.

        Raises:
            DFERError: If there is no encoder, if the bank was encoded with other settings, or if a
                test clip cannot be read.
        """
        if self._features is not None:
            return
        if self.encoder is None:
            raise DFERError(
                'EncodedClips: there is no encoder, because no Runner has built a model; set '
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
        """Encode the clips that a feature bank lacks, and map its vectors into memory.

        The clips of the other splits of the fold are encoded too, so that one bank serves all
        folds.

        Args:
            extractor: Decodes and encodes clips.
            bank: Argument ``bank`` of this class.
            kind: ``train`` or ``test``.

        Returns:
            The vectors of the bank, (rows, V, views, T, D), and the number of pictures that could
            not be read for each clip, keyed by clip name.
        """
        views = Views(self.dataset, list_clips([self.dataset, *self.dataset.other_splits()]))
        opened, names = fill_bank(extractor, views, bank, kind)
        rows, counts = opened.rows, opened.unreadable
        self.rows = torch.tensor([rows[names[clip]] for clip in self.dataset.clip_names()])
        vectors = opened.vectors
        self._mapped = opened.file, tuple(vectors.shape)
        return vectors, {clip: counts.get(name, 0) for clip, name in names.items()}

    def _check_lost(self) -> None:
        """Raise UnreadableClipError if a test clip could not be read when it was encoded."""
        lost = (self.dataset.unreadable == DFERDataset.LOST).nonzero().flatten().tolist()
        if lost and self.test_mode:
            name = self.get_data_info(lost[0])['filename']
            raise UnreadableClipError(
                f'{name}: the clip could not be read when the feature bank was encoded; restore '
                'the file, or delete the bank if the file is intact'
            )

    # ---------------------------------------------------------------- workers

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to send to a worker process that does not share memory with this one.

        The encoder is left out, since a worker does not need it. A mapped bank is left out too,
        since a copy would fill the memory; ``__setstate__`` maps the file again.
        """
        state = dict(vars(self))
        if self._features is not None:
            state['encoder'] = None
        if self._mapped is not None:
            state['_features'] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state in a worker process, and map the file of the bank into memory."""
        vars(self).update(state)
        if self._mapped is not None:
            self._features = map_vectors(*self._mapped)

    # ---------------------------------------------------------------- serving

    def __getitem__(self, idx: int) -> dict[str, Any]:
        """Return the item of a clip, in the view of the epoch that the index carries."""
        return self.__getitems__([idx])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return the items of a batch. torch's DataLoader calls this method once for each batch.

        The ``data_samples`` of a clip are the same object each time. This is safe, because the
        model's data preprocessor copies them.
        """
        return self.read_views([(int(i), self.dataset.choose_view(i)) for i in indices])

    def read_views(self, shown: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
        """Return the items of some clips in some views.

        In training, a clip that could not be read is replaced by the next clip.

        Args:
            shown: The index of each clip and the number of its view.
        """
        clips = [self.dataset.find_substitute(index) for index, _ in shown]
        places = self.rows.numpy()[clips] * self.features.shape[1] + [view for _, view in shown]
        # numpy copies in one thread. Synchronising torch's threads would take longer than the copy.
        gathered = np.take(self.features.flatten(0, 1).numpy(), places, axis=0)
        vectors = torch.from_numpy(gathered)  # (B, views, T, D)
        # ShuffleFrames is applied to the vectors, since it does not change any single frame.
        shuffles = [t for t in self.pipeline.transforms if isinstance(t, ShuffleFrames)]
        return [
            self._item(clip, features, shuffles)
            for clip, features in zip(clips, vectors.unbind(), strict=True)
        ]

    def _item(
        self, clip: int, features: Tensor, shuffles: Sequence[ShuffleFrames]
    ) -> dict[str, Any]:
        """Return the item of a clip, after the ShuffleFrames transforms reordered its vectors.

        Args:
            clip: Index of the clip.
            features: Vectors (views, T, D) of one view of the clip.
            shuffles: The ShuffleFrames transforms of the pipeline.
        """
        for shuffle in shuffles:
            info = dict(self.get_data_info(clip), features=features)
            features = shuffle(info)['features']
        return dict(features=features, encoder=self._digest, data_samples=self._sample(clip))

    def _sample(self, clip: int) -> ActionDataSample:
        """Return the packed annotation of a clip, which is created once."""
        if clip not in self._samples:
            packed = self.pipeline.transforms[-1](
                dict(self.get_data_info(clip), imgs=torch.empty(0))
            )
            self._samples[clip] = packed['data_samples']
        return self._samples[clip]

    @property
    def pipeline(self) -> Compose:
        """Return the pipeline of the inner dataset.

        The clips passed through it, without its ShuffleFrames transforms, when they were encoded.
        When an item is read, only these are run, and they permute the frame vectors of the clip.
        """
        return self.dataset.pipeline
