"""Freq-HD with 3D ResNet18 on DFEW.

    python tools/cross_validate.py configs/freq_hd/freq_hd_dfew.py

Published on DFEW, WAR / UAR in %: 55.68 / 46.85, the mean of five folds (Align-DFER's comparison).
Ours: not measured, since nobody here holds the data.

One fold is never a result. ``tools/train.py`` runs fold 1.

The weights are downloaded when training begins; without ``pretrained`` it begins from nothing.

The files under _base_ say what is the papers' and what is ours.
"""

_base_ = [
    '../_base_/models/r3d18.py',
    '../_base_/datasets/dfew_112.py',
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
