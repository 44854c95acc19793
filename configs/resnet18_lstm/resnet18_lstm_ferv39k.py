"""Train ResNet18-LSTM on FERV39k, with 16 frames of 112 pixels."""

_base_ = [
    '../_base_/models/resnet18_lstm.py',
    '../_base_/datasets/ferv39k_112_2d.py',
    '../_base_/schedules/sgd_100e.py',
    '../_base_/default_runtime.py',
]
