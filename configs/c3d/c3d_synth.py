"""C3D on the synthetic benchmark, at 64 pixels, from nothing.

    python tools/train.py configs/c3d/c3d_synth.py

The net is that of the other datasets; the budget is the small one that all nets have here.
Only the first fully connected layer is narrower, as wide as 64 pixels leave it.
Synthetic figures say nothing about the real datasets.
"""

_base_ = [
    '../_base_/models/c3d.py',
    '../_base_/datasets/synth_64.py',
    '../_base_/schedules/synth_small.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(out_dim=4608))
