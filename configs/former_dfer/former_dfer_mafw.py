"""Former-DFER on MAFW.

    python tools/cross_validate.py configs/former_dfer/former_dfer_mafw.py

Published on MAFW, WAR / UAR in %: 43.27 / 31.16, the mean of five folds (Align-DFER's comparison).
Ours: not measured, since nobody here holds the data.

One fold is never a result. ``tools/train.py`` runs fold 1.

The files under _base_ say what is the papers' and what is ours.
"""

_base_ = [
    '../_base_/models/former_dfer.py',
    '../_base_/datasets/mafw_112.py',
    '../_base_/views/former_dfer_112.py',
    '../_base_/schedules/sgd_100e.py',
    '../_base_/default_runtime.py',
]

model = dict(cls_head=dict(num_classes={{_base_.num_classes}}))
train_pipeline = {{_base_.former_dfer_train}}
test_pipeline = {{_base_.former_dfer_test}}
train_dataloader = dict(drop_last=True, dataset=dict(pipeline={{_base_.former_dfer_train}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.former_dfer_test}}))
test_dataloader = val_dataloader
