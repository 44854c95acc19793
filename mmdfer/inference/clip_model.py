"""Classify windows of face crops with a recognizer, and encode each frame only once if possible."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose, pseudo_collate
from torch import Tensor, nn

from mmaction.models import BaseRecognizer, Recognizer2D
from mmaction.structures import ActionDataSample

from mmdfer.errors import DFERError
from mmdfer.models import CLIPRecognizer, FrameFeatures
from mmdfer.models.backbones.frame_encoder import FrameEncoder


class ClipModel(ABC):
    """Classify windows of consecutive face crops.

    A film is classified in two steps: :meth:`encode` is called once for each frame, and
    :meth:`classify` for each window of ``window`` encoded frames.

    Args:
        model: The recognizer, in eval mode.
        transforms: The transforms of the test pipeline that follow the decoding of frames.
        num_clips: Value of the sampler of the test pipeline.
        clip_len: Value of the sampler of the test pipeline.

    Attributes:
        window: Number of frames of a window.
        classes: Names of the C classes. They are empty until they are set.
    """

    classes: tuple[str, ...] = ()

    def __init__(
        self, model: BaseRecognizer, transforms: Sequence[dict], num_clips: int, clip_len: int
    ) -> None:
        self.model, self.transforms = model, Compose(transforms)
        self.num_clips, self.clip_len = num_clips, clip_len
        self.window = num_clips * clip_len

    @property
    @abstractmethod
    def encodes_frames(self) -> bool:
        """Return whether each frame passes through the backbone once, in :meth:`encode`."""

    @abstractmethod
    def encode(self, crops: Sequence[np.ndarray]) -> list[Any]:
        """Encode face crops, each RGB uint8 (size, size, 3), to one item for each."""

    @abstractmethod
    def classify(self, windows: Sequence[Sequence[Any]]) -> Tensor:
        """Return the probabilities (N, C) of N windows, each of ``window`` encoded frames."""

    def time_window(self, size: int) -> float:
        """Return the seconds that one window of crops with ``size`` pixels a side takes."""
        crops = [np.zeros((size, size, 3), np.uint8)] * self.window
        self.classify([self.encode(crops)])  # the first pass is slower
        start = time.perf_counter()
        self.classify([self.encode(crops)])
        return time.perf_counter() - start

    def _prepare(self, crops: Sequence[np.ndarray], num_clips: int, clip_len: int) -> dict:
        """Run the test pipeline on crops, and return its result with ``inputs``."""
        size = crops[0].shape[:2]
        results = dict(
            imgs=list(crops),
            num_clips=num_clips,
            clip_len=clip_len,
            original_shape=size,
            img_shape=size,
            frame_inds=np.arange(len(crops)),
            total_frames=len(crops),
            start_index=0,
            modality='RGB',
            label=0,
        )
        return self.transforms(results)

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device


class _FrameVectorModel(ClipModel):
    """Classify with a CLIPRecognizer, whose backbone encodes each frame to a vector."""

    model: CLIPRecognizer
    encodes_frames = True

    @torch.inference_mode()
    def encode(self, crops: Sequence[np.ndarray]) -> list[Tensor]:
        """Encode crops to frame vectors (views, D)."""
        packed = self._prepare(crops, 1, len(crops))
        batch = self.model.data_preprocessor(pseudo_collate([packed]))
        vectors = self.model.backbone(batch['inputs'].flatten(0, 1))  # (views, T, D)
        return list(vectors.unbind(1))

    @torch.inference_mode()
    def classify(self, windows: Sequence[Sequence[Tensor]]) -> Tensor:
        """Return the probabilities (N, C) of N windows of frame vectors."""
        vectors = torch.stack([torch.stack(list(window), 1) for window in windows])
        samples = [ActionDataSample() for _ in windows]
        return _read_scores(self.model.predict(FrameFeatures(vectors), samples))


class _FrameMapModel(ClipModel):
    """Classify with a Recognizer2D whose backbone computes the maps of a frame from it alone."""

    encodes_frames = True

    @torch.inference_mode()
    def encode(self, crops: Sequence[np.ndarray]) -> list[tuple[Tensor, ...]]:
        """Encode crops to the feature maps of the backbone, (C, h, w) for each output."""
        packed = self._prepare(crops, len(crops), 1)
        images = self.model.data_preprocessor(pseudo_collate([packed]))['inputs'][0]
        maps = self.model.backbone(images)
        return list(zip(*(maps if isinstance(maps, tuple) else (maps,)), strict=True))

    @torch.inference_mode()
    def classify(self, windows: Sequence[Sequence[tuple[Tensor, ...]]]) -> Tensor:
        """Return the probabilities (N, C) of N windows of feature maps.

        The recognizer runs with a backbone that returns the stored maps.
        """
        frames = [frame for window in windows for frame in window]
        maps = tuple(torch.stack(level) for level in zip(*frames, strict=True))
        backbone = self.model.backbone
        self.model.backbone = _Stored(maps)
        try:
            inputs = torch.zeros(len(windows), self.window, 3, 1, 1, device=self._device)
            samples = [ActionDataSample() for _ in windows]
            return _read_scores(self.model.predict(inputs, samples))
        finally:
            self.model.backbone = backbone


class _Stored(nn.Module):
    """Return feature maps that were computed before, in place of a backbone."""

    def __init__(self, maps: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, _: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the maps, whatever the images."""
        return self.maps if len(self.maps) > 1 else self.maps[0]


