"""CLIPER on MAFW, over CLIP ViT-B/16.

    python tools/cross_validate.py configs/cliper/cliper_mafw.py

Published figures on MAFW: none in the tables that we compare with.
Ours: not measured, since nobody here holds the data.

One fold is never a result. ``tools/train.py`` runs fold 1.

The files under _base_ say what is the paper's and what is ours.
"""

_base_ = [
    '../_base_/models/cliper.py',
    '../_base_/datasets/mafw.py',
    '../_base_/schedules/cliper_50e.py',
    '../_base_/default_runtime.py',
]

model = dict(cls_head=dict(num_classes={{_base_.num_classes}}))

# The tower trains: a new view in each epoch, and nothing is encoded beforehand.
train_dataloader = dict(num_workers=4, dataset=dict(num_views=None))
val_dataloader = dict(num_workers=4)
test_dataloader = val_dataloader
