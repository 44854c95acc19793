"""Train Former-DFER from scratch on the synthetic benchmark, with 16 frames of 64 pixels."""

_base_ = [
    '../_base_/models/former_dfer.py',
    '../_base_/datasets/synth_64.py',
    '../_base_/schedules/synth_small.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(input_size=64))
