"""Train FineCLIPER on FERV39k, with CLIP ViT-B/16."""

_base_ = [
    '../_base_/models/fine_cliper.py',
    '../_base_/datasets/ferv39k_levels.py',
    '../_base_/schedules/adapters_30e.py',
    '../_base_/default_runtime.py',
]

model = dict(cls_head=dict(classes={{_base_.classes}}))
default_hooks = dict(levels=dict(type='LevelsHook'))
