"""DFER-CLIP on DFEW, over CLIP ViT-B/32.

    python tools/cross_validate.py configs/dfer_clip/dfer_clip_dfew.py

The paper's figures on DFEW, WAR / UAR in %: 71.25 / 59.61, the mean of five folds.
Ours: not measured, since nobody here holds the data.

One fold is never a result. ``tools/train.py`` runs fold 1.

The files under _base_ say what is the paper's and what is ours.
"""

_base_ = [
    '../_base_/models/dfer_clip.py',
    '../_base_/datasets/dfew.py',
    '../_base_/views/dfer_clip_224.py',
    '../_base_/schedules/dfer_clip_50e.py',
    '../_base_/default_runtime.py',
]

model = dict(cls_head=dict(classes={{_base_.classes}}))

# The tower trains: a new view in each epoch, and nothing is encoded beforehand.
train_pipeline = {{_base_.bright}}
test_pipeline = {{_base_.whole}}
train_dataloader = dict(
    batch_size=48,
    num_workers=4,
    drop_last=True,
    dataset=dict(num_views=None, pipeline={{_base_.bright}}),
)
val_dataloader = dict(num_workers=4, dataset=dict(pipeline={{_base_.whole}}))
test_dataloader = val_dataloader
