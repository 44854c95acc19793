"""CoOp on DFEW, over CLIP ViT-B/32.

    python tools/cross_validate.py configs/coop/coop_dfew.py

Published figures on DFEW: none in the tables that we compare with.
Ours: not measured, since nobody here holds the data.

One fold is never a result. ``tools/train.py`` runs fold 1.

The files under _base_ say what is the paper's and what is ours.
"""

_base_ = [
    '../_base_/models/coop.py',
    '../_base_/datasets/dfew_encoded.py',
    '../_base_/schedules/prompts_50e.py',
    '../_base_/default_runtime.py',
]

model = dict(cls_head=dict(classes={{_base_.classes}}))
