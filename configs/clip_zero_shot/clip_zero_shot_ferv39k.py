"""CLIP zero-shot on FERV39k, over CLIP ViT-B/32.

    python tools/train.py configs/clip_zero_shot/clip_zero_shot_ferv39k.py

The figures that Align-DFER's paper prints for it on FERV39k, WAR / UAR in %:
17.09 / 20.99.
Ours: not measured, since nobody here holds the data.

Nothing trains: each run ends at once with its test figures, as epoch 0.

The files under _base_ say what is the paper's and what is ours.
"""

_base_ = [
    '../_base_/models/clip_zero_shot.py',
    '../_base_/datasets/ferv39k.py',
    '../_base_/schedules/no_training.py',
    '../_base_/default_runtime.py',
]

model = dict(cls_head=dict(classes={{_base_.classes}}))
