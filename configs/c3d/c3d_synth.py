"""Train C3D from scratch on the synthetic benchmark, with 16 frames of 64 pixels."""

_base_ = [
    '../_base_/models/c3d.py',
    '../_base_/datasets/synth_64.py',
    '../_base_/schedules/synth_small.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(pretrained=None, out_dim=4608))  # the width of the features at 64 pixels
