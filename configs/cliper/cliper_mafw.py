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
    '../_base_/views/cliper_224.py',
    '../_base_/schedules/cliper_59e.py',
    '../_base_/default_runtime.py',
]

model = dict(cls_head=dict(num_classes={{_base_.num_classes}}))

# The tower trains: a new view in each epoch, and nothing is encoded beforehand.
train_pipeline = {{_base_.cliper_train}}
test_pipeline = {{_base_.cliper_test}}
train_dataloader = dict(
    batch_size=128,
    num_workers=4,
    dataset=dict(num_views=None, pipeline={{_base_.cliper_train}}),
)
val_dataloader = dict(num_workers=4, dataset=dict(pipeline={{_base_.cliper_test}}))
test_dataloader = val_dataloader
