"""CoCoOp on FERV39k, over CLIP ViT-B/32.

    python tools/train.py configs/cocoop/cocoop_ferv39k.py

The figures that Align-DFER's paper prints for it on FERV39k, WAR / UAR in %:
44.25 / 32.91.
Ours: not measured, since nobody here holds the data.

The files under _base_ say what is the paper's and what is ours.
"""

_base_ = [
    '../_base_/models/cocoop.py',
    '../_base_/datasets/ferv39k_encoded.py',
    '../_base_/schedules/prompts_50e.py',
    '../_base_/default_runtime.py',
]

model = dict(cls_head=dict(classes={{_base_.classes}}))
