"""Train TSN on DFEW, with 16 frames of 112 pixels."""

_base_ = [
    '../_base_/models/tsn.py',
    '../_base_/datasets/dfew_112_2d.py',
    '../_base_/schedules/sgd_100e.py',
    '../_base_/default_runtime.py',
]
