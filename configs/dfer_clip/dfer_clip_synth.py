"""DFER-CLIP on the synthetic benchmark, over the small CLIP that ships with the package.

    python tools/train.py configs/dfer_clip/dfer_clip_synth.py

The image tower trains, so that every frame is decoded and encoded anew.

Synthetic figures say nothing about the real datasets. Ours: the CLIP, 10 epochs, the steps of
the rates after 6 and 8, and what the files under _base_ call ours.
"""

_base_ = [
    '../_base_/models/dfer_clip.py',
    '../_base_/datasets/synth.py',
    '../_base_/schedules/dfer_clip_50e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(arch='synth-clip', weights=None),
    cls_head=dict(classes={{_base_.classes}}),
)

# The tower trains: a new view in each epoch, and nothing is encoded beforehand.
train_dataloader = dict(batch_size=48, num_workers=2, dataset=dict(num_views=None))
val_dataloader = dict(num_workers=2)
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=10, val_interval=2)
param_scheduler = [dict(type='MultiStepLR', milestones=[6, 8], gamma=0.1, by_epoch=True)]
