"""Align-DFER on MAFW, over CLIP ViT-B/32.

    python tools/cross_validate.py configs/align_dfer_mafw.py

No figure is published for this backbone: the paper's belong to ViT-L/14
(align_dfer_mafw_vitl14.py). Ours: not measured, since nobody here holds the data.

One fold is never a result: folds differ by more than methods do. ``tools/train.py`` runs fold 1.

From the paper: the parts and their sizes, the stages and their epochs, SGD with momentum 0.9, batch
64. Ours, where it is silent: all that the files under _base_ call ours, the rates before all.
"""

_base_ = [
    '_base_/models/align_dfer.py',
    '_base_/datasets/mafw_encoded.py',
    '_base_/schedules/bap_100e.py',
    '_base_/default_runtime.py',
]

model = dict(cls_head=dict(num_classes=11))
