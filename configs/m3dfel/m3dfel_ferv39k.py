"""Train M3DFEL on FERV39k, with 16 frames of 112 pixels."""

_base_ = [
    '../_base_/models/m3dfel.py',
    '../_base_/datasets/ferv39k_112.py',
    '../_base_/schedules/m3dfel_300e.py',
    '../_base_/default_runtime.py',
]

train_dataloader = dict(batch_size=256)
