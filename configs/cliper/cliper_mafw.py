"""Train CLIPER on MAFW, with CLIP ViT-B/16."""

_base_ = [
    '../_base_/models/cliper.py',
    '../_base_/datasets/mafw.py',
    '../_base_/views/cliper_224.py',
    '../_base_/schedules/cliper_59e.py',
    '../_base_/default_runtime.py',
]

model = dict(cls_head=dict(num_classes={{_base_.num_classes}}))
train_pipeline = {{_base_.train_view}}
test_pipeline = {{_base_.test_view}}
train_dataloader = {{_base_.train_loader}}
val_dataloader = {{_base_.test_loader}}
test_dataloader = {{_base_.test_loader}}
