"""CLIP zero-shot on the synthetic benchmark, over the small CLIP that ships with the package.

    python tools/train.py configs/clip_zero_shot/clip_zero_shot_synth.py

Nothing trains: the run ends at once with its test figures, as epoch 0.

Synthetic figures say nothing about the real datasets. Ours: the CLIP, and what the files under
_base_ call ours.
"""

_base_ = [
    '../_base_/models/clip_zero_shot.py',
    '../_base_/datasets/synth.py',
    '../_base_/schedules/no_training.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(arch='synth-clip', weights=None),
    cls_head=dict(classes={{_base_.classes}}),
)
