"""Train VideoMAE on MAFW, with 16 frames of 224 pixels."""

_base_ = [
    '../_base_/models/videomae.py',
    '../_base_/datasets/mafw_224.py',
    '../_base_/schedules/adamw_50e.py',
    '../_base_/default_runtime.py',
]

model = dict(cls_head=dict(num_classes={{_base_.num_classes}}))
