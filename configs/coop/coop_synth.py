"""CoOp on the synthetic benchmark, over the small CLIP that ships with the package.

    python tools/train.py configs/coop/coop_synth.py

Encodes every view once, then trains the prompts alone.

Synthetic figures say nothing about the real datasets. Ours: the CLIP, 20 epochs, and what the files
under _base_ call ours.
"""

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
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        T_max=max_epochs,
        eta_min=0,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]
