"""Train FineCLIPER on MAFW, with CLIP ViT-B/16, and test it without captions."""

_base_ = [
    '../_base_/models/fine_cliper.py',
    '../_base_/datasets/mafw_levels.py',
    '../_base_/schedules/adapters_30e.py',
    '../_base_/default_runtime.py',
]

model = dict(cls_head=dict(classes={{_base_.classes}}))
default_hooks = dict(levels=dict(type='LevelsHook'))
