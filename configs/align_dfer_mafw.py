"""Train Align-DFER on MAFW, with CLIP ViT-B/32."""

_base_ = [
    '_base_/models/align_dfer.py',
    '_base_/datasets/mafw_encoded.py',
    '_base_/schedules/bap_100e.py',
    '_base_/default_runtime.py',
]

model = dict(cls_head=dict(num_classes={{_base_.num_classes}}))
