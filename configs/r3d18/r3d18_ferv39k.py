"""3D ResNet18 on FERV39k.

    python tools/train.py configs/r3d18/r3d18_ferv39k.py

Published on FERV39k, WAR / UAR in %: 37.57 / 26.67 (Align-DFER's comparison).
Ours: not measured, since nobody here holds the data.

The weights are downloaded when training begins; without ``pretrained`` it begins from nothing.

The files under _base_ say what is the papers' and what is ours.
"""

_base_ = [
    '../_base_/models/r3d18.py',
    '../_base_/datasets/ferv39k_112.py',
    '../_base_/schedules/sgd_100e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(pretrained={{_base_.weights}}), cls_head=dict(num_classes={{_base_.num_classes}})
)
