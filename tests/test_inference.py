"""Test MMAction2's inference with shipped configs on a video and a folder of frames."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from PIL import Image

from mmaction.apis import inference_recognizer, init_recognizer
from mmaction.registry import DATASETS

from mmdfer.datasets import DFERDataset
from mmdfer.features.dataset_config import without_features


@DATASETS.register_module()
class OwnClips(DFERDataset):
    """Provide one clip, given by its path."""

    METAINFO = dict(classes=('one', 'other'))

    def load_data_list(self) -> list[dict]:
        return [dict(filename=self.ann_file, label=0, clip='own')]


@pytest.fixture(scope='module')
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write a video and a folder with the same frames."""
    root = tmp_path_factory.mktemp('own')
    rng = np.random.default_rng(0)
    frames = np.kron(rng.integers(0, 256, (24, 8, 10, 3)), np.ones((1, 16, 16, 1))).astype(np.uint8)
    writer = cv2.VideoWriter(
        str(root / 'film.mp4'), cv2.VideoWriter_fourcc(*'mp4v'), 25, (160, 128)
    )
    (root / 'frames').mkdir()
    for number, frame in enumerate(frames):
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
        Image.fromarray(frame).save(root / 'frames' / f'{number:05d}.png')
    writer.release()
    return [root / 'film.mp4', root / 'frames']


@pytest.mark.parametrize('name', ['align_dfer_synth', 'r3d18/r3d18_dfew', 'tsn/tsn_synth'])
def test_own_clips_are_seen_as_test_clips_are(name: str, clips: list[Path]) -> None:
    config = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    if 'pretrained' in config.model.backbone:
        config.model.backbone.pretrained = None
    model = init_recognizer(config, None, 'cpu')
    scores = []
    for clip in clips:
        scores.append(inference_recognizer(model, str(clip)).pred_score)
        pipeline = without_features(config.test_dataloader.dataset).pipeline
        dataset = OwnClips(str(clip), pipeline, test_mode=True)
        item = dataset[0]
        batch = dict(inputs=[item['inputs']], data_samples=[item['data_samples']])
        with torch.no_grad():
            (tested,) = model.test_step(batch)
        torch.testing.assert_close(scores[-1], tested.pred_score)
        assert scores[-1].shape == (7,)
    assert not torch.equal(*scores)  # the video is lossy, the pictures are lossless
    torch.testing.assert_close(*scores, atol=0.05, rtol=0)
