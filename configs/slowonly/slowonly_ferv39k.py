"""Train SlowOnly on FERV39k, with 16 frames of 112 pixels."""

_base_ = [
    '../_base_/models/slowonly.py',
    '../_base_/datasets/ferv39k_112.py',
    '../_base_/schedules/sgd_100e.py',
    '../_base_/default_runtime.py',
]
