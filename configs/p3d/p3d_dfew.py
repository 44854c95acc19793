"""P3D on DFEW.

    python tools/cross_validate.py configs/p3d/p3d_dfew.py

Published on DFEW, WAR / UAR in %: 54.47 / 43.97, the mean of five folds (Align-DFER's comparison).
Ours: not measured, since nobody here holds the data.

One fold is never a result. ``tools/train.py`` runs fold 1.

The files under _base_ say what is the papers' and what is ours.
"""

_base_ = [
    '../_base_/models/p3d.py',
    '../_base_/datasets/dfew_112.py',
    '../_base_/schedules/sgd_100e.py',
    '../_base_/default_runtime.py',
]

model = dict(cls_head=dict(num_classes={{_base_.num_classes}}))
