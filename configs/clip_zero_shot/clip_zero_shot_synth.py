"""Test the small CLIP of this package zero-shot on the synthetic benchmark, without training."""

_base_ = [
    '../_base_/models/clip_zero_shot.py',
    '../_base_/datasets/synth.py',
    '../_base_/schedules/no_training.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(arch='synth-clip', weights=None),
    cls_head=dict(classes={{_base_.classes}}),
)
