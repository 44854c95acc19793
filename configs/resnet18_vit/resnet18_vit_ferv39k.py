"""ResNet18-ViT on FERV39k.

    python tools/train.py configs/resnet18_vit/resnet18_vit_ferv39k.py

Published on FERV39k, WAR / UAR in %: 48.43 / 38.35 (Align-DFER's comparison).
Ours: not measured, since nobody here holds the data.

The weights are downloaded when training begins; without ``pretrained`` it begins from nothing.

The files under _base_ say what is the papers' and what is ours.
"""

_base_ = [
    '../_base_/models/resnet18_vit.py',
    '../_base_/datasets/ferv39k_112_2d.py',
    '../_base_/schedules/sgd_100e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(pretrained={{_base_.weights}}), cls_head=dict(num_classes={{_base_.num_classes}})
)
