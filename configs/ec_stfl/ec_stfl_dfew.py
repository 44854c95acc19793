"""Train EC-STFL on DFEW, with 16 frames of 112 pixels."""

_base_ = [
    '../_base_/models/ec_stfl.py',
    '../_base_/datasets/dfew_112.py',
    '../_base_/schedules/sgd_100e.py',
    '../_base_/default_runtime.py',
]
