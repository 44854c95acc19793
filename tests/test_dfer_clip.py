"""Test DFER-CLIP against a reference that was written from the authors' code only."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from mmengine.dataset import Compose
from PIL import Image
from references import dfer_clip as reference
from torch import Tensor

from mmaction.registry import MODELS, TRANSFORMS

from mmdfer.datasets import SampleTSN
from mmdfer.errors import DFERError

SIZES = {'square': (256, 256), 'wide': (90, 300), 'upright': (300, 75), 'small': (64, 50)}


def sampled(sampler: SampleTSN, frames: int) -> list[int]:
    return sampler(dict(total_frames=frames, start_index=0))['frame_inds'].tolist()


@pytest.mark.parametrize('frames', [*range(1, 36), 47, 48, 70, 144, 847])
def test_the_authors_frames_are_sampled(frames: int) -> None:
    test = SampleTSN(num_segments=16, short='last', test_mode=True)
    assert sampled(test, frames) == reference.indices_for_testing(frames).tolist()
    train = SampleTSN(num_segments=16, short='last')
    for seed in range(3):
        np.random.seed(seed)
        found = sampled(train, frames)
        expected = reference.indices_for_training(frames, rng=np.random.RandomState(seed))
        assert found == expected.tolist()


def former_dfer(frames: int, offsets: list[int]) -> list[int]:
    """Return two frames at each of the eight offsets, as Former-DFER's dataset_DFEW.py does."""
    return [min(p + k, frames - 1) for p in offsets for k in (0, 1)]


@pytest.mark.parametrize('frames', [1, 2, 8, 9, 10, 16, 17, 40, 100])
def test_former_dfers_frames_are_sampled(frames: int) -> None:
    """Compare with lines 47 to 88 of Former-DFER's dataset_DFEW.py, written out."""
    options = dict(num_segments=8, duration=2, short='first')
    tick = (frames - 1) / 8
    test = [int(tick / 2 + tick * i) for i in range(8)] if frames > 9 else [0] * 8
    assert sampled(SampleTSN(**options, test_mode=True), frames) == former_dfer(frames, test)
    step = (frames - 1) // 8
    np.random.seed(3)
    train = np.zeros(8, int)
    if step > 0:
        train = np.arange(8) * step + np.random.RandomState(3).randint(step, size=8)
    assert sampled(SampleTSN(**options), frames) == former_dfer(frames, train.tolist())


def test_another_way_with_short_clips_is_refused() -> None:
    with pytest.raises(DFERError, match="short must be 'last' or 'first', got 'even'"):
        SampleTSN(short='even')


def pictures(height: int, width: int) -> list[Image.Image]:
    """Draw four frames of coloured noise, which any resize changes."""
    rng = np.random.default_rng(0)
    shape = 4, height // 4 + 1, width // 4 + 1, 3
    noise = np.kron(rng.integers(0, 256, shape), np.ones((1, 4, 4, 1))).astype(np.uint8)
    return [Image.fromarray(frame[:height, :width]) for frame in noise]


def through(transforms: list[dict], frames: list[Image.Image]) -> Tensor:
    """Apply transforms to frames, and return them as (T, 3, H, W) in 0..1."""
    results = dict(imgs=[np.array(frame) for frame in frames])
    for transform in transforms:
        results = TRANSFORMS.build(transform)(results)
    assert results['img_shape'] == results['imgs'][0].shape[:2]
    return torch.from_numpy(np.stack(results['imgs'])).permute(0, 3, 1, 2).float() / 255


@pytest.mark.parametrize('name', SIZES)
def test_the_test_view_is_the_whole_picture_by_pillow(name: str) -> None:
    frames = pictures(*SIZES[name])
    ours = through([dict(type='PillowResize', size=224)], frames)
    assert torch.equal(ours, reference.view_for_testing(frames))


