"""Train CoCoOp on FERV39k, with CLIP ViT-B/32."""

_base_ = [
    '../_base_/models/cocoop.py',
    '../_base_/datasets/ferv39k_encoded.py',
    '../_base_/schedules/prompts_50e.py',
    '../_base_/default_runtime.py',
]

model = dict(cls_head=dict(classes={{_base_.classes}}))
