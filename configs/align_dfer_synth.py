"""Train Align-DFER on the synthetic benchmark, with the small CLIP of this package."""

_base_ = [
    '_base_/models/align_dfer.py',
    '_base_/datasets/synth_encoded.py',
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
