"""M3DFEL on FERV39k.

    python tools/train.py configs/m3dfel/m3dfel_ferv39k.py

Published on FERV39k, WAR / UAR in %: 47.67 / 35.94 (Align-DFER's comparison).
Ours: not measured, since nobody here holds the data.

The files under _base_ say what is the papers' and what is ours.
"""

_base_ = [
    '../_base_/models/m3dfel.py',
    '../_base_/datasets/ferv39k_112.py',
    '../_base_/schedules/m3dfel_300e.py',
    '../_base_/default_runtime.py',
]

model = dict(cls_head=dict(num_classes={{_base_.num_classes}}))
train_dataloader = dict(batch_size=256)
