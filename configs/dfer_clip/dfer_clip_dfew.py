"""Train DFER-CLIP on DFEW, with CLIP ViT-B/32."""

_base_ = [
    '../_base_/models/dfer_clip.py',
    '../_base_/datasets/dfew.py',
    '../_base_/views/dfer_clip_224_bright.py',
    '../_base_/schedules/dfer_clip_50e.py',
    '../_base_/default_runtime.py',
]

model = dict(cls_head=dict(classes={{_base_.classes}}))
train_pipeline = {{_base_.train_view}}
test_pipeline = {{_base_.test_view}}
train_dataloader = {{_base_.train_loader}}
val_dataloader = {{_base_.test_loader}}
test_dataloader = {{_base_.test_loader}}
