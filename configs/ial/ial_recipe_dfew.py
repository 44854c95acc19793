"""Train IAL over ResNet18-ViT on DFEW with the views and the schedule of its authors' code."""

_base_ = [
    '../_base_/models/ial.py',
    '../_base_/datasets/dfew.py',
    '../_base_/views/ial_112.py',
    '../_base_/schedules/ial_70e.py',
    '../_base_/default_runtime.py',
]

train_pipeline = {{_base_.train_view}}
test_pipeline = {{_base_.test_view}}
train_dataloader = {{_base_.train_loader}}
val_dataloader = {{_base_.test_loader}}
test_dataloader = {{_base_.test_loader}}
