"""Train 3D ResNet18 on MAFW, with 16 frames of 112 pixels."""

_base_ = [
    '../_base_/models/r3d18.py',
    '../_base_/datasets/mafw_112.py',
    '../_base_/schedules/sgd_100e.py',
    '../_base_/default_runtime.py',
]

model = dict(cls_head=dict(num_classes={{_base_.num_classes}}))
