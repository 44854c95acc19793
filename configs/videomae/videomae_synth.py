"""Train VideoMAE from scratch on the synthetic benchmark, with 16 frames of 64 pixels."""

_base_ = [
    '../_base_/models/videomae.py',
    '../_base_/datasets/synth_64.py',
    '../_base_/schedules/synth_small.py',
    '../_base_/default_runtime.py',
]

load_from = None
model = dict(backbone=dict(img_size=64))
