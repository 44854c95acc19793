"""Train CLIPER on the synthetic benchmark, with the small CLIP of this package."""

_base_ = [
    '../_base_/models/cliper.py',
    '../_base_/datasets/synth_64.py',
    '../_base_/schedules/cliper_59e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(arch='synth-clip', weights=None),
    cls_head=dict(num_classes={{_base_.num_classes}}, temperature=None),
)
train_dataloader = dict(batch_size=64)

custom_hooks = _base_.custom_hooks
custom_hooks[0].stages[0].epochs = 4
custom_hooks[0].stages[1].epochs = 6
train_cfg = dict(val_interval=2)
param_scheduler = [dict(type='CosineRestartLR', stage='image', eta_min=0, by_epoch=True)]
