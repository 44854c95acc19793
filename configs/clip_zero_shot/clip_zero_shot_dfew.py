"""Test CLIP ViT-B/32 zero-shot on DFEW, without training."""

_base_ = [
    '../_base_/models/clip_zero_shot.py',
    '../_base_/datasets/dfew.py',
    '../_base_/schedules/no_training.py',
    '../_base_/default_runtime.py',
]

model = dict(cls_head=dict(classes={{_base_.classes}}))
