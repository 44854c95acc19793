"""TSM on FERV39k.

    python tools/train.py configs/tsm/tsm_ferv39k.py

Published figures on FERV39k: none that we quote.
Ours: not measured, since nobody here holds the data.

The weights are downloaded when training begins; without ``load_from`` it begins from nothing.

The files under _base_ say what is the papers' and what is ours.
"""

_base_ = [
    '../_base_/models/tsm.py',
    '../_base_/datasets/ferv39k_112_2d.py',
    '../_base_/schedules/sgd_100e.py',
    '../_base_/default_runtime.py',
]

load_from = {{_base_.weights}}
model = dict(cls_head=dict(num_classes={{_base_.num_classes}}))
