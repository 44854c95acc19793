"""ResNet18-LSTM on DFEW.

    python tools/cross_validate.py configs/resnet18_lstm/resnet18_lstm_dfew.py

Published on DFEW, WAR / UAR in %: 63.85 / 51.32, the mean of five folds (Align-DFER's comparison).
Ours: not measured, since nobody here holds the data.

One fold is never a result. ``tools/train.py`` runs fold 1.

The weights are downloaded when training begins; without ``pretrained`` it begins from nothing.

The files under _base_ say what is the papers' and what is ours.
"""

_base_ = [
    '../_base_/models/resnet18_lstm.py',
    '../_base_/datasets/dfew_112_2d.py',
    '../_base_/schedules/sgd_100e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(pretrained={{_base_.weights}}), cls_head=dict(num_classes={{_base_.num_classes}})
)
