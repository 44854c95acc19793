"""SlowOnly on MAFW.

    python tools/cross_validate.py configs/slowonly/slowonly_mafw.py

Published figures on MAFW: none that we quote.
Ours: not measured, since nobody here holds the data.

One fold is never a result. ``tools/train.py`` runs fold 1.

The weights are downloaded when training begins; without ``load_from`` it begins from nothing.

The files under _base_ say what is the papers' and what is ours.
"""

_base_ = [
    '../_base_/models/slowonly.py',
    '../_base_/datasets/mafw_112.py',
    '../_base_/schedules/sgd_100e.py',
    '../_base_/default_runtime.py',
]

load_from = {{_base_.weights}}
model = dict(cls_head=dict(num_classes={{_base_.num_classes}}))
