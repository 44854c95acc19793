"""Test the views of every shipped config on pictures of many sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from mmengine.config import Config
from mmengine.dataset import Compose
from PIL import Image
from torch import Tensor

from mmdfer.features.dataset_config import without_features

RNG = np.random.default_rng(0)
SHORT = [64, 65, 100, 111, 112, 113, 119, 120, 121, 128, 144, 160, 221, 222, 223, 224, 225, 239]
SHORT += [240, 241, 256, 300, 480, 512, 640, 720]
# 40 pairs of a short side and a long side; every third of the first is square.
SIZES = [(s, min(720, s + (0, 37, s // 2)[i % 3])) for i, s in enumerate(SHORT)]
SIZES += [(s, 720) for s in (64, 110, 111, 222, 223, 238, 360, 719)]
SIZES += [(64, 66), (90, 160), (110, 113), (207, 209), (222, 226), (405, 720)]


def pipelines() -> dict[str, list[dict]]:
    """Return the different pipelines of all shipped configs, named by their first config."""
    found: dict[str, list[dict]] = {}
    seen = set()
    for path in sorted((ROOT / 'configs').rglob('*.py')):
        if '_base_' in path.parts:
            continue
        config = Config.fromfile(path)
        for loader in ('train', 'test'):
            pipeline = without_features(config[f'{loader}_dataloader'].dataset).pipeline
            if (key := json.dumps(pipeline, default=str)) not in seen:
                seen.add(key)
                found[f'{path.stem}-{loader}'] = pipeline
    return found


PIPELINES = pipelines()


def draw(path: Path, height: int, width: int) -> None:
    """Draw a dark disc on a bright picture; its radius is a fifth of the short side."""
    y, x = np.mgrid[0:height, 0:width]
    radius = 0.2 * min(height, width)
    disc = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2) < radius
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.where(disc, 0, 255).astype(np.uint8)).save(path)


def shown(folder: Path, pipeline: list[dict[str, Any]], seed: int) -> Tensor:
    """Return the frames (T, H, W) that a pipeline reads from a folder, as grey values."""
    np.random.seed(seed)
    data = dict(filename=str(folder), label=0, start_index=0, modality='RGB')
    inputs = Compose(pipeline)(data)['inputs']
    if inputs.ndim == 5:  # (1, 3, T, H, W)
        return inputs[0, 0].float()
    return inputs[:, 0].float()  # (T, 3, H, W)


def disc(frames: Tensor) -> np.ndarray:
    """Return the centre and the area of the disc in each frame, (T, 3), relative to the frame."""
    rows = []
    for frame in (frames < 128).numpy():
        y, x = np.nonzero(frame)
        rows.append([y.mean() / len(frame), x.mean() / len(frame), frame.mean()])
    return np.array(rows)


def test_there_are_forty_sizes() -> None:
    assert len(set(SIZES)) == 40 and min(min(SIZES)) == 64 and max(map(max, SIZES)) == 720


@pytest.fixture(scope='module')
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write a clip of each size, upright and wide by turns, and clips with several sizes."""
    root, made = tmp_path_factory.mktemp('sizes'), []
    for number, (short, long) in enumerate(SIZES):
        height, width = (short, long) if number % 2 else (long, short)
        draw(root / f'{height}x{width}' / '1.png', height, width)
        made.append(root / f'{height}x{width}')
    for name, sides in dict(mixed=(100, 300, 64, 222), mixed_too=(720, 111, 223)).items():
        for number, side in enumerate(sides):
            draw(root / name / f'{number}.png', side, side)
        made.append(root / name)
    return made


def is_whole(pipeline: list[dict]) -> bool:
    """Return whether a view is resized to a square, or is a crop of random area."""
    names = [step['type'] if isinstance(step['type'], str) else '' for step in pipeline]
    return any(name.startswith('Pillow') or name == 'RandomResizedCrop' for name in names)


@pytest.mark.parametrize('name', PIPELINES)
def test_every_size_shows_the_marker_at_one_place(name: str, folders: list[Path]) -> None:
    pipeline, is_train = PIPELINES[name], 'train' in name
    for folder in folders:
        for seed in range(2 if is_train else 1):
            frames = shown(folder, pipeline, seed)
            assert frames.shape[-1] == frames.shape[-2] >= 64
            if 'mixed' not in folder.name:
                assert (frames == frames[0]).all(), folder.name  # all frames are of one picture
            if is_train and is_whole(pipeline):
                continue  # a random crop, which may cut the disc
            if 'mixed' in folder.name or not is_train:
                found = disc(frames)
                assert np.ptp(found, axis=0).max() <= 0.02, folder.name
                assert np.abs(found[0, :2] - 0.5).max() < (0.12 if is_train else 0.02)
                # A disc of a fifth of the short side covers 12.6 %; a crop shows a little more,
                # and a squeezed oblong picture less.
                squeezed = is_whole(pipeline) and 'mixed' not in folder.name
                assert squeezed or 0.10 < found[0, 2] < 0.20, folder.name
