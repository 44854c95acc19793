"""Train TimeSformer on FERV39k, with 16 frames of 224 pixels."""

_base_ = [
    '../_base_/models/timesformer.py',
    '../_base_/datasets/ferv39k_224.py',
    '../_base_/schedules/adamw_50e.py',
    '../_base_/default_runtime.py',
]
