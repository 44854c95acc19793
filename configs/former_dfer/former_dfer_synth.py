"""Former-DFER on the synthetic benchmark, 16 frames of 64 pixels, from scratch."""

_base_ = [
    '../_base_/models/former_dfer.py',
    '../_base_/datasets/synth_64.py',
    '../_base_/schedules/synth_small.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(input_size=64))