class OneFactor(random.Random):
    """Return a given brightness factor first, then draw numbers as Python's random does."""

    def __init__(self, factor: float, seed: int) -> None:
        super().__init__(seed)
        self.factor: float | None = factor

    def uniform(self, a: float, b: float) -> float:
        factor, self.factor = self.factor, None
        return super().uniform(a, b) if factor is None else factor


@pytest.mark.parametrize('name', SIZES)
@pytest.mark.parametrize('dataset', ['DFEW', 'FERV39k', 'MAFW'])
def test_the_training_view_is_the_authors(name: str, dataset: str) -> None:
    frames, crop = pictures(*SIZES[name]), dict(type='PillowRandomSizedCrop', size=224)
    before = {
        'DFEW': [dict(type='PillowColorJitter', brightness=0.5)],
        'FERV39k': [dict(type='PillowRotate', degrees=4)],
        'MAFW': [],
    }[dataset]
    for seed in range(4):
        torch.manual_seed(seed)
        factor = torch.empty(1).uniform_(0.5, 1.5)
        torch.manual_seed(seed)
        torch.randperm(4)  # torchvision first draws the order of its changes
        factor = float(torch.empty(1).uniform_(0.5, 1.5))
        rng = OneFactor(factor, seed) if dataset == 'DFEW' else random.Random(seed)
        expected = reference.view_for_training(frames, dataset, rng=rng)
        torch.manual_seed(seed)
        random.seed(seed)
        found = through([*before, crop], frames)
        assert torch.equal(found, expected) or torch.equal(found.flip(-1), expected)


def test_color_jitter_changes_all_frames_alike() -> None:
    frames = [pictures(20, 30)[0]] * 3
    jitter = dict(type='PillowColorJitter', brightness=0.4, hue=0.3)
    torch.manual_seed(0)
    seen = through([jitter], frames)
    assert torch.equal(seen[0], seen[1]) and torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], through([jitter], frames)[0])


# ------------------------------------------------------------------- folder to logits


@pytest.mark.parametrize('frames', [5, 16, 40])
def test_a_folder_gives_the_authors_logits(tmp_path: Path, frames: int) -> None:
    """Compare the shipped test view and model with the small CLIP, in double precision."""
    config = Config.fromfile(ROOT / 'configs' / 'dfer_clip' / 'dfer_clip_dfew.py')
    config.model.backbone.update(arch='synth-clip', weights=None)
    pipeline = config.test_pipeline
    (resize,) = (t for t in pipeline if t['type'] == 'PillowResize')
    resize['size'] = 64  # the image size of the small CLIP
    model = MODELS.build(config.model).eval().double()
    for number, picture in enumerate(pictures(80, 60) * (frames // 4 + 1)):
        if number < frames:
            picture.rotate(number).save(tmp_path / f'{number:05d}.png')
    item = Compose(pipeline)(dict(filename=str(tmp_path), label=0, start_index=0))
    with torch.no_grad():
        batch = model.data_preprocessor(
            dict(inputs=[item['inputs']], data_samples=[item['data_samples']])
        )
        logits = model(batch['inputs'].double(), stage='head')
        shown = reference.view_for_testing(reference.load_clip(str(tmp_path)), size=64)
        images = model.backbone.clip.encode_image(shown.double())
        video = reference.temporal(images[None], authors_weights(model.neck), heads=8)
        texts = model.backbone.encode_prompts(*model.cls_head.prompts(model.backbone))[:, 0]
    torch.testing.assert_close(logits, reference.logits(video, texts), rtol=0, atol=1e-4)


def authors_weights(neck: torch.nn.Module) -> dict[str, Tensor]:
    """Return the weights of our temporal transformer under the authors' names."""
    state = neck.state_dict()
    theirs = dict(cls_token=state['class_token'][None, None])
    positions = [state['class_position'][None], state['position']]
    theirs['pos_embedding'] = torch.cat(positions)[None]
    for name, tensor in state.items():
        if name.startswith('layers.'):
            theirs[reference.authors_name(name)] = tensor
    return theirs
