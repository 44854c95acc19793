"""Train Former-DFER on FERV39k, with 16 frames of 112 pixels."""

_base_ = [
    '../_base_/models/former_dfer.py',
    '../_base_/datasets/ferv39k.py',
    '../_base_/views/former_dfer_112.py',
    '../_base_/schedules/sgd_100e.py',
    '../_base_/default_runtime.py',
]

train_pipeline = {{_base_.train_view}}
test_pipeline = {{_base_.test_view}}
train_dataloader = {{_base_.train_loader}}
val_dataloader = {{_base_.test_loader}}
test_dataloader = {{_base_.test_loader}}
