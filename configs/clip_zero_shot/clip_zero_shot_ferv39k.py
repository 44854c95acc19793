"""Test CLIP ViT-B/32 zero-shot on FERV39k, without training."""

_base_ = [
    '../_base_/models/clip_zero_shot.py',
    '../_base_/datasets/ferv39k.py',
    '../_base_/schedules/no_training.py',
    '../_base_/default_runtime.py',
]

model = dict(cls_head=dict(classes={{_base_.classes}}))
