"""CoCoOp on MAFW, over CLIP ViT-B/32.

    python tools/cross_validate.py configs/cocoop/cocoop_mafw.py

The figures that Align-DFER's paper prints for it on MAFW, WAR / UAR in %:
43.23 / 30.81, the mean of five folds.
Ours: not measured, since nobody here holds the data.

One fold is never a result. ``tools/train.py`` runs fold 1.

The files under _base_ say what is the paper's and what is ours.
"""

_base_ = [
    '../_base_/models/cocoop.py',
    '../_base_/datasets/mafw_encoded.py',
    '../_base_/schedules/prompts_50e.py',
    '../_base_/default_runtime.py',
]

model = dict(cls_head=dict(classes={{_base_.classes}}))
