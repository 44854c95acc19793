"""Train Freq-HD (R3D-18) from scratch on the synthetic benchmark, with 16 frames of 64 pixels."""

_base_ = [
    '../_base_/models/r3d18.py',
    '../_base_/datasets/synth_64.py',
    '../_base_/schedules/synth_small.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(pretrained=None))
# Only the sampler differs from r3d18_synth.py.
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[1] = test_pipeline[1] = dict(type='SampleFreqHD', clip_len=16)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
