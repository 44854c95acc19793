"""Freq-HD with 3D ResNet18 on FERV39k.

    python tools/train.py configs/freq_hd/freq_hd_ferv39k.py

Published on FERV39k, WAR / UAR in %: 45.26 / 33.07 (Align-DFER's comparison).
Ours: not measured, since nobody here holds the data.

The weights are downloaded when training begins; without ``pretrained`` it begins from nothing.

The files under _base_ say what is the papers' and what is ours.
"""

_base_ = [
    '../_base_/models/r3d18.py',
    '../_base_/datasets/ferv39k_112.py',
    '../_base_/views/freq_hd_112.py',
    '../_base_/schedules/sgd_100e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(pretrained={{_base_.weights}}), cls_head=dict(num_classes={{_base_.num_classes}})
)
train_pipeline = {{_base_.picked_train_view}}
test_pipeline = {{_base_.picked_test_view}}  # inference_recognizer takes it
train_dataloader = dict(dataset=dict(pipeline={{_base_.picked_train_view}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.picked_test_view}}))
test_dataloader = val_dataloader
