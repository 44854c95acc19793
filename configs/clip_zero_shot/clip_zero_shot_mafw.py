"""CLIP zero-shot on MAFW, over CLIP ViT-B/32.

    python tools/cross_validate.py configs/clip_zero_shot/clip_zero_shot_mafw.py

The figures that Align-DFER's paper prints for it on MAFW, WAR / UAR in %:
19.16 / 18.42, the mean of five folds.
Ours: not measured, since nobody here holds the data.

Nothing trains: each run ends at once with its test figures, as epoch 0.

One fold is never a result. ``tools/train.py`` runs fold 1.

The files under _base_ say what is the paper's and what is ours.
"""

_base_ = [
    '../_base_/models/clip_zero_shot.py',
    '../_base_/datasets/mafw.py',
    '../_base_/schedules/no_training.py',
    '../_base_/default_runtime.py',
]

model = dict(cls_head=dict(classes={{_base_.classes}}))
