"""P3D on FERV39k.

    python tools/train.py configs/p3d/p3d_ferv39k.py

Published on FERV39k, WAR / UAR in %: 33.39 / 23.20 (Align-DFER's comparison).
Ours: not measured, since nobody here holds the data.

The files under _base_ say what is the papers' and what is ours.
"""

_base_ = [
    '../_base_/models/p3d.py',
    '../_base_/datasets/ferv39k_112.py',
    '../_base_/schedules/sgd_100e.py',
    '../_base_/default_runtime.py',
]

model = dict(cls_head=dict(num_classes={{_base_.num_classes}}))
