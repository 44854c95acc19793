"""Freq-HD with 3D ResNet18 on the synthetic benchmark, at 64 pixels, from nothing.

    python tools/train.py configs/freq_hd/freq_hd_synth.py

The net is that of the other datasets; the budget is the small one that all nets have here.
Synthetic figures say nothing about the real datasets.
"""

_base_ = [
    '../_base_/models/r3d18.py',
    '../_base_/datasets/synth_64.py',
    '../_base_/schedules/synth_small.py',
    '../_base_/default_runtime.py',
]

train_pipeline = [
    dict(type='ClipInit'),
    dict(type='SampleFreqHD', clip_len=16),
    dict(type='ClipDecode'),
    dict(type='Resize', scale=(-1, 69)),
    dict(type='RandomCrop', size=64),
    dict(type='Flip', flip_ratio=0.5),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
test_pipeline = [
    dict(type='ClipInit'),
    dict(type='SampleFreqHD', clip_len=16),
    dict(type='ClipDecode'),
    dict(type='Resize', scale=(-1, 69)),
    dict(type='CenterCrop', crop_size=64),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
