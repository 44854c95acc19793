"""TimeSformer on the synthetic benchmark, at 64 pixels, from nothing.

    python tools/train.py configs/timesformer/timesformer_synth.py

The net is that of the other datasets; the budget is the small one that all nets have here.
Synthetic figures say nothing about the real datasets.
"""

_base_ = [
    '../_base_/models/timesformer.py',
    '../_base_/datasets/synth_64.py',
    '../_base_/schedules/synth_small.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(img_size=64))
