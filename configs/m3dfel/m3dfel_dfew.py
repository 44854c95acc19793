"""M3DFEL on DFEW.

    python tools/cross_validate.py configs/m3dfel/m3dfel_dfew.py

Published on DFEW, WAR / UAR in %: 69.25 / 56.10, the mean of five folds (Align-DFER's comparison).
Ours: not measured, since nobody here holds the data.

One fold is never a result. ``tools/train.py`` runs fold 1.

The files under _base_ say what is the papers' and what is ours.
"""

_base_ = [
    '../_base_/models/m3dfel.py',
    '../_base_/datasets/dfew_112.py',
    '../_base_/schedules/m3dfel_300e.py',
    '../_base_/default_runtime.py',
]

model = dict(cls_head=dict(num_classes={{_base_.num_classes}}))
train_dataloader = dict(batch_size=256)