class _WindowModel(ClipModel):
    """Classify with a recognizer whose backbone reads whole windows.

    Such a backbone is a 3D network, or a CLIP with an adapter that mixes frames.
    """

    encodes_frames = False

    def encode(self, crops: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the crops unchanged."""
        return list(crops)

    @torch.inference_mode()
    def classify(self, windows: Sequence[Sequence[np.ndarray]]) -> Tensor:
        """Return the probabilities (N, C) of N windows of crops."""
        packed = [self._prepare(window, self.num_clips, self.clip_len) for window in windows]
        return _read_scores(self.model.test_step(pseudo_collate(packed)))


def _read_scores(samples: Sequence[ActionDataSample]) -> Tensor:
    return torch.stack([sample.pred_score for sample in samples]).float().cpu()


def build_clip_model(model: BaseRecognizer, pipeline: Sequence[dict]) -> ClipModel:
    """Wrap a recognizer for the classification of films.

    Args:
        model: The recognizer. It is switched to eval mode.
        pipeline: The test pipeline of its config.

    Returns:
        A wrapper that encodes each frame once, if the backbone reads one frame at a time.

    Raises:
        DFERError: If the pipeline has no transform that decodes frames or none that samples them.
    """
    sampler, transforms = _split_pipeline(pipeline)
    num_clips, clip_len = read_window(sampler)
    model.eval()
    # Several clips are the frames of a 2D network, but views of a long clip for others. There, a
    # window is one clip.
    if isinstance(model, CLIPRecognizer) and isinstance(model.backbone, FrameEncoder):
        mixes = model.backbone.mixes_frames
        kind = _WindowModel if mixes else _FrameVectorModel
        return kind(model, transforms, 1, clip_len)
    if isinstance(model, Recognizer2D):
        wrapped = _FrameMapModel(model, transforms, clip_len * num_clips, 1)
        if _reads_single_frames(wrapped):
            return wrapped
        return _WindowModel(model, transforms, num_clips, clip_len)
    return _WindowModel(model, transforms, 1, clip_len)


def read_window(sampler: dict) -> tuple[int, int]:
    """Return the number of clips, and of frames in each, that a sampling transform takes.

    Args:
        sampler: Config of a transform of MMAction2 or of this package.
    """
    if 'num_segments' in sampler:  # SampleTSN, whose segments together are one clip
        return 1, sampler['num_segments'] * sampler.get('duration', 1)
    return sampler.get('num_clips', 1), sampler.get('clip_len', 1)


def _split_pipeline(pipeline: Sequence[dict]) -> tuple[dict, list[dict]]:
    """Return the sampler of a test pipeline, and the transforms after the decoding of frames."""
    names = [str(transform['type']) for transform in pipeline]
    decoding = [i for i, name in enumerate(names) if name.endswith('Decode')]
    sampling = [i for i, name in enumerate(names) if 'Sample' in name]
    if not decoding or not sampling:
        raise DFERError(
            f'test_pipeline: films need a transform that samples frames and one that decodes them, '
            f'but the pipeline has {", ".join(names)}'
        )
    return pipeline[sampling[0]], list(pipeline[decoding[-1] + 1 :])


@torch.inference_mode()
def _reads_single_frames(model: _FrameMapModel) -> bool:
    """Return whether the maps of a frame are independent of the other frames of its window."""
    crops = list(
        np.random.default_rng(0).integers(256, size=(model.window, 96, 96, 3), dtype=np.uint8)
    )
    packed = model._prepare(crops, model.window, 1)
    images = model.model.data_preprocessor(pseudo_collate([packed]))['inputs']
    if images.ndim != 5 or images.shape[1] != model.window:
        return False  # the pipeline makes several crops of a frame
    before = model.model.backbone(images[0])
    after = model.model.backbone(torch.cat([images[0, :1], images[0, 1:].flip(0)]))
    maps = (before, after) if isinstance(before, tuple) else ((before,), (after,))
    return all(torch.allclose(a[0], b[0], rtol=1e-3, atol=1e-4) for a, b in zip(*maps, strict=True))
