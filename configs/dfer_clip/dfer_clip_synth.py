"""Train DFER-CLIP on the synthetic benchmark, with the small CLIP of this package."""

_base_ = [
    '../_base_/models/dfer_clip.py',
    '../_base_/datasets/synth_64.py',
    '../_base_/schedules/dfer_clip_50e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(arch='synth-clip', weights=None),
    cls_head=dict(classes={{_base_.classes}}),
)
train_dataloader = dict(batch_size=48)
train_cfg = dict(max_epochs=10, val_interval=2)
param_scheduler = [dict(_base_.param_scheduler[0], milestones=[6, 8])]
