"""Freq-HD with 3D ResNet18 on the synthetic benchmark, 16 frames of 64 pixels, from scratch."""

_base_ = [
    '../_base_/models/r3d18.py',
    '../_base_/datasets/synth_64.py',
    '../_base_/schedules/synth_small.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(pretrained=None))
# The sampler alone differs.
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[1] = test_pipeline[1] = dict(type='SampleFreqHD', clip_len=16)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
