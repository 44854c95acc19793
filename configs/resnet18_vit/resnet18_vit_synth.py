"""Train ResNet18-ViT from scratch on the synthetic benchmark, with 16 frames of 64 pixels."""

_base_ = [
    '../_base_/models/resnet18_vit.py',
    '../_base_/datasets/synth_64_2d.py',
    '../_base_/schedules/synth_small.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(pretrained=None))
