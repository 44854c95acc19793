"""Train CoOp on the synthetic benchmark, with the small CLIP of this package."""

_base_ = [
    '../_base_/models/coop.py',
    '../_base_/datasets/synth_encoded.py',
    '../_base_/schedules/prompts_50e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(arch='synth-clip', weights=None),
    cls_head=dict(classes={{_base_.classes}}),
)
max_epochs = 20
train_cfg = dict(max_epochs=max_epochs, val_interval=2)
param_scheduler = [dict(_base_.param_scheduler[0], T_max=max_epochs)]
