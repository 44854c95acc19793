"""Read clips of DFEW in plain torch, OpenCV and decord, as the two baselines do."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import open_clip
import torch
from torch import Tensor
from torch.utils.data import Dataset

from benchmarks.model import FRAMES

SIZE = 224  # of CLIP's input, in pixels
Clip = tuple[Path, int]  # a folder of frames or a video, and the label
ReadFrames = Callable[[Path, Callable[[int], np.ndarray]], list[np.ndarray]]
T = TypeVar('T')


def repeat_epochs(begin: Callable[[], Iterable[T]]) -> Iterator[T]:
    """Yield the batches of one epoch after another, without end.

    Args:
        begin: Returns the batches of a new epoch.
    """
    while True:
        yield from begin()


def list_clips(root: Path, media: str = 'frames', split: str = 'train') -> list[Clip]:
    """List the clips of DFEW's first fold.

    Args:
        root: The folder of DFEW, laid out as it is published.
        media: ``'frames'`` for the folders of JPEG files, ``'videos'`` for the MP4 files.
        split: ``'train'`` or ``'test'``.
    """
    with (root / 'EmoLabel_DataSplit' / f'{split}(single-labeled)' / 'set_1.csv').open() as file:
        rows = [(row['video_name'], int(row['label']) - 1) for row in csv.DictReader(file)]
    if media == 'frames':
        return [(root / 'Clip' / 'clip_224x224' / name, label) for name, label in rows]
    videos = {path.stem: path for path in (root / 'Clip' / 'original').rglob('*.mp4')}
    return [(videos[str(int(name))], label) for name, label in rows]


def list_pictures(folder: Path) -> list[Path]:
    """List the JPEG files of a folder in the order of their frames."""
    return sorted(folder.glob('*.jpg'))


def read_pictures(folder: Path, choose: Callable[[int], np.ndarray]) -> list[np.ndarray]:
    """Read the chosen frames of a folder by OpenCV, each RGB uint8 (H, W, 3).

    Args:
        folder: The folder.
        choose: Returns the numbers of the chosen frames, given the number of all frames.
    """
    paths = list_pictures(folder)
    images = (cv2.imread(str(paths[number])) for number in choose(len(paths)))
    return [cv2.cvtColor(image, cv2.COLOR_BGR2RGB) for image in images]


def read_video(path: Path, choose: Callable[[int], np.ndarray]) -> list[np.ndarray]:
    """Read the chosen frames of a video by decord; arguments as in :func:`read_pictures`."""
    from decord import VideoReader

    reader = VideoReader(str(path), num_threads=1)
    return list(reader.get_batch(choose(len(reader))).asnumpy())


def choose_central(count: int) -> np.ndarray:
    """Return the central frame of each of 16 equal segments of a clip of ``count`` frames."""
    edges = np.arange(FRAMES + 1) * count // FRAMES
    return edges[:-1] + np.diff(edges) // 2


def choose_random(count: int) -> np.ndarray:
    """Return a random frame of each of 16 equal segments of a clip."""
    edges = np.arange(FRAMES + 1) * count // FRAMES
    offsets = (np.random.random_sample(FRAMES) * np.diff(edges)).astype(int)
    return edges[:-1] + offsets


class ClipViews(Dataset):
    """Read views of clips: 16 frames, resized to 240 pixels and cut to 224.

    Item i is the view ``i % num_views`` of clip ``i // num_views``, uint8 (T, 3, 224, 224), with
    the number i.

    Args:
        clips: The clips.
        training: Whether frames, crop and flip are random, as in training, or central.
        num_views: The number of views of each clip.
    """

    def __init__(self, clips: Sequence[Clip], training: bool, num_views: int = 1) -> None:
        self.clips, self.training, self.num_views = clips, training, num_views

    def __len__(self) -> int:
        """Return the number of views."""
        return len(self.clips) * self.num_views

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Read one view."""
        path = self.clips[index // self.num_views][0]
        read: ReadFrames = read_pictures if path.is_dir() else read_video
        frames = read(path, choose_random if self.training else choose_central)
        cut = (_cut_randomly if self.training else _cut_centre)(_resize(frames, 240))
        return torch.from_numpy(np.ascontiguousarray(cut.transpose(0, 3, 1, 2))), index


def _resize(frames: list[np.ndarray], short: int) -> np.ndarray:
    """Resize frames so that their short side has a given length; return (T, H, W, 3)."""
    height, width = frames[0].shape[:2]
    scale = short / min(height, width)
    size = int(width * scale + 0.5), int(height * scale + 0.5)
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR) for frame in frames])


def _cut_centre(frames: np.ndarray) -> np.ndarray:
    top, left = ((side - SIZE) // 2 for side in frames.shape[1:3])
    return frames[:, top : top + SIZE, left : left + SIZE]


def _cut_randomly(frames: np.ndarray) -> np.ndarray:
    """Cut a random square of 240, 224 or 208 pixels, resize it to 224, and flip half of them."""
    side = int(np.random.choice([240, 224, 208]))
    top, left = (np.random.randint(length - side + 1) for length in frames.shape[1:3])
    cut = _resize(list(frames[:, top : top + side, left : left + side]), SIZE)
    return cut[:, :, ::-1] if np.random.random_sample() < 0.5 else cut


def normalise(frames: Tensor) -> Tensor:
    """Normalise frames, uint8 (..., 3, H, W), with the mean and std of OpenAI's CLIP."""
    mean, std = (
        255 * torch.tensor(values, device=frames.device)[:, None, None]
        for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    return (frames.float() - mean) / std
