"""R(2+1)D-18 on FERV39k.

    python tools/train.py configs/r2plus1d18/r2plus1d18_ferv39k.py

Published on FERV39k, WAR / UAR in %: 41.28 / 31.55 (Align-DFER's comparison).
Ours: not measured, since nobody here holds the data.

The weights are downloaded when training begins; without ``pretrained`` it begins from nothing.

The files under _base_ say what is the papers' and what is ours.
"""

_base_ = [
    '../_base_/models/r2plus1d18.py',
    '../_base_/datasets/ferv39k_112.py',
    '../_base_/schedules/sgd_100e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(pretrained={{_base_.weights}}), cls_head=dict(num_classes={{_base_.num_classes}})
)
