"""Align-DFER on the synthetic benchmark, over the small CLIP that ships with the package.

    python tools/train.py configs/align_dfer_synth.py

makes the benchmark (once), encodes every view once, trains the three stages of BAP, tests, and
prints the table of the last and the best epoch beside zero-shot CLIP and logistic regression.
Synthetic figures say nothing about the real datasets.

From the paper: the parts, S = 16, T = 64, the stages and what each trains, SGD with momentum 0.9,
batch 64. Ours: the rates, the epochs, weight decay, and all that configs/_base_ says is ours.
"""

_base_ = [
    '_base_/models/align_dfer.py',
    '_base_/datasets/synth.py',
    '_base_/schedules/bap_100e.py',
    '_base_/default_runtime.py',
]

model = dict(backbone=dict(arch='synth-clip', weights=None))
custom_hooks = _base_.custom_hooks
custom_hooks[0].stages[0].epochs = 5
custom_hooks[0].stages[1].update(epochs=24, grows_at=[0, 4, 8, 12])
custom_hooks[0].stages[2].update(epochs=12, grows_at=[0, 4])
default_hooks = dict(report=dict(baselines=True))
train_cfg = dict(val_interval=2)
