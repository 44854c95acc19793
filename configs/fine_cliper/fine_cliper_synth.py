"""Train FineCLIPER on the synthetic benchmark, with the small ViT CLIP of this package."""

_base_ = [
    '../_base_/models/fine_cliper.py',
    '../_base_/datasets/synth_levels.py',
    '../_base_/schedules/adapters_synth.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        arch='synth-clip-vit',
        weights=None,
        adapter=dict(width=48, num_frames={{_base_.num_frames}}),
        checkpointing=False,
    ),
    neck=dict(num_frames={{_base_.num_frames}}),
    cls_head=dict(classes={{_base_.classes}}),
)
default_hooks = dict(levels=dict(type='LevelsHook'))
