"""Run mmdfer's parts for tools/benchmark.py: building, training steps, validation, extraction."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import Tensor

from mmaction.registry import DATASETS, MODELS
from mmaction.structures import ActionDataSample

from benchmarks.model import ARCHITECTURE, PlainAlignDFER
from benchmarks.settings import SENTENCES, TOKENS, Settings
from mmdfer.datasets import DFERDataset
from mmdfer.engine.runner.loops import read_stages
from mmdfer.features import FeatureEncoder
from mmdfer.features.extraction import Batch, Extractor, Views, fill_bank, list_clips
from mmdfer.models import CLIPRecognizer, FrameFeatures
from mmdfer.models.data_preprocessors.clip_preprocessor import encoder_digest

ROOT = Path(__file__).resolve().parents[1]
SCHEDULE = Config.fromfile(ROOT / 'configs' / '_base_' / 'schedules' / 'bap_100e.py')
BAP = {stage.name: stage for stage in read_stages(SCHEDULE)}


def build_mmdfer(s: Settings) -> CLIPRecognizer:
    """Build mmdfer's model of the paper's size over ViT-B/32 with random weights."""
    torch.manual_seed(0)
    head = dict(type='MATHead', num_classes=s.classes, num_sentences=SENTENCES, num_tokens=TOKENS)
    backbone = dict(type='FrozenCLIP', arch=ARCHITECTURE, weights='random')
    neck = dict(type='JAS', num_sentences=SENTENCES)
    model = MODELS.build(dict(type='CLIPRecognizer', backbone=backbone, neck=neck, cls_head=head))
    for name, parameter in model.neck.named_parameters():
        if name.endswith(('out_proj.weight', 'linear2.weight')):  # zero when training begins
            torch.nn.init.normal_(parameter, std=0.02)
    return model.to(s.device)


def build_baseline(model: CLIPRecognizer) -> PlainAlignDFER:
    """Build the baselines' model with the weights of mmdfer's."""
    clip = model.backbone
    fixed = clip.start_id, clip.stop_id, clip.end_id
    baseline = PlainAlignDFER(copy.deepcopy(clip.clip), fixed, *model.cls_head.tokens.shape[:3])
    copy_weights(model, baseline)
    return baseline.to(model.cls_head.tokens.device)


@torch.no_grad()
def copy_weights(model: CLIPRecognizer, baseline: PlainAlignDFER) -> None:
    """Copy the trained weights of mmdfer's model to the baselines'."""
    baseline.tokens.copy_(model.cls_head.tokens)
    for name in ('text_encoder', 'image_encoder', 'joint_encoder'):
        source, target = getattr(model.neck, name), getattr(baseline, name)
        target.position.copy_(source.position)
        target.transformer.layers.load_state_dict(source.layers.state_dict())


class MmdferStep:
    """Take mmdfer's optimizer steps of one stage, on frame vectors as the feature bank gives them.

    Args:
        model: The model.
        stage: The stage: text, video or joint.
        vectors: Frame vectors (B, T, D).
        bf16: Whether to compute under autocast to bfloat16.
    """

    def __init__(self, model: CLIPRecognizer, stage: str, vectors: Tensor, bf16: bool) -> None:
        self.model = model.train()
        model.neck.set_stage(stage)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(BAP[stage].matches(name))
        config = copy.deepcopy(SCHEDULE.optim_wrapper)
        config['type'] = 'AutocastOptimWrapper' if bf16 else 'OptimWrapper'
        self.wrapper = build_optim_wrapper(model, config)
        classes = model.cls_head.num_classes
        samples = [ActionDataSample().set_gt_label(i % classes) for i in range(len(vectors))]
        digest = encoder_digest(model.backbone, model.data_preprocessor)
        self.batch = dict(features=vectors[:, None], encoder=digest, data_samples=samples)

    def __call__(self) -> Tensor:
        """Take one step and return the loss."""
        return self.model.train_step(self.batch, self.wrapper)['loss'].detach()


@torch.no_grad()
def classify(model: CLIPRecognizer, inputs: Tensor | FrameFeatures) -> Tensor:
    """Return the logits of a batch of frames (B, views, 3, T, H, W) or of its frame vectors."""
    return model(inputs, stage='head')


def clips_to_extract(s: Settings, count: int) -> Views:
    """Return one training view of each of the first clips, as DFEW's config shows them."""
    config = Config.fromfile(ROOT / 'configs' / 'align_dfer_dfew.py')
    config = config.train_dataloader.dataset.dataset
    config.update(data_root=s.data, num_views=1, indices=count)
    dataset: DFERDataset = DATASETS.build(config)
    return Views(dataset, list_clips([dataset]))


def extract_to_bank(
    model: CLIPRecognizer, views: Views, folder: str, batch: int = 2, workers: int = 2
) -> None:
    """Encode views into a new feature bank in a folder."""
    fill_bank(Extractor(FeatureEncoder(model.backbone), batch, workers), views, folder, 'train')


class NoExtractor(Extractor):
    """Fill a feature bank with zeros, for measurements that only need the bank to be complete."""

    def run(self, views: Views, parts: Iterable[Iterable[int]]) -> Iterator[Batch]:
        """Yield zeros for all views of the clips of each part."""
        shape = self.shape(views)[1:]
        for part in parts:
            keys = views.keys(part)
            yield keys, torch.zeros(len(keys), *shape), [0] * len(keys)


def fill_banks_with_zeros(config: Config, model: CLIPRecognizer, folder: str) -> None:
    """Fill the feature banks of a config's training and test views with zeros."""
    extractor = NoExtractor(FeatureEncoder(model.backbone), 64, 0)
    for kind in ('train', 'test'):
        dataset = DATASETS.build(
            config['val_dataloader' if kind == 'test' else 'train_dataloader'].dataset.dataset
        )
        clips = list_clips([dataset, *dataset.other_splits()])
        fill_bank(extractor, Views(dataset, clips), folder, kind)
